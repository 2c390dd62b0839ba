"""LHUC speaker adaptation of hybrid DNN-HMM speech recognisers, from raw speech to an adapted speaker."""

__version__ = "0.1.0"

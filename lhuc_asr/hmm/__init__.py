"""Phones as hidden Markov models: topology, decision tree, flat-start GMM, forced alignment, decoding graph."""

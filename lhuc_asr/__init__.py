"""Fit a trained acoustic model to one speaker by learning hidden unit contributions (LHUC)."""

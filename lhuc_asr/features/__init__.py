"""Waveform -> feats (T, F): filterbanks, MFCCs, deltas, normalisation, splicing, and their store on disk."""

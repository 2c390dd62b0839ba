"""Waveform -> feats (T, F): filterbanks, MFCCs, PLPs, deltas, normalisation, splicing, and their store on disk."""

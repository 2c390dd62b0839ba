"""Scales predicted from who is speaking: vectors of voices, the training of a gate over them, and its use."""

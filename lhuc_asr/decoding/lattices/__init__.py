"""Lattices: what the search kept, how likely each part of it is, and what is taken from it."""

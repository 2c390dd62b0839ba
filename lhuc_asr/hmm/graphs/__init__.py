"""Weighted transducers: H, C, L and G and their composition, and the graph of one transcript."""

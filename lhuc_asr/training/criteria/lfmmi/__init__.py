"""Lattice-free maximum mutual information: phone graphs, forward-backward and the loss of whole utterances."""

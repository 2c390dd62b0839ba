"""A phone as a hidden Markov model: topology, phonetic decision tree, transitions, and what alignments say of both."""

"""From log-likelihoods to words: the search through the decoding graph, its tuning, and hypotheses on disk."""

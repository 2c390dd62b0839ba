"""State-level minimum Bayes risk: the states that a lattice's paths get right, and their expected number as a loss."""

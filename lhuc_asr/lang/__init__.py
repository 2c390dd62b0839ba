"""Words: normalisation of text, pronunciation lexicon, n-gram language model."""

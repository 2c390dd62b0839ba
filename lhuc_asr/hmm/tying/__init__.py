"""Growing the phonetic decision tree: statistics of contexts, questions, splits."""

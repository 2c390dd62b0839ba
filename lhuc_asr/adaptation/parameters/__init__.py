"""Numbers that are learnt of a speaker: where in a network they act, what draws them, and how they lie on disk."""

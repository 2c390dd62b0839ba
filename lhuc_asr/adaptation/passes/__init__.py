"""Recognition passes over many speakers: whose utterances are in them, and what is attached meanwhile."""

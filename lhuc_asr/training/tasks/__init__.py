"""What a network learns from frames, how well held-out speakers are recognised, and what learns beside it."""

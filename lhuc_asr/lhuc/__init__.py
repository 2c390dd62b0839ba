"""The heart: one scale per hidden unit and speaker, on any PyTorch model, without touching it."""

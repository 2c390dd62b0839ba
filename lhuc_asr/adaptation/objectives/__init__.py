"""How well a group of speakers fits its targets, minibatch by minibatch, and how that changes with their numbers."""

"""Training of acoustic models from frames and their tied states: loop, schedule, checkpoints, priors."""

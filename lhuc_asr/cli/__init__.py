"""The commands: the only place that reads arguments, prints and leaves with an exit code."""

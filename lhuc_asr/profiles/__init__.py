"""One speaker's scales on disk."""

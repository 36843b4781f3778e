"""Training loops that outlast does not run."""

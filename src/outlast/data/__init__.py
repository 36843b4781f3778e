"""The order of data is state of its own kind: samplers, loaders and what is known of their position."""

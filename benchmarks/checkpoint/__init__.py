"""make bench-checkpoint: what a checkpoint costs, ours and the peers', against the limits of the machine."""

SIZES = {"small": 41_000_000, "large": 990_000_000}
"""Bytes of parameters and Adam moments."""

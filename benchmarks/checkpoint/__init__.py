"""make bench-checkpoint: what a checkpoint costs, ours and the peers', against the limits of the machine."""

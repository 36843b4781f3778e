"""Jobs of a Slurm cluster as sessions."""

"""A run folder's files: their names, the one atomic write, records with bounds, the lock, attempts."""

"""The files of a run folder: names, the one atomic write, records with bounds, the lock, attempts."""

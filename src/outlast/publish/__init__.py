"""Makes the results of a run visible elsewhere, all or nothing. Publishing never deletes anything."""

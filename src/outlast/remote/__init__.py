"""Places that hold copies of a run: bringing it home, and beginning one run from another."""

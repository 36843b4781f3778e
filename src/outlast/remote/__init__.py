"""Places that hold copies of a run: copying a run into its folder, and beginning one run from another."""

"""Detection and corner pose: boxes around objects, and the four corners of a plate or a number."""

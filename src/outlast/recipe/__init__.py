"""Recipes: what one is, where they are found, how a run of one is prepared, and how a saved one is opened."""

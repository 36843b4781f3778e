"""Recipes: the class, the lookup, the preparation of a run, and access to saved runs."""

"""Recipes: user scripts with a name. They reach only the public names of outlast, and not each other."""

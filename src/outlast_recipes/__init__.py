"""Recipes: training scripts with a name. They import only the public names of outlast, and not each other."""

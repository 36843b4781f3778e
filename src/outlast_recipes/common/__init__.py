"""Shared code of recipes: data, training, evaluation and export. A recipe imports it, its framework and the public names
of outlast."""

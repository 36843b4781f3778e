"""Shared code of recipes: data, training, evaluation and export. A recipe imports it, a framework and public names
of outlast."""

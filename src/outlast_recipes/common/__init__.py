"""What recipes share: data, training, evaluation and export. A recipe imports this, its framework and the public names
of outlast."""

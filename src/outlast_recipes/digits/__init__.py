"""The starter recipe: handwritten digits."""

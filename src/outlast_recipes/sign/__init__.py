"""Gloss and category of a sign from keypoints or image features (PyTorch)."""

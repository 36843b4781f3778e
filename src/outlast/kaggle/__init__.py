"""Calls to Kaggle that launching and publishing share: the login, HTTP with retries and reasons, datasets."""

"""Attempts on other machines."""

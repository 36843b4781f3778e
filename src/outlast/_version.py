"""The version of outlast."""

__version__ = "0.1.0"

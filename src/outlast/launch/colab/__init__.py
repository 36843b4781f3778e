"""Colab: a session is a runtime that Google's command `colab` starts, and whose files are copied here meanwhile."""

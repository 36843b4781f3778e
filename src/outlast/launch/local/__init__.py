"""This machine as a provider: sessions that are processes with a time limit, each in its own folder."""

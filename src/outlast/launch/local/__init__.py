"""This machine as a provider. A session is a process with a time limit, in its own folder."""

"""A run in one attempt: what a script holds (`run`), how it is opened, its loop, its saves and its end."""

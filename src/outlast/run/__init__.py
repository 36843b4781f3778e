"""A run in one attempt: the façade (`run`), the opening, the loop, the saves and the end."""

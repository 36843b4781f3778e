"""A population that forages, reproduces, evolves and learns, in JAX."""

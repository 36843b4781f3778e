"""Benchmarks of emergence: cost, learning, evolution and findings."""

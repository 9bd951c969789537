"""Benchmarks of what models find in pictures."""

"""Searching vectors: engines side by side, filtered search, an index in use, GPUs."""

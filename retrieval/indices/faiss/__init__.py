"""Indices that FAISS builds and searches, on the CPU and on GPUs."""

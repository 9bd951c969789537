"""Indices that FAISS builds and searches, on the CPU and on GPUs."""

from importlib.util import find_spec

MISSING = "needs the package faiss-cpu, which is not installed"


def is_installed() -> bool:
    """Return whether FAISS is installed; a light installation leaves it out."""
    return find_spec("faiss") is not None

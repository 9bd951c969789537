"""What this machine has."""

import os


def memory_bytes() -> int | None:
    """Its physical memory; None where the system does not tell (Windows)."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def keep_numpy_on_one_thread() -> None:
    """Let NumPy's own OpenBLAS work on the calling thread, from now on.

    Its threads spin for many milliseconds after each product, and take the cores from the encoder.
    The products of a query are too small to need them. FAISS's OpenBLAS is another, left as it is.
    """
    from threadpoolctl import ThreadpoolController

    ThreadpoolController().select(prefix="libscipy_openblas").limit(limits=1)

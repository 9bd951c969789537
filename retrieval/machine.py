"""Memory and threads of this machine."""

import os
import sys


def memory_bytes() -> int | None:
    """Return the physical memory in bytes; None if the system does not report it (Windows)."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def keep_numpy_on_one_thread() -> None:
    """Limit NumPy's OpenBLAS to the calling thread, from now on.

    Its threads spin for many milliseconds after each product, and take the cores from the encoder.
    The products of a query are too small to need them. FAISS has another OpenBLAS, which is not
    changed.
    """
    from threadpoolctl import ThreadpoolController

    ThreadpoolController().select(prefix="libscipy_openblas").limit(limits=1)


_threads_of_networks = 0


def limit_threads(count: int) -> None:
    """Limit the threads of networks that are loaded from now on, in this process."""
    global _threads_of_networks  # noqa: PLW0603 - of the process, as the threads are
    _threads_of_networks = count
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(count)


def threads_of_networks() -> int:
    """Return the threads of one call of a network; 0: as many as there are cores."""
    return _threads_of_networks

"""The library on disk, the encoders and the engine: everything that answers a query.

>>> from retrieval import open_library
>>> library = open_library("my-library")                            # doctest: +SKIP
>>> [hit.path for hit in library.search("a dog in the snow", k=3)]  # doctest: +SKIP
"""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from retrieval.library import Library, create_library, open_library

# PyTorch and FAISS each bring an OpenMP runtime with threads of its own, which by default wait for
# work by spinning: those of one take the cores from the other, and a query took three to ten times
# as long. Runtimes read this when they are loaded; what the user has set stays.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__all__ = ["Library", "create_library", "open_library"]


def __getattr__(name: str) -> Any:
    # Processes that only read files need neither the catalog nor what it stands on.
    if name in __all__:
        from retrieval import library

        return getattr(library, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

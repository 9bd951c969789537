"""The library on disk, the encoders and the engine: everything that answers a query.

>>> from retrieval import open_library
>>> library = open_library("my-library")                            # doctest: +SKIP
>>> [hit.path for hit in library.search("a dog in the snow", k=3)]  # doctest: +SKIP
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from retrieval.library import Library, create_library, open_library

__all__ = ["Library", "create_library", "open_library"]


def __getattr__(name: str) -> Any:
    # Processes that only read files need neither the catalog nor what it stands on.
    if name in __all__:
        from retrieval import library

        return getattr(library, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

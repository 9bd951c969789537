"""The library on disk, the encoders and the engine: everything that answers a query.

>>> from retrieval import open_library
>>> library = open_library("my-library")                            # doctest: +SKIP
>>> [hit.path for hit in library.search("a dog in the snow", k=3)]  # doctest: +SKIP
"""

from retrieval.library import Library, create_library, open_library

__all__ = ["Library", "create_library", "open_library"]

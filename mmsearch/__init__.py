"""Search pictures, texts, sounds by meaning.

>>> import mmsearch
>>> library = mmsearch.open("my-library")                           # doctest: +SKIP
>>> [hit.path for hit in library.search("a dog in the snow", k=3)]  # doctest: +SKIP
>>> mmsearch.Encoder().encode(["a dog", "a cat"]).shape             # doctest: +SKIP

What is named here, and the public attributes of it, is the public API: it follows semantic
versioning. Other modules of the distribution may change with any version.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.metadata import version as _version

    from indexer.enrichment.run import EnrichmentSummary
    from indexer.progress import Summary
    from mmsearch.captioner import Captioner
    from mmsearch.encoder import Encoder
    from mmsearch.library import Library, create, open  # noqa: A004
    from retrieval.catalog import Enrichment, Item
    from retrieval.errors import (
        DamagedLibraryError,
        EncoderUnavailableError,
        LibraryError,
        LibraryGoneError,
        LibraryLockedError,
        MMSearchError,
        NotFoundError,
        SpaceMismatchError,
        UnreadableFileError,
        UsageError,
    )
    from retrieval.filters import Filter
    from retrieval.search.answer import Answer, Hit
    from retrieval.search.facets import Facets
    from retrieval.spaces import SpaceStatus

    __version__: str = _version("mmsearch")

_HOMES = {
    "indexer.enrichment.run": ("EnrichmentSummary",),
    "indexer.progress": ("Summary",),
    "mmsearch.captioner": ("Captioner",),
    "mmsearch.encoder": ("Encoder",),
    "mmsearch.library": ("Library", "create", "open"),
    "retrieval.catalog": ("Enrichment", "Item"),
    "retrieval.errors": (
        "DamagedLibraryError",
        "EncoderUnavailableError",
        "LibraryError",
        "LibraryGoneError",
        "LibraryLockedError",
        "MMSearchError",
        "NotFoundError",
        "SpaceMismatchError",
        "UnreadableFileError",
        "UsageError",
    ),
    "retrieval.filters": ("Filter",),
    "retrieval.search.answer": ("Answer", "Hit"),
    "retrieval.search.facets": ("Facets",),
    "retrieval.spaces": ("SpaceStatus",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Answer",
    "Captioner",
    "DamagedLibraryError",
    "Encoder",
    "EncoderUnavailableError",
    "Enrichment",
    "EnrichmentSummary",
    "Facets",
    "Filter",
    "Hit",
    "Item",
    "Library",
    "LibraryError",
    "LibraryGoneError",
    "LibraryLockedError",
    "MMSearchError",
    "NotFoundError",
    "SpaceMismatchError",
    "SpaceStatus",
    "Summary",
    "UnreadableFileError",
    "UsageError",
    "__version__",
    "create",
    "open",
]


def __getattr__(name: str) -> Any:
    # What is not used is not loaded: importing this package takes milliseconds.
    if name == "__version__":
        from importlib.metadata import version

        return version("mmsearch")
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

"""The catalog: sources, files, items and the rows that hold their vectors.

The only package that uses SQL; `dialects` has what only one database understands.
"""

from retrieval.catalog.database import Catalog
from retrieval.catalog.records import (
    Collection,
    Counts,
    Enrichment,
    EnrichmentCounts,
    FailedFile,
    FileDetails,
    FileEntry,
    FileState,
    FileUpdate,
    Item,
    ItemEntry,
    ItemTable,
    KnownFile,
    MapPoint,
    NotedFile,
    Relocated,
    SavedSearch,
    Seen,
    TakenFrom,
    WordMatch,
    local_time,
)
from retrieval.catalog.schema import SCHEMA_REVISION, Base
from retrieval.catalog.snapshot import Snapshot
from retrieval.catalog.transaction import Transaction

__all__ = [
    "SCHEMA_REVISION",
    "Base",
    "Catalog",
    "Collection",
    "Counts",
    "Enrichment",
    "EnrichmentCounts",
    "FailedFile",
    "FileDetails",
    "FileEntry",
    "FileState",
    "FileUpdate",
    "Item",
    "ItemEntry",
    "ItemTable",
    "KnownFile",
    "MapPoint",
    "NotedFile",
    "Relocated",
    "SavedSearch",
    "Seen",
    "Snapshot",
    "TakenFrom",
    "Transaction",
    "WordMatch",
    "local_time",
]

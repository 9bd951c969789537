"""The truth about what exists: sources, files, items and the rows that hold their vectors.

The only package that speaks SQL.
"""

from retrieval.catalog.database import Catalog
from retrieval.catalog.records import (
    Counts,
    FailedFile,
    FileDetails,
    FileState,
    FileUpdate,
    Item,
    KnownFile,
    ReadFile,
    ReadItem,
)
from retrieval.catalog.schema import SCHEMA_REVISION, Base
from retrieval.catalog.snapshot import Snapshot
from retrieval.catalog.transaction import Transaction
from retrieval.media import Modality

__all__ = [
    "SCHEMA_REVISION",
    "Base",
    "Catalog",
    "Counts",
    "FailedFile",
    "FileDetails",
    "FileState",
    "FileUpdate",
    "Item",
    "KnownFile",
    "Modality",
    "ReadFile",
    "ReadItem",
    "Snapshot",
    "Transaction",
]

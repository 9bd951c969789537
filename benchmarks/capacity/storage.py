"""Bytes of a library by kind and place."""

import math
from collections.abc import Mapping

from benchmarks.capacity.constants import value
from benchmarks.capacity.index_cost import faiss_bytes, faiss_kind, pq_bytes, rabitq_bytes
from benchmarks.capacity.measurements import Decoding
from benchmarks.capacity.records import (
    CACHE,
    DISK,
    MEMORY,
    READ,
    STORED,
    Bytes,
    Plan,
    Serving,
    Wanted,
)

VECTOR_VALUE_BYTES = 2  # float16


def array_bytes_per_row() -> float:
    """Return the bytes of memory a row of what a service keeps of the catalog."""
    return value("catalog_array_bytes_per_row") + value("filter_bytes_per_row")


def thumbnail_bytes(side: int) -> float:
    """Estimate the bytes of a thumbnail of a 4:3 photo from its longer side in pixels."""
    pixels = 0.75 * side * side
    return float(value("thumbnail_bytes_224") * (pixels / 224**2) ** value("thumbnail_exponent"))


def thumbnail_total(wanted: Wanted) -> float:
    """Estimate the bytes of all thumbnails."""
    return wanted.images * thumbnail_bytes(wanted.thumbnails) if wanted.thumbnails else 0.0


def catalog_bytes(wanted: Wanted) -> float:
    """Estimate the bytes of the catalog, as SQLite stores it."""
    files, chunks = value("catalog_bytes_per_file"), value("catalog_bytes_per_chunk")
    return wanted.images * files + wanted.texts * chunks


def table_bytes(wanted: Wanted) -> float:
    """Estimate the bytes of the same in a Lance table: its columns and their indices."""
    files, chunks = value("table_bytes_per_file"), value("table_bytes_per_chunk")
    return wanted.images * files + wanted.texts * chunks


def bytes_of(
    wanted: Wanted,
    dimension: int,
    image: Decoding,
    serving: Serving,
    half: int,
    *,
    is_one_machine: bool,
) -> tuple[Bytes, ...]:
    """List the bytes of a library by kind and place.

    Args:
        wanted: the library.
        dimension: of its vectors.
        image: what one original is.
        serving: the query nodes that hold copies.
        half: bytes of a node's memory for the pages of the vectors.
        is_one_machine: whether it is a directory of that machine; otherwise a table of Lance, of
            which query nodes have copies.
    """
    rows, of_shard = wanted.rows, math.ceil(wanted.rows / serving.shards)
    vectors = rows * dimension * VECTOR_VALUE_BYTES
    index = serving.shards * faiss_bytes(of_shard, dimension, half)
    kind = faiss_kind(of_shard, dimension, half)
    side = wanted.thumbnails
    found = [
        Bytes(
            "originals",
            f"{wanted.megapixels:g} megapixels",
            READ,
            wanted.images * (wanted.image_bytes or image.file_bytes),
        ),
        Bytes("vectors", f"float16, {dimension} dimensions", STORED, vectors),
        Bytes(
            "catalog",
            "metadata and words",
            STORED,
            catalog_bytes(wanted) if is_one_machine else table_bytes(wanted),
        ),
        Bytes(
            "thumbnails",
            f"JPEG, {side} pixels" if side else "none",
            STORED,
            thumbnail_total(wanted),
        ),
        Bytes("index", kind, MEMORY, index * serving.replicas),
        Bytes(
            "catalog arrays",
            "rows of files, bitmaps of filters",
            MEMORY,
            serving.replicas * rows * array_bytes_per_row(),
        ),
        Bytes("vectors in memory", "to refine without reads", CACHE, vectors),
        Bytes("index", kind, STORED if is_one_machine else DISK, index * serving.replicas),
    ]
    if not is_one_machine:
        lance = rabitq_bytes(rows, dimension)
        found += [
            Bytes("index of the table", "IVF_RQ, 1 bit", STORED, lance),
            Bytes("copies of the vectors", "float16", DISK, vectors * serving.replicas),
            Bytes(
                "copies of the catalog", "SQLite", DISK, catalog_bytes(wanted) * serving.replicas
            ),
        ]
    return tuple(found)


def index_kinds(plan: Plan) -> Mapping[str, float]:
    """Return the bytes of each kind of index that may be built over all vectors."""
    rows, dimension = plan.wanted.rows, plan.dimension
    return {
        f"FAISS {faiss_kind(rows, dimension)}": faiss_bytes(rows, dimension),
        f"FAISS {faiss_kind(rows, dimension, 0)}": faiss_bytes(rows, dimension, 0),
        "Lance IVF_RQ, 1 bit": rabitq_bytes(rows, dimension),
        "Lance IVF_PQ, 8 bits for 8 dimensions": pq_bytes(rows, dimension),
    }

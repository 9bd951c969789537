"""What a vector index of any number of rows takes, from indices that were measured."""

import math
from collections.abc import Sequence

from benchmarks.capacity.constants import value
from benchmarks.capacity.measurements import IndexedVectors
from benchmarks.vectors.growth import cost_of, predict
from retrieval.errors import UsageError
from retrieval.indices.choice import EXACT_UP_TO_ROWS, choose

_UNLIMITED = 1 << 62


def faiss_bytes(rows: int, dimension: int, cache_bytes: int | None = None) -> int:
    """Return the bytes of the FAISS index that this program builds; 0 where it builds none.

    cache_bytes: memory for the pages of the vectors, which decides its kind; None: enough.
    """
    return choose(rows, dimension, _UNLIMITED, cache_bytes=cache_bytes).memory_bytes


def faiss_kind(rows: int, dimension: int, cache_bytes: int | None = None) -> str:
    """Return its factory string, or `exact`."""
    return choose(rows, dimension, _UNLIMITED, cache_bytes=cache_bytes).factory or "exact"


def rabitq_bytes(rows: int, dimension: int) -> int:
    """Compute the bytes of IVF_RQ with one bit a dimension: code, two factors and id of each row.

    (RaBitQ, Gao and Long 2024; the partitions' centroids are float32.)
    """
    code = math.ceil(dimension / 8) + int(value("rabitq_factor_bytes"))
    return rows * (code + int(value("row_id_bytes"))) + _centroid_bytes(rows, dimension)


def pq_bytes(rows: int, dimension: int) -> int:
    """Compute the bytes of IVF_PQ in Lance: a byte for eight dimensions, and its codebook."""
    code, codebook = math.ceil(dimension / 8), 256 * dimension * 2
    rows_bytes = rows * (code + int(value("row_id_bytes")))
    return rows_bytes + _centroid_bytes(rows, dimension) + codebook


def _centroid_bytes(rows: int, dimension: int) -> int:
    return math.ceil(rows / value("lance_partition_rows")) * dimension * 4


def build_core_s(rows: int, dimension: int, measured: Sequence[IndexedVectors]) -> float:
    """Estimate the CPU seconds of building the FAISS index: most of it compares rows with lists.

    In proportion to rows, lists and dimension, from the largest index that was measured; for fewer
    rows than that in proportion to the rows alone, which is more than it takes.
    """
    lists = choose(rows, dimension, _UNLIMITED).lists
    if not lists:
        return 0.0
    largest = measured[-1]
    first = largest.method
    listed = max(1, choose(first.rows, largest.dimension, _UNLIMITED).lists)
    more_lists = max(1.0, lists / listed)
    return first.build_core_s * rows / first.rows * more_lists * dimension / largest.dimension


def search_core_s(
    rows: int, dimension: int, recall: float, measured: Sequence[IndexedVectors]
) -> float:
    """Estimate the core-seconds of one text query at a recall@10, after exact refinement.

    By a power law through the two largest measurements (at least constant), and the time to read
    the centroids of the additional lists.

    Raises UsageError where the measurements do not reach the recall, or are of one size only.
    """
    for one in measured:
        reached = max(p.recall for p in one.method.points if (p.modality, p.k) == ("text", 10))
        if reached < recall:
            raise UsageError(
                f"The measured index of {one.method.rows:,} rows reaches a recall of {reached:.3f} "
                f"at most, not {recall:g}. Measure one: `mmsearch bench vectors --growth "
                f"100000,1000000 --target-recall {recall:g} --json`, then `--measured FILE`."
            )
    threads = min(point.threads for one in measured for point in one.method.points)
    costs = [cost_of(one.method, threads=threads, recall=recall) for one in measured]
    if len(costs) < 2:
        raise UsageError(
            "Indices of at least two sizes must have been measured: `mmsearch bench vectors "
            "--growth 100000,1000000 --json`."
        )
    largest = costs[-1]
    grown = predict(costs, rows).costs[-1].milliseconds
    if rows > largest.rows:
        grown = max(grown, largest.milliseconds)
    wide = dimension / measured[-1].dimension
    more = max(0, _lists(rows, dimension) - _lists(largest.rows, dimension)) * dimension * 4
    return threads * grown / 1000 * wide + more / value("memory_bytes_per_second")


def _lists(rows: int, dimension: int) -> int:
    return choose(rows, dimension, _UNLIMITED).lists if rows > EXACT_UP_TO_ROWS else 0

"""Where one machine ends, and which part ends first."""

from bisect import bisect_left
from collections.abc import Callable

from benchmarks.capacity.constants import value
from benchmarks.capacity.index_cost import faiss_bytes
from benchmarks.capacity.measurements import Measurements
from benchmarks.capacity.records import Limit, Machine, Wanted, Work
from benchmarks.capacity.storage import VECTOR_VALUE_BYTES, catalog_bytes, thumbnail_total


def limits_of(
    wanted: Wanted, dimension: int, work: tuple[Work, ...], machine: Machine, measured: Measurements
) -> tuple[Limit, ...]:
    """List where one machine ends, the first limit first; images and texts in their proportion.

    Args:
        wanted: the library.
        dimension: of its vectors.
        work: to embed it.
        machine: what one machine has; to embed, one GPU too where the encoder runs on it.
        measured: rates.
    """
    rows = wanted.rows
    core_hours = sum(job.core_hours for job in work) / machine.cores
    gpu_hours = sum(job.gpu_hours for job in work)
    with_gpu = " and one GPU" if gpu_hours else ""
    memory = int(value("index_memory_share") * machine.memory_bytes)
    a_row = (
        dimension * VECTOR_VALUE_BYTES + (catalog_bytes(wanted) + thumbnail_total(wanted)) / rows
    )
    ends = [
        (
            "embedding",
            f"{machine.cores} cores{with_gpu} for {wanted.hours:g} hours",
            rows * wanted.hours / max(core_hours, gpu_hours),
        ),
        (
            "index",
            f"{memory / 1e9:,.0f} GB, {value('index_memory_share'):.0%} of the memory",
            most_rows(lambda count: faiss_bytes(count, dimension, memory) <= memory),
        ),
        (
            "disk",
            f"{machine.disk_bytes / 1e12:g} TB for vectors, catalog, index and thumbnails",
            most_rows(
                lambda count: (
                    count * a_row + faiss_bytes(count, dimension, memory) <= machine.disk_bytes
                )
            ),
        ),
    ]
    if measured.filtering is not None:
        patience = value("patience_s")
        ends.append(
            (
                "catalog",
                f"a new filter takes {patience:g} s in SQLite",
                patience / max(measured.filtering.row_s, 1e-12),
            )
        )
    ends.sort(key=lambda end: end[2])
    return tuple(Limit(part, why, int(most), rows > most) for part, why, most in ends)


def most_rows(fits: Callable[[int], bool]) -> int:
    """Find the largest number of rows that fits, of those up to 10^15; 0: not even one does."""
    return bisect_left(range(1, 10**15), True, key=lambda rows: not fits(rows))

"""Refine with a cold page cache: what a query costs where its candidates are read from the disk.

Before each query the pages of the embeddings file are dropped, as if it were much larger than the
memory. Nothing else is: the index stays in memory.
"""

import mmap
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.vectors.measurement import count_hits
from benchmarks.vectors.peers import make_method
from benchmarks.vectors.workload import Workload
from retrieval.embeddings import Rows, read_singly
from retrieval.encoders.base import Vectors
from retrieval.errors import UsageError
from retrieval.indices.base import Effort, VectorEngine, VectorIndex, load_engine
from retrieval.indices.refine import search_refined
from retrieval.indices.tuning import TuningQueries, tune

COLD_METHODS = ("mmsearch", "signs")
K = 10
_PAGE_BYTES = mmap.PAGESIZE
_READ_S = 1e-4


@dataclass(frozen=True)
class ColdResult:
    """One method and modality of queries, at the effort that tuning chose for cold reads.

    recall: recall@10 of queries that it was not tuned with. candidates: rows that a query refines.
    pages: distinct pages of the file that they lie on. read_bytes: what the system read from the
    disk for a query; None where it does not tell. cold_ms, warm_ms: of the median query. ahead_ms,
    ahead_bytes: the same with a cold cache where the system may read ahead, which searches of such
    libraries forbid it. bytes_per_vector: of the index.
    """

    method: str
    kind: str
    modality: str
    nprobe: int
    overfetch: int
    query_bits: int | None
    recall: float
    candidates: float
    pages: float
    read_bytes: float | None
    cold_ms: float
    warm_ms: float
    ahead_ms: float
    ahead_bytes: float | None
    bytes_per_vector: float

    @property
    def queries_per_second(self) -> float:
        """Single queries a second, one after the other, with a cold cache."""
        return 1000 / self.cold_ms


def measure_cold(
    workload: Workload,
    methods: Sequence[str],
    *,
    target_recall: float = 0.95,
    queries: int = 200,
    seed: int = 0,
    on_step: Callable[[str], None] = lambda _: None,
) -> list[ColdResult]:
    """Build each index, tune it for cold reads with some queries, and measure with others.

    Args:
        workload: rows, queries and their true neighbours.
        methods: of `make_method`, FAISS indices with exact refine.
        target_recall: recall@10 to tune for, 0 to 1.
        queries: maximum number of measured queries per modality.
        seed: of training.
        on_step: called with a line of text after each step.

    Raises:
        UsageError: a method is none of these, or the system cannot drop pages.
    """
    if not hasattr(os, "posix_fadvise"):
        raise UsageError("A cold page cache can be measured on Linux only.")
    results = []
    for name in methods:
        index, size = _build(workload.rows, name, seed)
        on_step(f"{name}: built {index.kind}")
        asked, truth = workload.queries(), workload.truth()
        tuned = tune(
            index,
            workload.rows,
            {kind: TuningQueries(vectors[::2]) for kind, vectors in asked.items()},
            target_recall,
            read_s=_READ_S,
        )
        for kind, effort in tuned.items():
            measured = slice(1, 2 * queries, 2)
            results.append(
                _measure(
                    index, workload, asked[kind][measured], truth[kind][measured, :K], effort,
                    method=name, kind=index.kind, modality=str(kind), bytes_per_vector=size,
                )
            )  # fmt: skip
            on_step(f"{name}: {kind} queries measured")
    return results


def cold_markdown(results: Sequence[ColdResult]) -> str:
    """Format the results as a table."""
    lines = [
        "| index | queries | probes, candidates a hit, query bits | recall@10 | bytes a vector "
        "| candidates | pages | KB read | cold, ms | queries a second | warm, ms "
        "| with read-ahead: KB read | ms |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {one.kind} | {one.modality} | {one.nprobe}, {one.overfetch}, {one.query_bits or '-'} | "
        f"{one.recall:.3f} | {one.bytes_per_vector:.0f} | {one.candidates:.0f} | {one.pages:.0f} | "
        f"{_kilobytes(one.read_bytes)} | {one.cold_ms:.2f} | {one.queries_per_second:,.0f} | "
        f"{one.warm_ms:.2f} | {_kilobytes(one.ahead_bytes)} | {one.ahead_ms:.2f} |"
        for one in results
    ]
    return "\n".join(lines) + "\n"


def cold_body(results: Sequence[ColdResult]) -> dict[str, Any]:
    """Describe the results for JSON."""
    return {"cold": [asdict(one) for one in results]}


def _build(rows: Rows, name: str, seed: int) -> tuple[VectorEngine, float]:
    """Build an index; returns it, and its size a row."""
    kind = signs_factory(rows) if name == "signs" else ""
    if not kind:
        method = make_method(name)
        if method.engine != "faiss" or not method.refined:
            raise UsageError(f"{name} is no FAISS index with exact refine: use factory:STRING.")
        kind = method.choose(rows) if method.choose else method.kind
    if kind == "exact":
        raise UsageError("So few rows are searched exactly; take more (--rows).")
    with tempfile.TemporaryDirectory(prefix="mmsearch-cold-") as place:
        path = Path(place, "index.faiss")
        index = load_engine("faiss").create(path, rows, kind, seed=seed)
        index.add(rows)
        index.save(path)
        return index, path.stat().st_size / len(rows)


def signs_factory(rows: Rows) -> str:
    """Name the codes of signs that rows get which do not fit the page cache."""
    from retrieval.indices.choice import choose

    return choose(len(rows), rows.shape[1], memory_bytes=1 << 50, cache_bytes=0).factory or "exact"


def _measure(
    index: VectorIndex,
    workload: Workload,
    queries: Vectors,
    truth: Any,
    effort: Effort,
    **described: Any,
) -> ColdResult:
    rows, path = workload.rows, workload.folder / "rows.f16"
    proposed = index.search(queries, K * effort.overfetch, None, effort)[1]
    pages = [_pages(found[found >= 0], rows) for found in proposed]
    mapped = rows._mmap  # type: ignore[attr-defined]
    with path.open("rb") as file:

        def ask(query: Vectors, *, is_cold: bool) -> tuple[float, int | None]:
            """Search once; returns the time and the bytes read."""
            if is_cold:
                _drop(rows, file.fileno())
            before, began = _read_so_far(), time.perf_counter()
            found.append(search_refined(index, rows, query[None], K, effort)[1][0])
            spent, after = time.perf_counter() - began, _read_so_far()
            return spent, None if before is None or after is None else after - before

        found: list[Any] = []
        ahead = [ask(query, is_cold=True) for query in queries]
        read_singly(rows)
        cold, warm = [], []
        for query in queries:
            cold.append(ask(query, is_cold=True))
            warm.append(ask(query, is_cold=False))
        mapped.madvise(mmap.MADV_NORMAL)
    return ColdResult(
        nprobe=effort.breadth,
        overfetch=effort.overfetch,
        query_bits=effort.query_bits,
        recall=count_hits(np.array(found[: len(queries)]), truth) / truth.size,
        candidates=float((proposed >= 0).sum(axis=1).mean()),
        pages=float(np.mean(pages)),
        read_bytes=_mean([read for _, read in cold]),
        cold_ms=1000 * median(spent for spent, _ in cold),
        warm_ms=1000 * median(spent for spent, _ in warm),
        ahead_ms=1000 * median(spent for spent, _ in ahead),
        ahead_bytes=_mean([read for _, read in ahead]),
        **described,
    )


def _mean(sizes: Sequence[int | None]) -> float | None:
    known = [size for size in sizes if size is not None]
    return float(np.mean(known)) if known else None


def _kilobytes(size: float | None) -> str:
    return "?" if size is None else f"{size / 1000:,.0f}"


def _pages(found: Any, rows: Rows) -> int:
    """Count the distinct pages that some rows lie on."""
    first = found * rows.shape[1] * rows.itemsize
    last = first + rows.shape[1] * rows.itemsize - 1
    return len(np.unique(np.concatenate([first, last]) // _PAGE_BYTES))


def _drop(rows: Rows, file: int) -> None:
    """Take the pages of a file out of the memory: those mapped here first, which are kept else."""
    mapped = rows._mmap  # type: ignore[attr-defined]
    mapped.madvise(mmap.MADV_DONTNEED)
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)


def _read_so_far() -> int | None:
    """Bytes that this process had read from the disk."""
    try:
        lines = Path("/proc/self/io").read_text().splitlines()
    except OSError:
        return None
    return next(int(line.split()[1]) for line in lines if line.startswith("read_bytes"))

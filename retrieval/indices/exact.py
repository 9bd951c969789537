"""Exact search: every row is compared, where it lies in the memory-mapped file."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from retrieval.embeddings import Rows
from retrieval.encoders.base import Vectors
from retrieval.indices.base import (
    AllowedRows,
    Capabilities,
    Effort,
    Found,
    VectorEngine,
    nothing_found,
)
from retrieval.indices.faiss import is_installed

if TYPE_CHECKING:
    import faiss

_BLOCK_BYTES = 8 << 20
"""Bytes of rows that are gathered or converted at a time."""

_SMALL_BYTES = 32 << 20
"""Rows that take no more as float32 are held so, and searched by NumPy: FAISS need not load.

FAISS takes 0.2 s to import, and 230 MB with CUDA: as long as the rest of a first search.
"""


class _Stretch(NamedTuple):
    """Rows that lie one after the other in memory, and FAISS's view of them.

    The rows are held here so that their memory stays mapped. view: None where FAISS can only copy
    or is not installed.
    values: few rows as float32, for NumPy.
    """

    rows: Rows
    view: "faiss.IndexScalarQuantizer | None" = None
    values: NDArray[np.float32] | None = None

    @classmethod
    def of(cls, rows: Rows) -> Self:
        """Hold (n, d) rows that lie in memory without gaps."""
        if 4 * rows.size <= _SMALL_BYTES:
            return cls(rows, values=float32_of(rows))
        return cls(rows, view=_view(rows))


class ExactIndex(VectorEngine):
    """Exact inner products of float32 queries with float16 rows; many are never copied.

    FAISS's scalar quantiser with QT_fp16 codes rows as the embeddings file does (2d bytes a row),
    so it is given the mapped file for its codes. Rows are kept, not copied: they must not change.
    `add` may run while others search: a search sees the rows from before or after.
    """

    name = "exact"
    capabilities = Capabilities(refines=True)
    library = "FAISS"
    kind = "exact"
    block_rows = sys.maxsize

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension
        self._stretches: tuple[_Stretch, ...] = ()

    @classmethod
    def create(
        cls, path: Path, rows: Rows, kind: str = "", *, seed: int = 0, device: str = "cpu"
    ) -> Self:
        """Make an index that covers nothing yet; there is nothing to train."""
        return cls(rows.shape[1])

    @classmethod
    def open(cls, path: Path, rows: Rows, kind: str) -> Self:
        """Cover all of the (n, d) rows."""
        index = cls(rows.shape[1])
        index.add(rows)
        return index

    def __len__(self) -> int:
        return sum(len(stretch.rows) for stretch in self._stretches)

    def _search(
        self, queries: Vectors, k: int, allowed: AllowedRows | None, effort: Effort
    ) -> Found:
        found = None
        first = 0
        for stretch in self._stretches:
            part = None if allowed is None else allowed.bitmap[first : first + len(stretch.rows)]
            scores, rows = _search_stretch(stretch, queries, k, part)
            more = scores, np.where(rows < 0, rows, rows + first)
            found = more if found is None else _best(found, more)
            first += len(stretch.rows)
        return found or nothing_found(len(queries), k)

    def _insert(self, rows: Rows) -> None:
        self._stretches = (*self._stretches, self._stretch(rows))

    def _stretch(self, rows: Rows) -> _Stretch:
        if rows.ndim != 2 or rows.shape[1] != self.dimension:
            raise ValueError(f"expected (n, {self.dimension}) rows, got {rows.shape}")
        # A plain array over the same memory: indexing a memmap costs several times as much.
        return _Stretch.of(np.ascontiguousarray(rows, dtype=np.float16).view(np.ndarray))


def nearest(queries: Vectors, rows: Rows, k: int, among: NDArray[np.int64] | None = None) -> Found:
    """Find the best k of the (n, d) rows for each query, exactly.

    among: (c,) distinct row numbers, the only ones that count; None: all. Returns scores and
    rows as `VectorIndex.search` does.
    """
    queries = np.ascontiguousarray(queries, dtype=np.float32)
    if among is None:
        index = ExactIndex(rows.shape[1])
        index.add(rows)
        return index.search(queries, k)
    # Rows as single items: NumPy gathers these several times faster than rows of numbers.
    plain = np.ascontiguousarray(rows).view(np.ndarray)
    whole = plain.view(np.dtype((np.void, 2 * rows.shape[1]))).reshape(-1)
    block = max(1, _BLOCK_BYTES // whole.itemsize)
    found = None
    for begin in range(0, len(among), block):
        chosen = among[begin : begin + block]
        gathered = whole[chosen].view(np.float16).reshape(len(chosen), -1)
        scores, places = _search_stretch(_Stretch.of(gathered), queries, k, None)
        more = scores, np.where(places < 0, places, chosen[places])
        found = more if found is None else _best(found, more)
    return nothing_found(len(queries), k) if found is None else found


def _search_stretch(
    stretch: _Stretch, queries: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None
) -> Found:
    if stretch.values is not None:
        return _search_values(stretch.values, queries, k, allowed)
    if stretch.view is None:
        return _search_converted(stretch.rows, queries, k, allowed)
    import faiss

    parameters = None
    if allowed is not None:
        bitmap = np.packbits(allowed, bitorder="little")
        parameters = faiss.SearchParameters(
            sel=faiss.IDSelectorBitmap(len(bitmap), faiss.swig_ptr(bitmap))
        )
    threads = faiss.omp_get_max_threads()  # of FAISS calls of this thread; others keep theirs
    if len(queries) == 1:  # FAISS would start others, which have nothing to do, and wait for them
        faiss.omp_set_num_threads(1)
    try:
        scores, rows = stretch.view.search(queries, k, params=parameters)
    finally:
        faiss.omp_set_num_threads(threads)
    scores[rows < 0] = -np.inf
    return scores, rows


def _search_values(
    values: NDArray[np.float32],
    queries: NDArray[np.float32],
    k: int,
    allowed: NDArray[np.bool_] | None,
) -> Found:
    if len(queries) == 1:  # row by row: equal rows have equal scores, which BLAS does not promise
        scores = np.einsum("nd,d->n", values, queries[0])[np.newaxis]
    else:
        scores = queries @ values.T
    if allowed is not None:
        scores[:, ~allowed] = -np.inf
    found, rows = nothing_found(len(queries), k)
    if k < len(values):
        rows[:] = np.argpartition(scores, -k, axis=1)[:, -k:]
    else:
        rows[:, : len(values)] = np.arange(len(values))
    found[:, : len(values)] = np.take_along_axis(scores, rows[:, : len(values)], axis=1)
    order = np.argsort(-found, axis=1, kind="stable")
    found, rows = np.take_along_axis(found, order, axis=1), np.take_along_axis(rows, order, axis=1)
    rows[found == -np.inf] = -1
    return found, rows


def _search_converted(
    rows: Rows, queries: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None
) -> Found:
    """Without FAISS: several times slower for one query, in flat memory as well."""
    block = max(1, _BLOCK_BYTES // (4 * rows.shape[1]))
    found = nothing_found(len(queries), k)
    for begin in range(0, len(rows), block):
        part = slice(begin, begin + block)
        passes = None if allowed is None else allowed[part]
        scores, numbers = _search_values(float32_of(rows[part]), queries, k, passes)
        found = _best(found, (scores, np.where(numbers < 0, numbers, numbers + begin)))
    return found


def _view(rows: Rows) -> "faiss.IndexScalarQuantizer | None":
    if not is_installed():
        return None
    import faiss

    vector_type = getattr(faiss, "MaybeOwnedVectorUInt8", None)
    if vector_type is None:
        return None
    index = faiss.IndexScalarQuantizer(
        rows.shape[1], faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    )
    index.is_trained = True  # the fp16 code has nothing to learn
    octets = rows.view(np.uint8).reshape(-1)
    unowned = vector_type()  # has the null owner, which Python cannot name otherwise
    index.codes = vector_type.create_view(faiss.swig_ptr(octets), octets.size, unowned.owner)
    index.ntotal = len(rows)
    return index


def float32_of(rows: Rows) -> NDArray[np.float32]:
    """Convert finite float16 rows, exactly; fifteen times as fast as `astype` on x86-64.

    Exponent and mantissa are moved to their places in a float32, whose exponent is then 112 too low
    (IEEE 754: biases of 15 and 127).
    """
    bits = rows.view(np.int16).astype(np.int32)
    bits <<= 13
    bits &= _SIGN_AND_MAGNITUDE
    values = bits.view(np.float32)
    values *= np.float32(2.0**112)
    return values


_SIGN_AND_MAGNITUDE = np.array(0x8FFFE000, np.uint32).view(np.int32)


def _best(found: Found, more: Found) -> Found:
    """Merge two lists a query, best first, to the length of the first."""
    k = found[0].shape[1]
    scores = np.hstack([found[0], more[0]])
    rows = np.hstack([found[1], more[1]])
    places = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, places, axis=1), np.take_along_axis(rows, places, axis=1)

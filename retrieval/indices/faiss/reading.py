"""Read index files that may be from a stranger: only kinds that are built here, checked throughout.

FAISS trusts what it reads. An index file can make it map another file of the sender's choice
(`OnDiskInvertedLists`), and numbers that do not fit together make a search read past the end of an
array. So a file goes through a reader of ours, which refuses such a type before FAISS acts upon it;
then all that a search relies on is compared with what it must be.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from retrieval.indices.base import UnsafeIndexError

_BLOCK_BYTES = 1 << 20
_LEAST_LIMIT_BYTES = 1 << 24
"""FAISS compares some products of dimensions with the limit, too."""

_FLAT = ("IndexFlat", "IndexFlatL2", "IndexFlatIP")
_LISTS = (
    "IndexIVFFlat",
    "IndexIVFPQ",
    "IndexIVFPQFastScan",
    "IndexIVFRaBitQ",
    "IndexIVFRaBitQFastScan",
    "IndexIVFScalarQuantizer",
)
_GRAPHS = ("IndexHNSWFlat", "IndexHNSWPQ", "IndexHNSWSQ")
_TRANSFORMS = (
    "LinearTransform",
    "NormalizationTransform",
    "OPQMatrix",
    "PCAMatrix",
    "RandomRotationMatrix",
)
_LIST_STORES = ("ArrayInvertedLists", "BlockInvertedLists")

KINDS = "inverted lists (IVF), graphs (HNSW), flat and scalar codes (SQ), also behind a rotation"

_TAGS_REFUSED = (b"ilod",)
"""The tag of `OnDiskInvertedLists`, at whose reading FAISS maps the file that they name."""


def read_index(path: Path) -> Any:
    """Read an index file into memory and check it; nothing is mapped, no other file is opened.

    Raises:
        UnsafeIndexError: it is of another kind, or its parts do not fit together.
        RuntimeError: FAISS cannot read it.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file, _vectors_limited_to(path.stat().st_size):
        reasons: list[str] = []

        def read(count: int) -> bytes:
            content = file.read(count)
            if content in _TAGS_REFUSED:
                reasons.append("it names another file")
                return b""
            return content

        flags = faiss.IO_FLAG_SKIP_PRECOMPUTE_TABLE | faiss.IO_FLAG_READ_ONLY
        try:
            index = faiss.read_index(faiss.PyCallbackIOReader(read, _BLOCK_BYTES), flags)
        except (RuntimeError, MemoryError) as error:
            if reasons:
                raise UnsafeIndexError(reasons[0]) from error
            if isinstance(error, MemoryError):
                raise UnsafeIndexError("it is larger than the memory") from error
            raise
    try:
        check_index(index)
    except (AttributeError, IndexError, MemoryError, OverflowError, TypeError, ValueError) as error:
        raise UnsafeIndexError("its parts cannot be right") from error  # FAISS left one out
    return index


def require_known_kind(index: Any) -> None:
    """Raise UnsafeIndexError for an index of a kind that `read_index` would refuse."""
    for transform in transforms_of(index):
        _require_type(transform, _TRANSFORMS)
    inner = inner_of(index)
    _require_type(inner, (*_FLAT, *_LISTS, *_GRAPHS, "IndexScalarQuantizer"))
    if isinstance(inner, faiss.IndexIVF):
        _require_type(faiss.downcast_index(inner.quantizer), (*_FLAT, "IndexHNSWFlat"))
        if inner.invlists is not None:
            _require_type(faiss.downcast_InvertedLists(inner.invlists), _LIST_STORES)


def check_index(index: Any) -> None:
    """Raise UnsafeIndexError unless a search of this index stays within its arrays.

    Looks at every row number and, in a graph, at every neighbour.
    """
    require_known_kind(index)
    inner = inner_of(index)
    _require(index.is_trained and index.metric_type == faiss.METRIC_L2, "its settings")
    _require(index.ntotal == inner.ntotal and index.ntotal >= 0, "its number of rows")
    dimension = index.d
    for transform in transforms_of(index):
        _require(transform.is_trained and transform.d_in == dimension, "a rotation")
        dimension = transform.d_out
        _check_transform(transform)
    _require(dimension == inner.d and dimension > 0, "its dimension")
    _check_inner(inner)


def inner_of(index: Any) -> Any:
    """Return the index behind the transforms."""
    return faiss.downcast_index(
        index.index if isinstance(index, faiss.IndexPreTransform) else index
    )


def transforms_of(index: Any) -> list[Any]:
    """Return the transforms before an index, in their order."""
    if not isinstance(index, faiss.IndexPreTransform):
        return []
    chain = index.chain
    return [faiss.downcast_VectorTransform(chain.at(place)) for place in range(chain.size())]


def _check_inner(inner: Any) -> None:
    if isinstance(inner, faiss.IndexIVF):
        _check_lists(inner)
    elif isinstance(inner, faiss.IndexHNSW):
        storage = faiss.downcast_index(inner.storage)
        _require_type(storage, (*_FLAT, "IndexPQ", "IndexScalarQuantizer"))
        _require((storage.ntotal, storage.d) == (inner.ntotal, inner.d), "its storage")
        _check_codes(storage)
        _check_graph(inner)
    else:
        _check_codes(inner)


def _check_transform(transform: Any) -> None:
    if isinstance(transform, faiss.LinearTransform):
        cells = transform.d_in * transform.d_out
        _require(transform.A.size() == cells, "a rotation")
        _require(not transform.have_bias or transform.b.size() == transform.d_out, "a rotation")
    else:
        _require(transform.d_in == transform.d_out, "a rotation")


def _check_codes(index: Any) -> None:
    """Check an index that keeps a code of equal length for each row."""
    width = index.d * 4
    if isinstance(index, faiss.IndexPQ):
        _check_product_quantizer(index.pq, index.d)
        width = index.pq.code_size
        _require(index.search_type == faiss.IndexPQ.ST_PQ, "its settings")
    elif isinstance(index, faiss.IndexScalarQuantizer):
        width = _scalar_code_size(index.sq, index.d)
    _require(index.code_size == width, "its codes")
    _require(index.codes.size() == index.ntotal * width, "its codes")


def _check_lists(index: Any) -> None:
    quantizer = faiss.downcast_index(index.quantizer)
    _require(quantizer.ntotal == index.nlist > 0 and quantizer.d == index.d, "its centroids")
    _require(quantizer.metric_type == faiss.METRIC_L2, "its centroids")
    _check_inner(quantizer)
    _require(index.invlists is not None, "its lists")
    _require(index.direct_map.type == faiss.DirectMap.NoMap, "its settings")
    lists = faiss.downcast_InvertedLists(index.invlists)
    _require(lists.nlist == index.nlist, "its lists")
    _check_list_codes(index, lists)
    sizes = [lists.list_size(number) for number in range(index.nlist)]
    _require(sum(sizes) == index.ntotal, "its row numbers")
    seen = np.zeros(index.ntotal, np.bool_)
    for number, size in enumerate(sizes):
        if not size:
            continue
        rows = faiss.rev_swig_ptr(lists.get_ids(number), size)
        _require(rows.min() >= 0 and rows.max() < index.ntotal, "its row numbers")
        seen[rows] = True
    _require(bool(seen.all()), "its row numbers")


def _check_list_codes(index: Any, lists: Any) -> None:
    """Check the length of a code in inverted lists."""
    is_fast = isinstance(index, faiss.IndexIVFFastScan)
    _require(isinstance(lists, faiss.BlockInvertedLists) == is_fast, "its lists")
    if isinstance(index, faiss.IndexIVFPQ | faiss.IndexIVFPQFastScan):
        _check_product_quantizer(index.pq, index.d, bits=(4,) if is_fast else range(1, 17))
        _require(index.code_size == index.pq.code_size, "its codes")
    elif isinstance(index, faiss.IndexIVFScalarQuantizer):
        _require(index.code_size == _scalar_code_size(index.sq, index.d), "its codes")
    elif isinstance(index, faiss.IndexIVFFlat):
        _require(index.code_size == index.d * 4, "its codes")
    else:
        _check_rabitq(index)
    if is_fast:
        _check_fast_scan(index)
        _require(lists.n_per_block == index.bbs, "its blocks")
        _require(lists.block_size >= index.M2 * index.bbs // 2, "its blocks")
    else:
        _require(lists.code_size == index.code_size, "its codes")


def _check_product_quantizer(pq: Any, dimension: int, bits: Any = range(1, 17)) -> None:
    what = "its product quantiser"
    _require(pq.nbits in bits and pq.M > 0 and pq.d == dimension == pq.M * pq.dsub, what)
    _require(pq.ksub == 1 << pq.nbits, what)
    _require(pq.code_size == math.ceil(pq.M * pq.nbits / 8), what)
    _require(pq.centroids.size() == pq.d * pq.ksub, what)


def _scalar_code_size(sq: Any, dimension: int) -> int:
    """Check a scalar quantiser; return the bytes of its codes."""
    what = "its scalar quantiser"
    kinds = faiss.ScalarQuantizer
    bits = {
        kinds.QT_8bit: 8,
        kinds.QT_8bit_uniform: 8,
        kinds.QT_4bit: 4,
        kinds.QT_4bit_uniform: 4,
        kinds.QT_6bit: 6,
        kinds.QT_fp16: 16,
        kinds.QT_bf16: 16,
        kinds.QT_8bit_direct: 8,
        kinds.QT_8bit_direct_signed: 8,
    }
    trained = {
        kinds.QT_8bit: 2 * dimension,
        kinds.QT_4bit: 2 * dimension,
        kinds.QT_6bit: 2 * dimension,
        kinds.QT_8bit_uniform: 2,
        kinds.QT_4bit_uniform: 2,
    }
    _require(sq.d == dimension and sq.qtype in bits, what)
    size = math.ceil(dimension * bits[sq.qtype] / 8)
    _require(sq.code_size == size and sq.bits == bits[sq.qtype], what)
    _require(sq.trained.size() >= trained.get(sq.qtype, 0), what)
    return size


def _check_rabitq(index: Any) -> None:
    """Check that a code holds a sign for each dimension and the factors beside them."""
    _require(index.rabitq.d == index.d, "its quantiser")
    _require(index.rabitq.code_size == index.code_size, "its codes")
    fresh = faiss.RaBitQuantizer(index.d, index.metric_type, getattr(index.rabitq, "nb_bits", 1))
    _require(fresh.code_size == index.code_size, "its codes")
    _require(0 < index.qb <= 8, "its settings")  # FAISS ends the process for others


def _check_fast_scan(index: Any) -> None:
    """Check the layout of codes of 4 bits in blocks."""
    _require(index.nbits == 4 and index.ksub == 16, "its blocks")
    _require(0 < index.bbs <= 1024 and index.bbs % 32 == 0, "its blocks")
    _require(index.M > 0 and index.M2 == (index.M + 1) // 2 * 2, "its blocks")
    is_product = isinstance(index, faiss.IndexIVFPQFastScan)
    _require((index.pq.M if is_product else math.ceil(index.d / 4)) == index.M, "its blocks")
    _require(index.implem == 0, "its settings")


def _check_graph(index: Any) -> None:
    """Check that each link of a graph (HNSW) leads to one of its rows."""
    graph, rows, what = index.hnsw, index.ntotal, "its graph"
    levels = _array(graph.levels)
    offsets = _array(graph.offsets).astype(np.int64)
    neighbours = _array(graph.neighbors)
    per_level = _array(graph.cum_nneighbor_per_level).astype(np.int64)
    _require(len(levels) == rows and len(offsets) == rows + 1, what)
    _require(len(per_level) > 1 and per_level[0] == 0, what)
    _require(bool((np.diff(per_level) > 0).all()), what)
    _require(per_level[-1] < 1 << 31, what)
    if rows == 0:
        _require(graph.entry_point == -1 and not len(neighbours), what)
        return
    _require(levels.min() >= 1 and levels.max() < len(per_level), what)
    _require(offsets[0] == 0 and offsets[-1] == len(neighbours), what)
    _require(bool((np.diff(offsets) == per_level[levels]).all()), what)
    if len(neighbours):
        _require(neighbours.min() >= -1 and neighbours.max() < rows, what)
    _require(0 <= graph.entry_point < rows, what)
    _require(graph.max_level == levels[graph.entry_point] - 1, what)
    # A link of a level must lead to a row that has this level.
    for level in range(1, int(levels.max())):
        for row in np.flatnonzero(levels > level):
            first, past = offsets[row] + per_level[level : level + 2]
            ends = neighbours[first:past]
            _require(bool((levels[ends[ends >= 0]] > level).all()), what)
    _require(graph.efSearch > 0, what)


def _array(vector: Any) -> NDArray[Any]:
    found: NDArray[Any] = faiss.vector_to_array(vector)
    return found


def _require_type(part: Any, names: tuple[str, ...]) -> None:
    name = type(part).__name__
    if name not in names:
        raise UnsafeIndexError(f"it has a part of the kind {name}, which is not built here")


def _require(is_right: bool, what: str) -> None:
    if not is_right:
        raise UnsafeIndexError(f"{what} cannot be right")


@contextmanager
def _vectors_limited_to(size: int) -> Iterator[None]:
    """Let FAISS allocate no more for an array of a file than the file is large.

    Versions without such a limit may fail for want of memory on a file that says otherwise.
    """
    if not hasattr(faiss, "set_deserialization_vector_byte_limit"):
        yield
        return
    before = faiss.get_deserialization_vector_byte_limit()
    faiss.set_deserialization_vector_byte_limit(max(size, _LEAST_LIMIT_BYTES))
    try:
        yield
    finally:
        faiss.set_deserialization_vector_byte_limit(before)

"""An index by its FAISS factory string: `IVF1024,PQ64`, `RR512,IVF1024,RaBitQ`, `HNSW32`."""

import math
from pathlib import Path
from typing import Any, Self

import faiss
import numpy as np
from numpy.typing import NDArray

from retrieval.embeddings import Rows
from retrieval.encoders.base import Vectors
from retrieval.errors import UsageError
from retrieval.indices.base import (
    AllowedRows,
    Effort,
    Found,
    UnsafeIndexError,
    VectorEngine,
    VectorIndex,
)
from retrieval.indices.faiss.gpu import assigning, gpus, placing
from retrieval.indices.faiss.reading import (
    KINDS,
    inner_of,
    read_index,
    require_known_kind,
    transforms_of,
)
from retrieval.indices.refine import probes_for

LEAST_POINTS_PER_CENTROID = 39
"""What FAISS asks for; with fewer, centroids follow single points of the sample."""

_POINTS_PER_CENTROID = 50
_LEAST_POINTS = 65_536
"""Training points for product quantisers and rotations: 256 a centroid of each."""

_ROTATION_ROUNDS = 10
_QUERY_BITS = (4, 8)
"""Of a dimension of a query (RaBitQ): 8 lose nothing that could be measured, 4 are faster."""


def training_rows(available: int, lists: int) -> int:
    """Return the number of rows to train on: 50 a centroid, and what quantisers need."""
    return min(available, max(_LEAST_POINTS, lists * _POINTS_PER_CENTROID))


class FactoryIndex(VectorEngine):
    """Any FAISS index over unit vectors, trained on the rows that it will first hold.

    Its kind is the factory string. The breadth of an effort is the number of inverted lists that a
    query visits (nprobe), or the length of a graph's candidate list (efSearch).

    The metric is L2, which on unit vectors ranks as the inner product does: FAISS's inverted lists
    for inner products have centroids of unit length, which lie farther from their rows, and needed
    three times the probes for the same recall.

    `effort` is that of calls that bring none. Raises UsageError for a string that FAISS does not
    know, or too few training rows.

    device: where k-means runs, as torch names it. `gpu_problem` tells why a GPU that should have
    been used was not.
    """

    name = "faiss"
    library = "FAISS"
    reads_untrusted = True
    detail_names = ("lists", "code_bytes")
    block_rows = 16_384
    gpu_problem: str | None = None

    def __init__(
        self,
        factory: str,
        training: Rows,
        *,
        nprobe: int = 16,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        dimension = training.shape[1]
        try:
            index = faiss.index_factory(dimension, factory, faiss.METRIC_L2)
        except RuntimeError as error:
            raise UsageError(
                f"{factory!r} is not a FAISS factory string for {dimension} dimensions, such as "
                f"IVF1024,PQ64 ({str(error).splitlines()[-1]})."
            ) from error
        try:
            require_known_kind(index)
        except UnsafeIndexError as error:
            raise UsageError(
                f"{factory!r} would not be read again: {error}. Use {KINDS}, such as IVF1024,PQ64."
            ) from error
        self._take(factory, index)
        self.effort = Effort(nprobe)
        self._prepare_training(seed)
        sample = _sample(training, self.training_rows(len(training)), seed)
        if len(sample) < dimension and any(
            isinstance(t, faiss.OPQMatrix) for t in self._transforms()
        ):
            # FAISS would end the process.
            raise UsageError(
                f"{factory} cannot be trained on {len(sample):,} vectors: its rotation needs at "
                f"least {dimension:,}, as many as there are dimensions."
            )
        try:
            self._train(sample, device)
        except RuntimeError as error:
            raise UsageError(
                f"{factory} cannot be trained on {len(sample):,} vectors: "
                f"{str(error).splitlines()[-1]}."
            ) from error

    @classmethod
    def create(
        cls, path: Path, rows: Rows, kind: str = "", *, seed: int = 0, device: str = "cpu"
    ) -> Self:
        """Train an index; see `VectorEngine.create`."""
        return cls(kind or "Flat", rows, seed=seed, device=device)

    @classmethod
    def open(cls, path: Path, rows: Rows, kind: str) -> Self:
        """Read an index that `save` wrote; raises UnsafeIndexError or RuntimeError for any other.

        A checksum tells of damage alone: who sends a library can compute it.
        """
        self = cls.__new__(cls)
        self._take(kind, read_index(path))
        self._drop_tables()
        return self

    @classmethod
    def version(cls) -> str:
        """Version of FAISS."""
        return str(faiss.__version__)

    def save(self, path: Path) -> None:
        """Write the index to a file, whose metadata are the caller's matter."""
        faiss.write_index(self._index, str(path))

    def on_device(self, device: str) -> VectorIndex:
        """Copy the index to the GPUs of a device, if FAISS sees any and the index has lists."""
        numbers = gpus(device)
        if not numbers or self.lists is None or self._of_signs:  # GPUs have no RaBitQ
            return self
        from retrieval.indices.faiss.gpu_index import GpuIndex

        return GpuIndex(self, placing(numbers))

    def details(self) -> dict[str, Any]:
        """Inverted lists, and the size of a row's code."""
        return {"lists": self.lists, "code_bytes": self.code_bytes}

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def max_breadth(self) -> int:
        """Return the number of inverted lists; in a graph, that of all rows."""
        return self.lists or len(self)

    @property
    def lists(self) -> int | None:
        """Inverted lists; None for an index without."""
        return None if self._inverted is None else int(self._inverted.nlist)

    @property
    def code_bytes(self) -> int:
        """Bytes that a vector's code takes, without its row number."""
        if self._inverted is not None:
            return int(self._inverted.code_size)
        if isinstance(self._inner, faiss.IndexHNSW):
            return int(faiss.downcast_index(self._inner.storage).sa_code_size())
        return int(self._inner.sa_code_size())

    @property
    def inner(self) -> Any:
        """FAISS's index behind the transforms."""
        return self._inner

    def transformed(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Transform (n, d) vectors for the index behind the transforms."""
        for transform in self._transforms():
            vectors = transform.apply(vectors)
        return vectors

    def training_rows(self, available: int) -> int:
        """Return the number of available rows to train on."""
        return training_rows(available, self.lists or 0)

    def _insert(self, rows: Rows) -> None:
        self._index.add(rows.astype(np.float32))

    def _search(
        self, queries: Vectors, k: int, allowed: AllowedRows | None, effort: Effort
    ) -> Found:
        """Scores estimate inner products.

        Where few rows are allowed, more lists are visited than the effort says: as many as
        `probes_for` tells, then twice as many each time until the best no longer change. So it
        finds rows too that are allowed just where the query is not.
        """
        if allowed is None:
            return self._probe(queries, k, effort.breadth, None, effort.query_bits)
        bitmap = np.packbits(allowed.bitmap, bitorder="little")
        selector = faiss.IDSelectorBitmap(len(bitmap), faiss.swig_ptr(bitmap))
        nprobe = probes_for(effort.breadth, allowed.count / len(self))
        if self.lists is None:  # a graph's candidate list
            nprobe = max(nprobe, math.ceil(k * len(self) / allowed.count))
        limit = self.max_breadth
        best = min(allowed.count, max(1, k // effort.overfetch))
        bits = effort.query_bits
        scores, rows = self._probe(queries, k, nprobe, selector, bits)
        changing = np.arange(len(queries))
        while nprobe < limit and changing.size:
            nprobe *= 2
            more_scores, more_rows = self._probe(queries[changing], k, nprobe, selector, bits)
            is_changed = (more_rows[:, :best] != rows[changing, :best]).any(axis=1)
            is_short = more_rows[:, min(k, allowed.count) - 1] < 0
            scores[changing], rows[changing] = more_scores, more_rows
            changing = changing[is_changed | is_short]
        return scores, rows

    def quantisation_error(self, rows: Rows) -> float:
        """Mean squared distance of (n, d) rows to the centroid of their list; 0 without lists.

        It grows when the data drift away from those that the index was trained on.
        """
        if self._inverted is None or not len(rows):
            return 0.0
        vectors = self.transformed(np.ascontiguousarray(rows, dtype=np.float32))
        squared, _ = self._inverted.quantizer.search(vectors, 1)
        return float(squared.mean())

    def _probe(
        self, queries: Vectors, k: int, nprobe: int, selector: Any, bits: int | None
    ) -> Found:
        parameters = self._parameters(nprobe, selector, bits or _QUERY_BITS[-1])
        squared, rows = self._index.search(queries, k, params=parameters)
        return np.where(rows < 0, -np.inf, 1 - squared / 2).astype(np.float32), rows

    def _parameters(self, nprobe: int, selector: Any, bits: int) -> Any:
        if self._of_signs and self._inverted is not None:
            parameters = faiss.IVFRaBitQSearchParameters(
                nprobe=min(nprobe, self._inverted.nlist), sel=selector, qb=bits
            )
        elif self._inverted is not None:
            parameters = faiss.SearchParametersIVF(
                nprobe=min(nprobe, self._inverted.nlist), sel=selector
            )
        elif isinstance(self._inner, faiss.IndexHNSW):
            parameters = faiss.SearchParametersHNSW(efSearch=nprobe, sel=selector)
        elif selector is not None:
            parameters = faiss.SearchParameters(sel=selector)
        else:
            return None
        if isinstance(self._index, faiss.IndexPreTransform):
            # Behind a transform (OPQ) the parameters belong to the index inside.
            parameters = faiss.SearchParametersPreTransform(index_params=parameters)
        return parameters

    def _take(self, factory: str, index: Any) -> None:
        self.kind = factory
        self.dimension = int(index.d)
        self._index = index
        self._inner = inner_of(index)
        self._inverted = self._inner if isinstance(self._inner, faiss.IndexIVF) else None
        self._of_signs = isinstance(
            self._inner, faiss.IndexIVFRaBitQ | faiss.IndexIVFRaBitQFastScan
        )
        if self._of_signs:
            self.query_bits = _QUERY_BITS

    def _drop_tables(self) -> None:
        """Do without tables of distances between centroids and codewords.

        They take 17 to 270 bytes a row at a million rows, and spare no time that could be measured.
        """
        if hasattr(self._inner, "use_precomputed_table"):
            self._inner.use_precomputed_table = -1
            self._inner.precomputed_table.resize(0)  # fast-scan kinds make it when they are read

    def _train(self, sample: NDArray[np.float32], device: str) -> None:
        if self._inverted is not None and (numbers := gpus(device)):
            try:
                with assigning(self._inner, placing(numbers)):
                    self._index.train(sample)
            except RuntimeError as error:
                self.gpu_problem = str(error).splitlines()[-1]
                self.training_reasons = (
                    f"Trained on the CPU, since the GPU could not: {self.gpu_problem}.",
                )
            else:
                count = len(numbers)
                self.training_reasons = (f"Trained on {count} GPU{'s' if count > 1 else ''}.",)
                return
        self._index.train(sample)

    def _transforms(self) -> list[Any]:
        return transforms_of(self._index)

    def _prepare_training(self, seed: int) -> None:
        inner = self._inner
        for owner in (inner, getattr(inner, "pq", None)):
            if (clustering := getattr(owner, "cp", None)) is not None:
                clustering.seed = seed
                clustering.min_points_per_centroid = 1  # else FAISS warns on standard output
        if hasattr(inner, "do_polysemous_training"):
            # It orders codes for Hamming filtering, which nothing uses, and takes most of the time.
            inner.do_polysemous_training = False
        self._drop_tables()
        if isinstance(inner, faiss.IndexIVFPQFastScan):
            # Off by default, for speed; but the codes are so much better that half the candidates
            # reach the same recall.
            inner.by_residual = True
        for transform in self._transforms():
            if isinstance(transform, faiss.OPQMatrix):
                transform.niter = _ROTATION_ROUNDS  # 50 by default, which takes minutes


def _sample(rows: Rows, size: int, seed: int) -> NDArray[np.float32]:
    chosen = np.random.default_rng(seed).choice(len(rows), size, replace=False)
    return np.asarray(rows[np.sort(chosen)], dtype=np.float32)

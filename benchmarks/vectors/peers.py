"""Ways to search vectors that are measured side by side: an engine, what it builds, and efforts."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.vectors.autofaiss import autofaiss_factory
from retrieval.embeddings import Rows
from retrieval.encoders.base import Vectors
from retrieval.errors import UsageError
from retrieval.indices.base import Effort, VectorIndex, load_engine
from retrieval.indices.choice import BYTES_PER_ROW, choose
from retrieval.indices.refine import search_refined

Setting = dict[str, int]
"""An effort by the names of its engine, such as nprobe: one point of a curve."""

EXACT = "exact"

_MOST_CANDIDATES = 1000
_FAISS_PROBES = (2, 4, 8, 16, 32, 64, 128, 256)
_GRAPH_LISTS = (16, 32, 64, 128, 256, 512)


@dataclass(frozen=True)
class Method:
    """Builds an index in one process, and opens and searches it in others.

    engine: by its name in `ENGINES`. kind: what it builds. choose: tells that from the rows, and
    `exact` for exact search. setting_names: breadth and over-fetch as the engine calls them.
    refined: whether candidates are scored exactly from the embeddings file.
    """

    name: str
    engine: str
    kind: str = ""
    choose: Callable[[Rows], str] | None = None
    builds: str = ""
    setting_names: tuple[str, ...] = ()
    breadths: tuple[int, ...] = ()
    overfetch: tuple[int, ...] = (1,)
    refined: bool = False

    @property
    def package(self) -> str | None:
        """Name the module that it needs, besides ours."""
        return load_engine(self.engine).package

    @property
    def rows_in_file(self) -> bool:
        """Return whether searches read the embeddings file, whose pages are memory, too."""
        return self.refined or self.engine == EXACT

    def build(self, rows: Rows, folder: Path, *, threads: int, seed: int) -> str:
        """Build an index and save it.

        Args:
            rows: (n, d) float16, unit.
            folder: for the index.
            threads: number of threads.
            seed: of training.

        Returns:
            The kind of the index that was built.
        """
        kind = self.choose(rows) if self.choose else self.kind
        engine = load_engine(EXACT if kind == EXACT else self.engine)
        path = folder / f"index.{engine.name}"
        index = engine.create(path, rows, kind, seed=seed)
        index.threads = threads
        index.add(rows)
        index.save(path)
        index.close()
        return index.kind

    def open(self, rows: Rows, folder: Path, kind: str, *, threads: int) -> VectorIndex:
        """Open an index that `build` saved.

        Args:
            rows: (n, d) float16, the rows that it was built from.
            folder: as for `build`.
            kind: as `build` returned it.
            threads: number of search threads.
        """
        engine = load_engine(EXACT if kind == EXACT else self.engine)
        index = engine.open(folder / f"index.{engine.name}", rows, kind)
        index.threads = threads
        return index

    def settings(self, index: VectorIndex, k: int) -> list[Setting]:
        """List the settings to measure, from fast to thorough, for lists of k."""
        if not self.breadths or (index.capabilities.refines and self.refined):
            return [{}]
        shortest = k if self.setting_names == ("ef",) else 1
        pairs = [
            (breadth, overfetch)
            for overfetch in self.overfetch
            if overfetch * k <= max(_MOST_CANDIDATES, 3 * k)
            for breadth in self.breadths
            if shortest <= breadth <= index.max_breadth
        ]
        return [dict(zip(self.setting_names, pair, strict=False)) for pair in pairs]

    def search(
        self, index: VectorIndex, rows: Rows, queries: Vectors, k: int, setting: Setting
    ) -> NDArray[np.int64]:
        """Find the nearest rows of each query.

        Args:
            index: as `open` returned it.
            rows: (n, d) float16, for exact refine.
            queries: (m, d) float32, unit.
            k: number of rows per query.
            setting: one of `settings`.

        Returns:
            (m, k) row numbers, -1 where there are fewer.
        """
        effort = Effort(*setting.values())
        if self.refined:
            return search_refined(index, rows, queries, k, effort)[1]
        return index.search(queries, k, None, effort)[1]


def make_method(name: str) -> Method:
    """Make a method by its name, or by `factory:STRING` for any FAISS index with exact refine.

    Raises UsageError for a name that is none.
    """
    kind, _, factory = name.partition(":")
    if kind == "factory" and factory:
        return _faiss(name, kind=factory)
    if name not in METHODS:
        raise UsageError(
            f"There is no method {name!r}. There are: {', '.join(METHODS)} and "
            "factory:STRING, such as factory:IVF1024,PQ64."
        )
    return METHODS[name]


def missing(method: Method) -> str | None:
    """Say what a method needs that is not there: a package, or the address of a server."""
    if method.package is not None and find_spec(method.package) is None:
        return f"{method.package} is not installed"
    variable = getattr(load_engine(method.engine), "variable", None)
    if variable is not None and not os.environ.get(variable):
        return f"{variable} names no server"
    return None


def _faiss(
    name: str,
    *,
    kind: str = "",
    choose: Callable[[Rows], str] | None = None,
    builds: str = "",
    overfetch: tuple[int, ...] = (3, 10, 30),
) -> Method:
    """Make a FAISS method; with an over-fetch of 0 its own order stands."""
    return Method(
        name,
        "faiss",
        kind=kind,
        choose=choose,
        builds=builds or name,
        setting_names=("nprobe", "overfetch"),
        breadths=_FAISS_PROBES,
        overfetch=overfetch,
        refined=overfetch != (0,),
    )


def _chosen(rows: Rows) -> str:
    """Choose the index that a library of this size gets."""
    return choose(len(rows), rows.shape[1], BYTES_PER_ROW * len(rows)).factory or EXACT


def _chosen_by_autofaiss(rows: Rows) -> str:
    """Choose the index string of autofaiss for the same memory, for FAISS.

    autofaiss refines nothing. `autofaiss-refined` adds our exact scoring of candidates, to tell
    what its choice of index costs from what the lack of refinement does. The metric is L2, which
    ranks unit vectors as its default, the inner product, does.
    """
    return autofaiss_factory(len(rows), rows.shape[1], BYTES_PER_ROW * len(rows))


def _graph(name: str, engine: str, kind: str = "") -> Method:
    return Method(
        name, engine, kind=kind, builds=name, setting_names=("ef",), breadths=_GRAPH_LISTS
    )


METHODS = {
    method.name: method
    for method in (
        Method("exact", EXACT, builds="exact"),
        _faiss("mmsearch", choose=_chosen),
        _faiss("autofaiss", choose=_chosen_by_autofaiss, overfetch=(0,)),
        _faiss("autofaiss-refined", choose=_chosen_by_autofaiss, builds="autofaiss"),
        Method(
            "lancedb",
            "lancedb",
            builds="lancedb",
            setting_names=("nprobes", "refine_factor"),
            breadths=(2, 5, 10, 20, 40, 80),
            overfetch=(5, 20),
        ),
        Method(
            "milvus-lite",
            "milvus-lite",
            builds="milvus-lite",
            setting_names=("nprobe",),
            breadths=(4, 8, 16, 32, 64, 128),
        ),
        Method(
            "milvus",
            "milvus",
            builds="milvus",
            setting_names=("nprobe", "overfetch"),
            breadths=(4, 8, 16, 32, 64, 128),
            overfetch=(3, 10),
            refined=True,
        ),
        Method(
            "pgvector",
            "pgvector",
            builds="pgvector",
            setting_names=("probes", "overfetch"),
            breadths=(2, 4, 8, 16, 32, 64),
            overfetch=(3, 10),
            refined=True,
        ),
        _graph("usearch-f16", "usearch", "f16"),
        _graph("usearch-i8", "usearch", "i8"),
        _graph("hnswlib", "hnswlib"),
    )
}

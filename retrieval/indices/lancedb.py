"""lancedb: IVF-PQ on disk or in object storage, refined from the vectors beside it."""

from importlib import import_module
from pathlib import Path
from typing import Any, Self

import numpy as np

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

_DIMENSIONS_PER_CODE = 8
_LEAST_INDEXED_ROWS = 256
_TABLE = "rows"


class LancedbIndex(VectorEngine):
    """One code byte for 8 dimensions, as many as the default index; lancedb chooses the lists.

    The vectors are stored in single precision, as its guides do: in half precision its package has
    no kernels for most processors, and building takes several times as long. A search of many
    queries is one call. The breadth of an effort is `nprobes`, its over-fetch `refine_factor`.
    """

    name = package = library = "lancedb"
    capabilities = Capabilities(refines=True)

    def __init__(self, table: Any, dimension: int) -> None:
        self._table = table
        self._count = int(table.count_rows())
        self.dimension = dimension
        self._codes = max(1, dimension // _DIMENSIONS_PER_CODE)
        self.kind = f"IVF_PQ, {self._codes} sub-vectors, lists by its own choice"

    @classmethod
    def create(
        cls, path: Path, rows: Rows, kind: str = "", *, seed: int = 0, device: str = "cpu"
    ) -> Self:
        """Make an empty table; see `VectorEngine.create`."""
        dimension = rows.shape[1]
        database = import_module("lancedb").connect(path)
        return cls(database.create_table(_TABLE, schema=_schema(dimension)), dimension)

    @classmethod
    def open(cls, path: Path, rows: Rows, kind: str) -> Self:
        """Open the table; see `VectorEngine.open`."""
        return cls(import_module("lancedb").connect(path).open_table(_TABLE), rows.shape[1])

    def __len__(self) -> int:
        return self._count

    def _insert(self, rows: Rows) -> None:
        arrow = import_module("pyarrow")
        ids = arrow.array(np.arange(len(self), len(self) + len(rows)))
        values = arrow.array(rows.astype(np.float32).reshape(-1))
        vectors = arrow.FixedSizeListArray.from_arrays(values, self.dimension)
        schema = _schema(self.dimension)
        self._table.add(arrow.Table.from_arrays([ids, vectors], schema=schema))
        self._count += len(rows)

    def save(self, path: Path) -> None:
        """Index the rows; the table itself is durable already."""
        if self._table.list_indices():
            self._table.optimize()
        elif len(self) >= _LEAST_INDEXED_ROWS:
            kind = import_module("lancedb.index").IvfPq
            self._table.create_index(
                "vector", config=kind(distance_type="cosine", num_sub_vectors=self._codes)
            )

    def _search(
        self, queries: Vectors, k: int, allowed: AllowedRows | None, effort: Effort
    ) -> Found:
        scores, rows = nothing_found(len(queries), k)
        many = len(queries) > 1
        search = (
            self._table.search(queries if many else queries[0], vector_column_name="vector")
            .distance_type("cosine")
            .nprobes(effort.breadth)
            .refine_factor(effort.overfetch)
            .select(["id", "_distance"])
            .limit(k)
        )
        if allowed is not None:
            search = search.where(f"id IN ({','.join(map(str, allowed.ids))})", prefilter=True)
        answer = search.to_arrow()
        ids, distances = answer["id"].to_numpy(), answer["_distance"].to_numpy()
        owners = answer["query_index"].to_numpy() if many else np.zeros(len(ids), np.int64)
        order = np.lexsort((distances, owners))
        for query in range(len(queries)):
            found = order[owners[order] == query]
            rows[query, : len(found)] = ids[found]
            scores[query, : len(found)] = 1 - distances[found]
        return scores, rows


def _schema(dimension: int) -> Any:
    arrow = import_module("pyarrow")
    vector = arrow.list_(arrow.float32(), dimension)
    return arrow.schema([("id", arrow.int64()), ("vector", vector)])

"""milvus-lite: Milvus in one process. It has no IVF-PQ; IVF_SQ8 is the smallest that it has."""

import math
from importlib import import_module
from pathlib import Path
from typing import Any, Self

import numpy as np

from retrieval.embeddings import Rows
from retrieval.encoders.base import Vectors
from retrieval.indices.base import AllowedRows, Effort, Found, VectorEngine, nothing_found

_SEGMENT_ROWS = 100_000
"""Most rows of a segment; each has lists of its own."""

_COLLECTION = "rows"


class MilvusLiteIndex(VectorEngine):
    """IVF_SQ8 through the embedded interface, without its server between.

    The breadth of an effort is `nprobe`.
    """

    name = library = "milvus-lite"
    package = "milvus_lite"
    block_rows = 5_000

    def __init__(self, database: Any, collection: Any, dimension: int, lists: int) -> None:
        self._database = database
        self._collection = collection
        self._count = int(collection.num_entities)
        self.dimension = dimension
        self._lists = lists
        self.kind = f"IVF_SQ8, {lists} lists a segment"

    @classmethod
    def create(
        cls, path: Path, rows: Rows, kind: str = "", *, seed: int = 0, device: str = "cpu"
    ) -> Self:
        """Make an empty collection; see `VectorEngine.create`."""
        lite = import_module("milvus_lite")
        kinds = lite.DataType
        schema = lite.CollectionSchema(
            fields=[
                lite.FieldSchema(name="id", dtype=kinds.INT64, is_primary=True),
                lite.FieldSchema(name="vec", dtype=kinds.FLOAT_VECTOR, dim=rows.shape[1]),
            ]
        )
        database = lite.MilvusLite(str(path))
        lists = int(4 * math.sqrt(min(len(rows), _SEGMENT_ROWS)))
        collection = database.create_collection(_COLLECTION, schema)
        return cls(database, collection, rows.shape[1], lists)

    @classmethod
    def open(cls, path: Path, rows: Rows, kind: str) -> Self:
        """Load the collection; see `VectorEngine.open`."""
        database = import_module("milvus_lite").MilvusLite(str(path))
        collection = database.get_collection(_COLLECTION)
        collection.load()
        return cls(database, collection, rows.shape[1], int(kind.split()[1]))

    @property
    def max_breadth(self) -> int:
        """Return the number of inverted lists of a segment."""
        return self._lists

    def __len__(self) -> int:
        return self._count

    def _insert(self, rows: Rows) -> None:
        vectors = enumerate(rows.astype(np.float32).tolist(), self._count)
        self._collection.insert([{"id": row, "vec": vector} for row, vector in vectors])
        self._count += len(rows)

    def save(self, path: Path) -> None:
        """Write what was inserted, index it and load it."""
        self._collection.flush()
        if not self._collection.has_index("vec"):
            self._collection.create_index(
                "vec",
                {"index_type": "IVF_SQ8", "metric_type": "IP", "params": {"nlist": self._lists}},
            )
        self._collection.load()

    def close(self) -> None:
        """Release the database, which one process may hold at a time."""
        self._database.close()

    def _search(
        self, queries: Vectors, k: int, allowed: AllowedRows | None, effort: Effort
    ) -> Found:
        scores, rows = nothing_found(len(queries), k)
        answers = self._collection.search(
            queries.tolist(),
            top_k=k,
            metric_type="IP",
            output_fields=[],
            search_params={"nprobe": effort.breadth},
            expr=None if allowed is None else f"id in {allowed.ids.tolist()}",
        )
        for query, hits in enumerate(answers):
            rows[query, : len(hits)] = [hit["id"] for hit in hits]
            scores[query, : len(hits)] = [hit["distance"] for hit in hits]
        return scores, rows

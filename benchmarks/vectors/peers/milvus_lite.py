"""milvus-lite: Milvus in one process. It has no IVF-PQ; IVF_SQ8 is the smallest that it has."""

import math
from importlib import import_module
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.vectors.peers.base import Setting
from retrieval.embeddings import Rows
from retrieval.encoders.base import Vectors

_ROWS_PER_INSERT = 5_000
_SEGMENT_ROWS = 100_000
"""Most rows of a segment; each has lists of its own."""


class MilvusLiteMethod:
    """IVF_SQ8 through the embedded interface, without its server between."""

    name = builds = "milvus-lite"
    package = "milvus_lite"
    rows_in_file = False

    def build(self, rows: Rows, folder: Path, *, threads: int, seed: int) -> str:
        """See `Method.build`."""
        lite = import_module("milvus_lite")
        kinds = lite.DataType
        schema = lite.CollectionSchema(
            fields=[
                lite.FieldSchema(name="id", dtype=kinds.INT64, is_primary=True),
                lite.FieldSchema(name="vec", dtype=kinds.FLOAT_VECTOR, dim=rows.shape[1]),
            ]
        )
        database = lite.MilvusLite(str(folder / "milvus"))
        collection = database.create_collection("rows", schema)
        for first in range(0, len(rows), _ROWS_PER_INSERT):
            part = rows[first : first + _ROWS_PER_INSERT].astype(np.float32).tolist()
            collection.insert([{"id": first + at, "vec": one} for at, one in enumerate(part)])
        collection.flush()
        lists = int(4 * math.sqrt(min(len(rows), _SEGMENT_ROWS)))
        collection.create_index(
            "vec", {"index_type": "IVF_SQ8", "metric_type": "IP", "params": {"nlist": lists}}
        )
        collection.load()
        database.close()
        return f"IVF_SQ8, {lists} lists a segment"

    def open(self, rows: Rows, folder: Path, *, threads: int) -> None:
        """See `Method.open`."""
        self._database = import_module("milvus_lite").MilvusLite(str(folder / "milvus"))
        self._collection = self._database.get_collection("rows")
        self._collection.load()

    def settings(self, k: int) -> list[Setting]:
        """See `Method.settings`."""
        return [{"nprobe": nprobe} for nprobe in (4, 8, 16, 32, 64, 128)]

    def search(self, queries: Vectors, k: int, setting: Setting) -> NDArray[np.int64]:
        """See `Method.search`."""
        answers = self._collection.search(
            queries.tolist(), top_k=k, metric_type="IP", output_fields=[], search_params=setting
        )
        found = np.full((len(queries), k), -1, np.int64)
        for query, hits in enumerate(answers):
            found[query, : len(hits)] = [hit["id"] for hit in hits]
        return found

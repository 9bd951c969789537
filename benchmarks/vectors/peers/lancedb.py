"""lancedb: IVF-PQ on disk, refined from the vectors beside it."""

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.vectors.peers.base import Setting
from retrieval.embeddings import Rows
from retrieval.encoders.base import Vectors

_ROWS_PER_BATCH = 10_000
_DIMENSIONS_PER_CODE = 8


class LancedbMethod:
    """One code byte for 8 dimensions, as many as our own; the number of lists is its own choice.

    The vectors are stored in single precision, as its guides do: in half precision its package has
    no kernels for most processors, and building takes several times as long. A search of many
    queries is one call.
    """

    name = builds = "lancedb"
    package = "lancedb"
    rows_in_file = False

    def build(self, rows: Rows, folder: Path, *, threads: int, seed: int) -> str:
        """See `Method.build`."""
        pyarrow = import_module("pyarrow")
        dimension = rows.shape[1]
        schema = pyarrow.schema(
            [("id", pyarrow.int64()), ("vector", pyarrow.list_(pyarrow.float32(), dimension))]
        )

        def batches() -> "Iterator[object]":
            for first in range(0, len(rows), _ROWS_PER_BATCH):
                part = rows[first : first + _ROWS_PER_BATCH].astype(np.float32)
                values = pyarrow.array(part.reshape(-1), pyarrow.float32())
                ids = pyarrow.array(np.arange(first, first + len(part)))
                vectors = pyarrow.FixedSizeListArray.from_arrays(values, dimension)
                yield pyarrow.RecordBatch.from_arrays([ids, vectors], schema=schema)

        database = import_module("lancedb").connect(folder / "lance")
        table = database.create_table("rows", batches(), schema=schema)
        codes = dimension // _DIMENSIONS_PER_CODE
        kind = import_module("lancedb.index").IvfPq
        table.create_index("vector", config=kind(distance_type="cosine", num_sub_vectors=codes))
        return f"IVF_PQ, {codes} sub-vectors, lists by its own choice"

    def open(self, rows: Rows, folder: Path, *, threads: int) -> None:
        """See `Method.open`."""
        self._table = import_module("lancedb").connect(folder / "lance").open_table("rows")

    def settings(self, k: int) -> list[Setting]:
        """See `Method.settings`."""
        return [
            {"nprobes": nprobes, "refine_factor": factor}
            for factor in ((5, 20) if k < 100 else (5,))
            for nprobes in (2, 5, 10, 20, 40, 80)
        ]

    def search(self, queries: Vectors, k: int, setting: Setting) -> NDArray[np.int64]:
        """See `Method.search`."""
        many = len(queries) > 1
        answer = (
            self._table.search(queries if many else queries[0], vector_column_name="vector")
            .distance_type("cosine")
            .nprobes(setting["nprobes"])
            .refine_factor(setting["refine_factor"])
            .select(["id", "_distance"])
            .limit(k)
            .to_arrow()
        )
        ids = answer["id"].to_numpy()
        found = np.full((len(queries), k), -1, np.int64)
        if not many:
            found[0, : len(ids)] = ids
            return found
        owners = answer["query_index"].to_numpy()
        order = np.lexsort((answer["_distance"].to_numpy(), owners))
        for query in range(len(queries)):
            own = ids[order[owners[order] == query]]
            found[query, : len(own)] = own
        return found

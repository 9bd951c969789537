"""Milvus: a collection of a server, with inverted lists, a graph or codes over it.

Tested with 2.3.5, the newest server that PyPI carries. It has no vectors of half precision (2.4 has
them), no templates of filters (2.5) and no RaBitQ (2.6); its IVF_PQ does not refine, and takes
minutes to train. So vectors are sent in single precision, and refined here.
"""

import logging
import math
import time
from importlib import import_module
from urllib.parse import unquote, urlsplit

import numpy as np
from numpy.typing import NDArray

from retrieval.embeddings import Rows
from retrieval.encoders.base import Vectors
from retrieval.errors import UsageError
from retrieval.indices.base import AllowedRows, Effort, Found, IndexUnavailableError, nothing_found
from retrieval.indices.refine import filtered_fetch, keep_allowed, probes_for
from retrieval.indices.row_fields import FIELDS, Selection
from retrieval.indices.server import TIMEOUT_S, ServerEngine, split_kind

_BREADTHS = {
    "FLAT": None,
    "IVF_FLAT": "nprobe",
    "IVF_SQ8": "nprobe",
    "IVF_PQ": "nprobe",
    "IVF_RABITQ": "nprobe",
    "SCANN": "nprobe",
    "HNSW": "ef",
    "HNSW_SQ": "ef",
    "DISKANN": "search_list",
}
"""Kinds, and what the breadth of an effort is called there."""

_HNSW = {"M": 16, "efConstruction": 200}
_MOST_LISTS = 65_536
_MOST_HITS = 16_384
"""The longest list that a server gives."""

_MOST_EF = 32_768
_MOST_NAMED = 20_000
"""Rows that are named in a filter, which is a text: more take longer than a longer list does."""

_BUILD_TIMEOUT_S = 24 * 3600
_POLL_S = 0.2


class MilvusIndex(ServerEngine):
    """An index by Milvus's name and parameters: `IVF_SQ8,nlist=1024`, `HNSW,M=16`.

    The breadth of an effort is `nprobe`, `ef` or `search_list`, for each segment.
    """

    name = "milvus"
    library = "Milvus"
    package = "pymilvus"
    variable = "MMSEARCH_MILVUS"
    schemes = ("http", "https")
    example = "http://host:19530"
    extra = "milvus"
    block_rows = 5_000

    @classmethod
    def normalised(cls, kind: str, rows: int, dimension: int) -> str:
        """Check a kind and write it out in full; raises UsageError for an unknown one."""
        name, settings = split_kind(kind or "IVF_SQ8")
        if name not in _BREADTHS or not all(map(str.isidentifier, settings)):
            raise UsageError(
                f"{kind!r} is no kind of Milvus index: {', '.join(_BREADTHS)}, with parameters "
                "as in IVF_SQ8,nlist=1024."
            )
        if name.startswith("HNSW"):
            settings = _HNSW | settings
        elif _BREADTHS[name] == "nprobe":
            lists = settings.get("nlist") or round(4 * math.sqrt(rows))
            settings["nlist"] = min(max(1, lists), _MOST_LISTS)
            if name == "IVF_PQ":
                settings = {"m": _codes(dimension)} | settings
        return ",".join([name, *(f"{key}={value}" for key, value in settings.items())])

    @property
    def max_breadth(self) -> int:
        """Return the number of lists of a segment, or the length of a graph's candidate list."""
        return self._settings.get("nlist", min(_MOST_EF, max(1, len(self))))

    def _client_errors(self) -> tuple[type[Exception], ...]:
        errors = import_module("pymilvus.exceptions")
        return errors.MilvusException, errors.ParamError, import_module("grpc").RpcError

    def _connect(self, address: str) -> None:
        self._form, self._settings = split_kind(self.kind)
        client = import_module("pymilvus").MilvusClient
        # It writes each error with its traceback to standard error.
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL + 1)
        parts = urlsplit(address)
        self._client = client(
            uri=f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}",
            user=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
            db_name=parts.path.strip("/"),
            timeout=TIMEOUT_S,
        )

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _stored(self, count: int) -> int | None:
        if not self._client.has_collection(self.collection, timeout=TIMEOUT_S):
            return None
        self._client.load_collection(self.collection, timeout=_BUILD_TIMEOUT_S)
        return self._count_stored(count)

    def _count_stored(self, count: int) -> int:
        """Count rows below a number, once the server has seen all that was sent to it."""
        [told] = self._client.query(
            self.collection,
            filter=f"id < {count}",
            output_fields=["count(*)"],
            consistency_level="Strong",
            timeout=_BUILD_TIMEOUT_S,
        )
        return int(told["count(*)"])

    def _collections(self) -> list[str]:
        return list(self._client.list_collections(timeout=TIMEOUT_S))

    def _make(self, *, with_fields: bool) -> None:
        types = import_module("pymilvus").DataType
        schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", types.INT64, is_primary=True)
        schema.add_field("vector", types.FLOAT_VECTOR, dim=self.dimension)
        for name in FIELDS if with_fields else ():
            schema.add_field(name, types.INT64)
        self._client.create_collection(self.collection, schema=schema, timeout=6 * TIMEOUT_S)

    def _send(self, first: int, rows: Rows, fields: dict[str, NDArray[np.int64]] | None) -> None:
        columns = {"id": range(first, first + len(rows)), "vector": rows.astype(np.float32)}
        columns |= {name: values.tolist() for name, values in (fields or {}).items()}
        records = [
            dict(zip(columns, values, strict=True))
            for values in zip(*columns.values(), strict=True)
        ]
        self._client.upsert(self.collection, records, timeout=60 * TIMEOUT_S)

    def _finish(self) -> None:
        self._client.flush(self.collection, timeout=_BUILD_TIMEOUT_S)
        if not self._client.list_indexes(self.collection):
            asked = self._client.prepare_index_params()
            asked.add_index(
                "vector", index_type=self._form, metric_type="IP", params=self._settings
            )
            self._client.create_index(self.collection, asked, timeout=_BUILD_TIMEOUT_S)
        while True:
            told = self._client.describe_index(self.collection, "vector")
            if told.get("state") == "Failed":
                raise IndexUnavailableError(
                    f"Milvus could not build {self.kind}: {told.get('index_state_fail_reason')}"
                )
            if not told.get("pending_index_rows", 0):
                break
            time.sleep(_POLL_S)
        self._client.load_collection(self.collection, timeout=_BUILD_TIMEOUT_S)
        self._count_stored(self._count)

    def _remove_from(self, first: int) -> None:
        self._client.delete(self.collection, filter=f"id >= {first}", timeout=60 * TIMEOUT_S)

    def _drop(self, collection: str) -> None:
        self._client.drop_collection(collection, timeout=6 * TIMEOUT_S)

    def _find(
        self,
        queries: Vectors,
        k: int,
        selection: Selection | None,
        allowed: AllowedRows | None,
        effort: Effort,
    ) -> Found:
        if selection is None or allowed is None:
            return self._ask(queries, k, "", effort.breadth)
        breadth = probes_for(effort.breadth, allowed.count / len(self))
        fetch = filtered_fetch(k, allowed)
        if selection.named <= _MOST_NAMED or fetch > _MOST_HITS:
            return self._ask(queries, k, _expression(selection), breadth)
        found = keep_allowed(self._ask(queries, fetch, "", breadth), k, allowed)
        is_short = found[1][:, min(k, allowed.count) - 1] < 0
        if is_short.any():
            more = self._ask(queries[is_short], k, _expression(selection), breadth)
            found[0][is_short], found[1][is_short] = more
        return found

    def _ask(self, queries: Vectors, k: int, expression: str, breadth: int) -> Found:
        scores, rows = nothing_found(len(queries), k)
        name, limit = _BREADTHS[self._form], min(k, len(self), _MOST_HITS)
        breadth = min(max(1, breadth), self.max_breadth)
        if name != "nprobe":  # a candidate list is at least as long as what is asked for
            breadth = min(max(breadth, limit), _MOST_EF)
        answers = self._client.search(
            self.collection,
            data=queries,
            limit=limit,
            filter=expression,
            output_fields=[],
            search_params={"metric_type": "IP", "params": {name: breadth} if name else {}},
            consistency_level="Eventually",  # all has been seen since it was opened
            timeout=TIMEOUT_S,
        )
        for query, hits in enumerate(answers):
            found = [(hit["distance"], hit["id"]) for hit in hits][:k]
            if found:
                scores[query, : len(found)], rows[query, : len(found)] = zip(*found, strict=True)
        return scores, rows


def _expression(selection: Selection) -> str:
    """Write a selection as a filter of Milvus."""
    parts = [] if selection.condition is None else [str(selection.condition)]
    if len(selection.included):
        parts = [" or ".join([*parts, f"id in {selection.included.tolist()}"])]
    if len(selection.excluded):
        parts = [*(f"({part})" for part in parts), f"id not in {selection.excluded.tolist()}"]
    return " and ".join(parts)


def _codes(dimension: int) -> int:
    """Return the most sub-vectors of at least 8 dimensions."""
    wanted = max(1, dimension // 8)
    return next(parts for parts in range(wanted, 0, -1) if dimension % parts == 0)

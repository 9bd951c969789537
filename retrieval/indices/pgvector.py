"""pgvector: a table of a PostgreSQL database, with inverted lists or a graph over it.

It has no product quantisation. `HNSW_BITS` keeps the signs of the dimensions alone, an eighth of
what a code of pgvector's other kinds takes; all kinds are refined here.
"""

import math
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.embeddings import Rows
from retrieval.encoders.base import Vectors
from retrieval.errors import UsageError
from retrieval.indices.base import AllowedRows, Effort, Found, nothing_found
from retrieval.indices.refine import probes_for
from retrieval.indices.row_fields import FIELDS, Selection
from retrieval.indices.server import TIMEOUT_S, ServerEngine, split_kind

_DEFAULTS = {
    "IVFFLAT": {"lists": 0},
    "HNSW": {"m": 16, "ef_construction": 64},
    "HNSW_BITS": {"m": 16, "ef_construction": 64},
}
"""Kinds with their settings, whose defaults are those of pgvector; lists: by the rows."""

_MOST_DIMENSIONS = {"IVFFLAT": 4000, "HNSW": 4000, "HNSW_BITS": 64_000}
_MOST_LISTS = 32_768
_MOST_EF = 1000
_MOST_NAMED = 1000
"""Rows that are named one by one in a statement; more are sent as a bitmap."""

_MOST_MEMORY_KB = 2 << 20
"""Of the server, for building an index, in KiB."""


class PgvectorIndex(ServerEngine):
    """Half-precision vectors in lists (`IVFFLAT,lists=316`) or a graph (`HNSW`), or signs in one.

    The breadth of an effort is `ivfflat.probes` or `hnsw.ef_search`. Where rows are filtered,
    pgvector goes on until the list is full (iterative scans), from version 0.8 on.
    """

    name = library = "pgvector"
    package = "psycopg"
    variable = "MMSEARCH_PGVECTOR"
    schemes = ("postgresql", "postgres")
    example = "postgresql://user:password@host/database"
    extra = "postgresql"
    block_rows = 10_000

    @classmethod
    def normalised(cls, kind: str, rows: int, dimension: int) -> str:
        """Check a kind and write it out in full; raises UsageError for an unknown one."""
        name, given = split_kind(kind or "IVFFLAT")
        known = _DEFAULTS.get(name, {})
        if not known or not given.keys() <= known.keys():
            raise UsageError(
                f"{kind!r} is no kind of pgvector index: IVFFLAT,lists=316, "
                "HNSW,m=16,ef_construction=64 or HNSW_BITS."
            )
        settings = known | given
        if dimension > _MOST_DIMENSIONS[name]:
            raise UsageError(
                f"pgvector indexes up to {_MOST_DIMENSIONS[name]:,} dimensions as {name}, not "
                f"{dimension:,}."
            )
        if "lists" in settings:
            wanted = settings["lists"] or round(math.sqrt(rows))
            settings["lists"] = min(max(1, wanted), _MOST_LISTS)
        return ",".join([name, *(f"{key}={value}" for key, value in settings.items())])

    @property
    def max_breadth(self) -> int:
        """Return the number of lists, or the longest candidate list of a graph."""
        return self._settings.get("lists", _MOST_EF)

    def _client_errors(self) -> tuple[type[Exception], ...]:
        return (import_module("psycopg").Error,)

    def _connect(self, address: str) -> None:
        self._form, self._settings = split_kind(self.kind)
        self._idle: dict[bool, list[Any]] = {True: [], False: []}
        self._lock = threading.Lock()
        weakref.finalize(self, _close, self._idle)  # nobody closes what searches have used
        conninfo = import_module("psycopg.conninfo")
        try:
            self._options = conninfo.conninfo_to_dict(address)
        except import_module("psycopg").ProgrammingError:
            # libpq repeats the part that it does not understand, which may be of a password.
            raise UsageError(f"{self.variable} is no address that libpq understands.") from None
        self._options |= {
            "connect_timeout": TIMEOUT_S,
            "tcp_user_timeout": 1000 * TIMEOUT_S,
            "application_name": "mmsearch",
        }
        with self._connection():
            pass

    @contextmanager
    def _connection(self, *, to_search: bool = False) -> Iterator[Any]:
        """Take an idle connection or make one; it is closed where something fails.

        to_search: one whose statements may not take long.
        """
        with self._lock:
            idle = self._idle[to_search]
            connection = idle.pop() if idle else None
        if connection is None:
            connection = self._new_connection(to_search=to_search)
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        with self._lock:
            self._idle[to_search].append(connection)

    def _new_connection(self, *, to_search: bool) -> Any:
        connection = import_module("psycopg").connect(**self._options, autocommit=True)
        try:
            if self._is_new:
                connection.execute("create extension if not exists vector")
            import_module("pgvector.psycopg").register_vector(connection)
            if to_search:
                connection.execute(f"set statement_timeout = '{TIMEOUT_S}s'")
                connection.execute("set hnsw.max_scan_tuples = 2147483647")
        except BaseException:
            connection.close()
            raise
        return connection

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            _close(self._idle)

    def _stored(self, count: int) -> int | None:
        with self._connection() as connection:
            [found] = connection.execute("select to_regclass(%s)", [self.collection]).fetchone()
            if found is None:
                return None
            told = connection.execute(
                f"select count(*) from {self.collection} where id < %s", [count]
            )
            return int(told.fetchone()[0])

    def _collections(self) -> list[str]:
        with self._connection() as connection:
            told = connection.execute(
                "select relname from pg_class where relkind = 'r' and relname like 'mmsearch%' "
                "and pg_table_is_visible(oid)"
            )
            return [name for (name,) in told]

    def _make(self, *, with_fields: bool) -> None:
        column = "bit" if self._of_bits else "halfvec"
        fields = "".join(f", {name} bigint not null" for name in FIELDS if with_fields)
        with self._connection() as connection:
            connection.execute(
                f"create table {self.collection} (id bigint primary key, "
                f"vector {column}({self.dimension}) not null{fields})"
            )

    def _send(self, first: int, rows: Rows, fields: dict[str, NDArray[np.int64]] | None) -> None:
        names = ["id", "vector", *(fields or ())]
        kinds = ["int8", "bit" if self._of_bits else "halfvec"] + ["int8"] * len(fields or ())
        columns = [values.tolist() for values in (fields or {}).values()]
        with self._connection() as connection, connection.cursor() as cursor:
            statement = f"copy {self.collection} ({', '.join(names)}) from stdin (format binary)"
            with cursor.copy(statement) as copy:
                copy.set_types(kinds)
                for place, row in enumerate(rows):
                    values = [column[place] for column in columns]
                    copy.write_row([first + place, self._code(row), *values])

    def _finish(self) -> None:
        settings = ", ".join(f"{name} = {value}" for name, value in self._settings.items())
        method, _, bits = self._form.lower().partition("_")
        operators = "bit_hamming_ops" if bits else "halfvec_ip_ops"
        needed = self._count * self.dimension * 4 >> 10
        with self._connection() as connection:
            memory = min(max(needed, 64 << 10), _MOST_MEMORY_KB)
            connection.execute(f"set maintenance_work_mem = '{memory}kB'")
            connection.execute(
                f"create index if not exists {self.collection}_v on {self.collection} "
                f"using {method} (vector {operators}) with ({settings})"
            )
            connection.execute(f"analyze {self.collection}")
            connection.execute("reset maintenance_work_mem")

    def _remove_from(self, first: int) -> None:
        with self._connection() as connection:
            connection.execute(f"delete from {self.collection} where id >= %s", [first])

    def _drop(self, collection: str) -> None:
        with self._connection() as connection:
            connection.execute(f"drop table if exists {collection}")

    def _find(
        self,
        queries: Vectors,
        k: int,
        selection: Selection | None,
        allowed: AllowedRows | None,
        effort: Effort,
    ) -> Found:
        scores, rows = nothing_found(len(queries), k)
        where, values = _where(selection, allowed)
        operator = "<~>" if self._of_bits else "<#>"
        statement = (
            f"select id, vector {operator} %(query)s as distance from {self.collection} {where} "
            f"order by vector {operator} %(query)s limit %(k)s"
        )
        breadth = effort.breadth
        if allowed is not None:
            breadth = probes_for(breadth, allowed.count / len(self))
        with self._connection(to_search=True) as connection:
            cursors = []
            with connection.pipeline():
                for name, value in self._parameters(breadth, is_filtered=allowed is not None):
                    connection.execute("select set_config(%s, %s, false)", [name, value])
                for query in queries:
                    asked = values | {"query": self._code(query), "k": k}
                    cursors.append(connection.execute(statement, asked, binary=True))
            for place, cursor in enumerate(cursors):
                found = np.array(cursor.fetchall(), np.float64).reshape(-1, 2)
                found = found[np.argsort(found[:, 1], kind="stable")]
                rows[place, : len(found)] = found[:, 0]
                scores[place, : len(found)] = self._score(found[:, 1])
        return scores, rows

    def _parameters(self, breadth: int, *, is_filtered: bool) -> list[tuple[str, str]]:
        method = "ivfflat" if self._form == "IVFFLAT" else "hnsw"
        visited = "probes" if method == "ivfflat" else "ef_search"
        return [
            (f"{method}.{visited}", str(min(max(1, breadth), self.max_breadth))),
            (f"{method}.iterative_scan", "relaxed_order" if is_filtered else "off"),
        ]

    @property
    def _of_bits(self) -> bool:
        return self._form == "HNSW_BITS"

    def _code(self, vector: NDArray[np.floating]) -> Any:
        types = import_module("pgvector")
        if self._of_bits:
            return types.Bit(vector > 0)
        return types.HalfVector(vector)

    def _score(self, distances: NDArray[np.float64]) -> NDArray[np.float32]:
        """Estimate inner products: of signs, by the angle that they leave (Charikar, 2002)."""
        if self._of_bits:
            return np.cos(np.pi * distances / self.dimension).astype(np.float32)
        return (-distances).astype(np.float32)


def _close(idle: dict[bool, list[Any]]) -> None:
    for connections in idle.values():
        while connections:
            connections.pop().close()


def _where(selection: Selection | None, allowed: AllowedRows | None) -> tuple[str, dict[str, Any]]:
    """Write a selection as a condition of SQL and its values."""
    if selection is None or allowed is None:
        return "", {}
    if selection.named > _MOST_NAMED:
        # A row past the bitmap is of a newer generation.
        bitmap = np.packbits(allowed.bitmap, bitorder="little").tobytes()
        condition = "case when id < %(count)s then get_bit(%(bitmap)s, id) = 1 else false end"
        return f"where {condition}", {"bitmap": bitmap, "count": len(allowed.bitmap)}
    values: dict[str, Any] = {}
    condition = "true" if selection.condition is None else str(selection.condition)
    if len(selection.included):
        named = "id = any(%(included)s)"
        condition = named if selection.only_included else f"({condition} or {named})"
        values["included"] = selection.included.tolist()
    if len(selection.excluded):
        condition += " and id <> all(%(excluded)s)"
        values["excluded"] = selection.excluded.tolist()
    return f"where {condition}", values

"""What engines on servers share: their file, names that nobody can guess, and errors.

The vectors of a generation are a collection or table of its own on the server. Its file in the
library names it, and holds the fields that the server filters by. The address stands in an
environment variable, never in the library: who sends one cannot have it name a server that queries
are then sent to.
"""

import json
import os
import re
import secrets
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar, Self
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
import xxhash
from numpy.typing import NDArray

from retrieval.embeddings import Rows
from retrieval.encoders.base import Vectors
from retrieval.errors import MissingExtraError, UsageError, import_errors_as
from retrieval.indices.base import (
    AllowedRows,
    Effort,
    Found,
    IndexUnavailableError,
    UnsafeIndexError,
    VectorEngine,
)
from retrieval.indices.row_fields import FIELDS, NAMED, RowFields, Selection, Selector

TIMEOUT_S = 5
"""Seconds until a server that does not answer counts as away."""

_FORMAT = 1
_MOST_HEADER_BYTES = 1 << 28
_PREFIX = "mmsearch"
_COLLECTION = re.compile(rf"{_PREFIX}_[0-9a-f]{{16}}_[0-9a-f]{{16}}")
_NUMBER = np.dtype("<i8")
_HEADER = {"server": str, "collection": str, "kind": str, "rows": int, "dimension": int}


class ServerEngine(VectorEngine):
    """An index in a collection of its own on a server.

    An engine implements `_connect` and what follows it. Errors of its client, `client_errors`,
    become IndexUnavailableError, and passwords are taken out of their texts.

    variable: the environment variable with the address. schemes: of addresses.
    """

    reads_untrusted = True
    on_server = True
    detail_names = ("server", "collection")
    variable: ClassVar[str]
    schemes: ClassVar[tuple[str, ...]]
    example: ClassVar[str]
    extra: ClassVar[str]

    def __init__(
        self,
        collection: str,
        dimension: int,
        kind: str,
        *,
        count: int = 0,
        is_own: bool = True,
        fields: RowFields | None = None,
    ) -> None:
        self.collection = collection
        self.dimension = dimension
        self.kind = kind
        self.is_extendable = is_own
        self._count = count
        self._fields = fields
        self._selector = Selector(fields)
        self._is_new = count == 0
        self._address = address_of(type(self))
        with self._talking():
            self._connect(self._address)

    @classmethod
    def create(
        cls, path: Path, rows: Rows, kind: str = "", *, seed: int = 0, device: str = "cpu"
    ) -> Self:
        """Name a collection that `add` makes; see `VectorEngine.create`.

        Raises UsageError where no address is set, IndexUnavailableError where nobody answers.
        """
        kind = cls.normalised(kind, len(rows), rows.shape[1])
        owner = _owner(path)
        with import_errors_as(MissingExtraError(f"Indices in {cls.library}", cls.extra)):
            index = cls(f"{owner}_{secrets.token_hex(8)}", rows.shape[1], kind)
        index._remove_orphans(path, owner)
        return index

    @classmethod
    def open(cls, path: Path, rows: Rows, kind: str) -> Self:
        """Find the collection of a file; see `VectorEngine.open`.

        Raises IndexUnavailableError where it is not there, or the server is away.
        """
        facts, fields = read_file(path)
        if kind != facts["kind"]:
            raise UnsafeIndexError("its kind is another one than its description says")
        try:
            kind = cls.normalised(kind, facts["rows"], facts["dimension"])
        except UsageError as error:
            raise UnsafeIndexError(str(error)) from error
        collection, count = facts["collection"], facts["rows"]
        try:
            index = cls(
                collection,
                facts["dimension"],
                kind,
                count=count,
                is_own=collection.startswith(_owner(path)),
                fields=fields,
            )
        except UsageError as error:
            raise IndexUnavailableError(str(error).removesuffix(".")) from error
        try:
            with index._talking():
                found = index._stored(count)
        except IndexUnavailableError:
            index.close()
            raise
        if found != count:
            index.close()
            held = "is not there" if found is None else f"has {found:,} of {count:,} vectors"
            raise IndexUnavailableError(
                f"{collection} on the {cls.library} server at {index.server} {held}; it was built "
                f"at {facts['server']}"
            )
        return index

    @classmethod
    def discard(cls, path: Path, kept: Path | None = None) -> bool:
        """Drop the collection of a file, unless another file is of it, or it is another library's.

        Returns False where the server is away.
        """
        try:
            facts, _ = read_file(path)
        except (OSError, UnsafeIndexError):
            return True
        collection = facts["collection"]
        if not collection.startswith(_owner(path)):
            return True
        if kept is not None:
            with suppress(OSError, UnsafeIndexError):
                if read_file(kept)[0]["collection"] == collection:
                    return True
        try:
            index = cls(collection, facts["dimension"], facts["kind"], count=facts["rows"])
        except (ImportError, UsageError, IndexUnavailableError):
            return False
        try:
            with index._talking():
                index._drop(collection)
        except IndexUnavailableError:
            return False
        finally:
            index.close()
        return True

    @property
    def server(self) -> str:
        """The address without user and password."""
        return shown(self._address)

    def details(self) -> dict[str, Any]:
        """Where the vectors are."""
        return {"server": self.server, "collection": self.collection}

    def __len__(self) -> int:
        return self._count

    def add(
        self,
        rows: Rows,
        *,
        on_progress: Callable[[int, int], None] = lambda *_: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """Send the rows that follow, and have them indexed; see `VectorEngine.add`.

        What is not complete is dropped.
        """
        count, fields = self._count, self._fields
        try:
            with self._talking():
                if self._is_new:
                    if self.fields_of is not None:
                        self._fields = RowFields.empty()
                    self._make(with_fields=self._fields is not None)
                else:
                    self._remove_from(self._count)  # what a build that was killed left
                super().add(rows, on_progress=on_progress, should_stop=should_stop)
                self._finish()
        except BaseException:
            self._count, self._fields = count, fields
            if self._is_new:
                self.abandon()
            raise
        self._is_new = False
        self._selector = Selector(self._fields)

    def abandon(self) -> None:
        """Drop the collection, which no file names."""
        with suppress(IndexUnavailableError), self._talking():
            self._drop(self.collection)

    def _insert(self, rows: Rows) -> None:
        first, last = self._count, self._count + len(rows)
        added = None
        if self._fields is not None:
            items = self.fields_of(first, last) if self.fields_of is not None else ()
            self._fields = self._fields.extended(RowFields.of(items, first, last))
            added = {name: self._fields.values[name][first:last] for name in FIELDS}
        self._send(first, rows, added)
        self._count = last

    def save(self, path: Path) -> None:
        """Write the file that names the collection, with the fields of its rows."""
        fields = self._fields
        header = {
            "format": _FORMAT,
            "server": self.server,
            "collection": self.collection,
            "kind": self.kind,
            "rows": self._count,
            "dimension": self.dimension,
            "names": None if fields is None else fields.names,
        }
        with path.open("wb") as file:
            file.write(json.dumps(header).encode() + b"\n")
            for name in FIELDS if fields is not None else ():
                file.write(fields.values[name].astype(_NUMBER).tobytes())  # type: ignore[union-attr]

    def _search(
        self, queries: Vectors, k: int, allowed: AllowedRows | None, effort: Effort
    ) -> Found:
        selection = None if allowed is None else self._selector.select(allowed)
        if selection is not None and not selection.named and selection.condition is None:
            selection = None  # all of them
        with self._talking():
            scores, rows = self._find(queries, k, selection, allowed, effort)
        # An old generation's collection may hold rows of a newer one, too.
        is_other = (rows < 0) | (rows >= self._count)
        if is_other.any():
            scores[is_other], rows[is_other] = -np.inf, -1
            order = np.argsort(is_other, axis=1, kind="stable")
            scores = np.take_along_axis(scores, order, axis=1)
            rows = np.take_along_axis(rows, order, axis=1)
        return scores, rows

    def _remove_orphans(self, path: Path, owner: str) -> None:
        """Drop what builds of this library made that were killed; nobody else builds now."""
        named = set()
        for file in path.parent.glob(f"*.{self.name}*"):
            with suppress(OSError, UnsafeIndexError):
                named.add(read_file(file)[0]["collection"])
        with self._talking():
            for collection in self._collections():
                is_ours = _COLLECTION.fullmatch(collection) and collection.startswith(owner)
                if is_ours and collection not in named:
                    self._drop(collection)

    @contextmanager
    def _talking(self) -> Iterator[None]:
        """Turn errors of the client into one that names the server and no password."""
        try:
            yield
        except self._client_errors() as error:
            told = str(error).strip().splitlines() or [type(error).__name__]
            reason = told[0]
            for secret in secrets_of(self._address):
                reason = reason.replace(secret, "***")
            raise IndexUnavailableError(
                f"the {self.library} server at {self.server} does not answer as it should: "
                f"{reason[:300]}"
            ) from None

    @classmethod
    @abstractmethod
    def normalised(cls, kind: str, rows: int, dimension: int) -> str:
        """Check a kind and write it out in full; raises UsageError for an unknown one."""

    @abstractmethod
    def _client_errors(self) -> tuple[type[Exception], ...]: ...

    @abstractmethod
    def _connect(self, address: str) -> None: ...

    @abstractmethod
    def _stored(self, count: int) -> int | None:
        """Count the rows below `count` on the server; None where there is no collection."""

    @abstractmethod
    def _collections(self) -> list[str]: ...

    @abstractmethod
    def _make(self, *, with_fields: bool) -> None:
        """Make the collection."""

    @abstractmethod
    def _send(
        self, first: int, rows: Rows, fields: dict[str, NDArray[np.int64]] | None
    ) -> None: ...

    @abstractmethod
    def _finish(self) -> None:
        """Index what was sent, and wait until searches find it."""

    @abstractmethod
    def _remove_from(self, first: int) -> None:
        """Remove the rows from a number on."""

    @abstractmethod
    def _drop(self, collection: str) -> None: ...

    @abstractmethod
    def _find(
        self,
        queries: Vectors,
        k: int,
        selection: Selection | None,
        allowed: AllowedRows | None,
        effort: Effort,
    ) -> Found: ...


def address_of(engine: type[ServerEngine]) -> str:
    """Read the address of an engine's server from its variable; raises UsageError."""
    address = os.environ.get(engine.variable, "").strip()
    if not address:
        raise UsageError(
            f"An index in {engine.library} needs the address of the server: set "
            f"{engine.variable}={engine.example}."
        )
    with suppress(ValueError):
        parts = urlsplit(address)
        if parts.scheme in engine.schemes:
            return address
    raise UsageError(
        f"{engine.variable} is no address of {engine.library}, such as {engine.example}."
    )


def shown(address: str) -> str:
    """Write an address without user, password and options."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"


def secrets_of(address: str) -> list[str]:
    """List the passwords in an address, as they stand there and as they are meant."""
    parts = urlsplit(address)
    _, _, password = parts.netloc.rpartition("@")[0].partition(":")
    given = [password, *parse_qs(parts.query).get("password", ())]
    return [spelled for secret in filter(None, given) for spelled in (secret, unquote(secret))]


def split_kind(kind: str) -> tuple[str, dict[str, int]]:
    """Split `IVF_SQ8,nlist=64` into its name and numbers; raises UsageError."""
    name, *settings = kind.split(",")
    numbers = {}
    for setting in settings:
        key, _, value = setting.partition("=")
        if not re.fullmatch("[0-9]{1,9}", value):
            raise UsageError(f"{setting!r} in {kind!r} is no setting such as nlist=64.")
        numbers[key.strip()] = int(value)
    return name.strip(), numbers


def read_file(path: Path) -> tuple[dict[str, Any], RowFields | None]:
    """Read what `ServerEngine.save` wrote; raises UnsafeIndexError for anything else."""
    with path.open("rb") as file:
        first = file.readline(_MOST_HEADER_BYTES)
        try:
            facts = json.loads(first)
            collection, count, names = facts["collection"], facts["rows"], facts["names"]
            is_known = facts["format"] == _FORMAT and all(
                isinstance(facts[name], kind) for name, kind in _HEADER.items()
            )
            is_known = is_known and bool(_COLLECTION.fullmatch(collection)) and count > 0
            if names is not None:
                is_known = is_known and set(names) == set(NAMED)
                of_texts = (isinstance(name, str) for known in names.values() for name in known)
                is_known = is_known and all(of_texts)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise UnsafeIndexError("it names no collection") from error
        size = 0 if names is None else count * len(FIELDS) * _NUMBER.itemsize
        if not is_known or path.stat().st_size != len(first) + size:
            raise UnsafeIndexError("its parts do not fit together")
        if names is None:
            return facts, None
        values = {name: np.fromfile(file, _NUMBER, count) for name in FIELDS}
    return facts, RowFields(values, names)


def _owner(path: Path) -> str:
    """Begin the names of all collections of a modality of one library, which no copy shares."""
    folder = path.parent.resolve()
    modality = re.split("[-.]", path.name)[0]
    told = f"{folder}|{folder.stat().st_ino}|{modality}"
    return f"{_PREFIX}_{xxhash.xxh3_64_hexdigest(os.fsencode(told))}"

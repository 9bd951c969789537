"""Other forms of a library that must give the same answers.

A further one is a class with `follow`, which brings it in step with the library and returns what is
searched, and a line in `TWINS`. Its constructor gets the library, a directory of its own, and
`request` for fixtures.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import pytest

from retrieval.library import Library


class Twin(Protocol):
    """Another form of a library.

    forgets: the words of removed files do not count in lexical scores, as they do in a catalog,
    where such a file may return: its answers are those of a library that never had them.
    """

    forgets: bool

    def follow(self) -> Any:
        """Bring it in step with the library; return what has `search` and `catalog`."""
        ...


class TableCopies:
    """The library as a Lance table in a directory, and a copy of that."""

    forgets = True
    location: str

    def __init__(self, library: Library, work: Path, request: pytest.FixtureRequest) -> None:
        pytest.importorskip("lance", reason="needs Lance: pip install 'mmsearch[cluster]'")
        self._library = library
        self._work = work
        self.location = f"lance:{work}/table"
        self._copy: Any = None

    def follow(self) -> Library:
        from retrieval.lance.copies import open_copy
        from retrieval.lance.export import export_library
        from retrieval.lance.table import LanceTable

        export_library(self._library, self.location)
        if self._copy is None:
            table = LanceTable.open(self.location)
            self._copy = open_copy(table, self._work / "copy")
        self._copy.update()
        copy: Library = self._copy.library
        return copy


class StoreCopies(TableCopies):
    """The same in an object store."""

    def __init__(self, library: Library, work: Path, request: pytest.FixtureRequest) -> None:
        super().__init__(library, work, request)
        bucket = request.getfixturevalue("module_bucket")
        self.location = f"lance+s3://{bucket}/{type(self).__name__}"


class TableImports(TableCopies):
    """The library as a Lance table, imported each time into a new library."""

    def follow(self) -> Library:
        from retrieval.lance.copies import open_import
        from retrieval.lance.export import export_library
        from retrieval.lance.table import LanceTable

        export_library(self._library, self.location)
        number = len(list(self._work.glob("imported-*")))
        taken = open_import(LanceTable.open(self.location), self._work / f"imported-{number}")
        taken.update()
        return taken.library


class OpenedTable(TableCopies):
    """The library as a Lance table, searched where it is."""

    def follow(self) -> Library:
        from retrieval.lance.export import export_library
        from retrieval.lance.table import LanceTable
        from retrieval.library import open_library

        export_library(self._library, self.location)
        LanceTable.open(self.location).create_indices()
        if self._copy is None:
            self._copy = open_library(self.location)
        self._copy.refresh()
        opened: Library = self._copy
        return opened


class OpenedStore(OpenedTable, StoreCopies):
    """The same in an object store."""


TWINS: dict[str, Callable[[Library, Path, pytest.FixtureRequest], Twin]] = {
    "copy of a table": TableCopies,
    "copy of a table in a store": StoreCopies,
    "import of a table": TableImports,
    "table that is opened": OpenedTable,
    "table in a store that is opened": OpenedStore,
}

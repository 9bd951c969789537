"""Catalogs that somebody made to do harm: a clear message in bounded time, or an answer."""

import shutil
import sqlite3
import time

import pytest

from retrieval.catalog.database import Catalog
from retrieval.errors import MMSearchError
from retrieval.library import open_library
from retrieval.media import Modality

pytestmark = pytest.mark.slow

MOST_SECONDS = 20

RECURSIVE = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c)"

REFUSED = {
    "recursive view as a table": [
        "ALTER TABLE sources RENAME TO other",
        f"CREATE VIEW sources AS {RECURSIVE} SELECT x AS id, '/' AS path, x AS added_at, "
        "NULL AS options, NULL AS beside FROM c",
    ],
    "view beside the tables": [f"CREATE VIEW more AS {RECURSIVE} SELECT x FROM c"],
    "recursive view as the version": [
        "ALTER TABLE alembic_version RENAME TO other",
        f"CREATE VIEW alembic_version AS {RECURSIVE} SELECT x AS version_num FROM c",
    ],
    "trigger": ["CREATE TRIGGER t AFTER UPDATE ON files BEGIN DELETE FROM items; END"],
    "virtual table": ["CREATE VIRTUAL TABLE more USING fts5(a)"],
    "virtual table as a table": [
        "ALTER TABLE sources RENAME TO other",
        "CREATE VIRTUAL TABLE sources USING fts5(id, path, added_at, options, beside)",
    ],
    "computed column": [
        "ALTER TABLE sources ADD COLUMN more AS (hex(zeroblob(100000000)))",
    ],
    "thousands of tables": [f"CREATE TABLE t{number} (a)" for number in range(1200)],
    "version of another kind": ["UPDATE alembic_version SET version_num = x'ff00'"],
    "no version": ["DELETE FROM alembic_version"],
    "extent a text": ["UPDATE extents SET row_count = 'abc'"],
    "extent negative": ["UPDATE extents SET row_count = -5"],
    "extent a fraction": ["UPDATE extents SET row_count = 1.5"],
    "extent huge": ["UPDATE extents SET row_count = 1000000000000"],
    "row negative": ["UPDATE rows SET row = -1"],
    "row a text": ["UPDATE rows SET row = 'x'"],
    "row huge": ["UPDATE rows SET row = 9223372036854775807"],
    "width a text": ["UPDATE items SET width = 'x'"],
    "text a blob": ["UPDATE items SET text = x'ff00ff'"],
    "options of another kind": ["UPDATE sources SET options = '[1]'"],
}

ANSWERED_OR_REFUSED = {
    "file id a text": ["UPDATE rows SET file_id = 'x'"],
    "modality unknown": ["UPDATE items SET modality = 'audio'"],
    "kind unknown": ["UPDATE files SET kind = 'evil'"],
    "path a text": ["UPDATE files SET path = CAST(path AS TEXT)"],
    "path with NUL": ["UPDATE files SET path = x'2f00' || id"],
    "columns no JSON": ["UPDATE items SET columns = '{'"],
    "columns deep": [f"UPDATE items SET columns = '{'[' * 50_000}{']' * 50_000}'"],
    "columns a list": ["UPDATE items SET columns = '[1]'"],
    "options deep": [f"UPDATE sources SET options = '{'[' * 50_000}'"],
    "date a text": ["UPDATE files SET taken_at = 'x', taken_local = 'x', date = 'x'"],
    "date huge": ["UPDATE files SET taken_at = 9e18, taken_local = 9000000000000000000"],
    "size a text": ["UPDATE files SET size = 'x', mtime_ns = 'x'"],
    "hash a path": ["UPDATE files SET content_hash = '../../x' || id", "DELETE FROM rows"],
    "camera a blob": ["UPDATE files SET camera = x'00'"],
    "codes cut": ["UPDATE codes SET codes = x'00'"],
}


@pytest.fixture
def copy(indexed_library, tmp_path):
    """A copy of a library of a few pictures, whose catalog may be changed."""
    indexed_library.close()
    shutil.copytree(indexed_library.path, tmp_path / "copy")
    return tmp_path / "copy"


def tamper(library, statements):
    with sqlite3.connect(library / "catalog.sqlite") as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


def use(library):
    """Ask for all that a search and `status` ask for."""
    opened = open_library(library)
    try:
        list(opened.search("a red square", k=5))
        list(opened.search("red", mode="text", k=5))
        opened.facets()
        with opened.catalog.snapshot() as snapshot:
            space = opened.space()
            snapshot.live_rows(space.id, Modality.IMAGE)
            snapshot.counts(space.id)
            snapshot.sources()
            snapshot.source_options()
            snapshot.failures()
            snapshot.columns()
            for items in snapshot.items_at(space.id, Modality.IMAGE, [0]).values():
                assert not any("/" in item.picture_key for item in items)
    finally:
        opened.close()


@pytest.mark.parametrize("name", REFUSED)
def test_is_refused(copy, name):
    tamper(copy, REFUSED[name])
    began = time.monotonic()
    with pytest.raises(MMSearchError):
        use(copy)
    assert time.monotonic() - began < MOST_SECONDS


@pytest.mark.parametrize("name", ANSWERED_OR_REFUSED)
def test_is_answered_or_refused(copy, name):
    tamper(copy, ANSWERED_OR_REFUSED[name])
    began = time.monotonic()
    try:
        use(copy)
    except MMSearchError as error:
        assert len(str(error)) < 2000  # noqa: PT017 - it need not be raised
    assert time.monotonic() - began < MOST_SECONDS


def test_a_whole_copy_is_used(copy):
    use(copy)


def test_no_code_of_the_schema_is_trusted(copy):
    catalog = Catalog(copy / "catalog.sqlite")
    with catalog.snapshot() as snapshot:
        asked = snapshot._connection.exec_driver_sql("PRAGMA trusted_schema").scalar()
    catalog.close()
    assert asked == 0

"""What only a database server does: several processes, lost connections, rights."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from retrieval.catalog import Catalog, FileEntry, FileUpdate, ItemEntry
from retrieval.catalog.dialects.postgresql.dialect import PostgreSQL
from retrieval.catalog.schema import CellValueRecord, FileRecord
from retrieval.errors import (
    LibraryError,
    LibraryLockedError,
    ReadOnlyLibraryError,
    UsageError,
)
from retrieval.filters import ColumnTest, Filter
from retrieval.media import MediaKind, Metadata, Modality

pytestmark = pytest.mark.slow

SPACE = "space"


@pytest.fixture
def location(new_schema):
    return new_schema()


@pytest.fixture
def catalog(location):
    catalog = Catalog(location)
    catalog.migrate()
    yield catalog
    catalog.close()


def add(transaction, paths, **metadata):
    first = transaction.row_count(SPACE, Modality.IMAGE)
    transaction.extend_rows(SPACE, Modality.IMAGE, first, len(paths))
    transaction.record_files(
        SPACE,
        [
            FileUpdate(
                FileEntry(path, MediaKind.IMAGE, 9, 1, f"content {row}", Metadata(**metadata)),
                [ItemEntry(Modality.IMAGE, row, width=4, height=3)],
            )
            for row, path in enumerate(paths, first)
        ],
    )


def paths_of(catalog):
    with catalog.snapshot() as snapshot:
        return [file.path for file in snapshot.indexed_files()]


WRITER = """
import sys
sys.path.insert(0, sys.argv[2])
from retrieval.catalog import Catalog, FileEntry, FileUpdate, ItemEntry
from retrieval.media import MediaKind, Modality
catalog = Catalog(sys.argv[1])
with catalog.dialect.writer():
    for number in range(10**6):
        with catalog.transaction() as transaction:
            first = transaction.row_count("space", Modality.IMAGE)
            transaction.extend_rows("space", Modality.IMAGE, first, 50)
            files = [FileEntry(f"/{first}/{n}.jpg", MediaKind.IMAGE, 9, 1, f"{first + n}")
                     for n in range(50)]
            transaction.record_files("space", [
                FileUpdate(file, [ItemEntry(Modality.IMAGE, first + n, width=4, height=3)],
                           annotations=[(file.path, {"n": n})])
                for n, file in enumerate(files)])
        print(first + 50, flush=True)
"""


def start_writer(location) -> subprocess.Popen[str]:
    root = str(Path(__file__).parents[5])
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, location, root], stdout=subprocess.PIPE, text=True
    )


def test_a_killed_writer_leaves_nothing_half_and_lets_go(catalog, location):
    acknowledged = 0
    for delay in (0.0, 0.013, 0.029, 0.041, 0.067):
        with start_writer(location) as process:
            assert process.stdout is not None
            acknowledged = int(process.stdout.readline())
            with pytest.raises(LibraryLockedError, match=rf"process {process.pid} on "):
                catalog.dialect.writer().__enter__()
            time.sleep(delay)
            process.send_signal(signal.SIGKILL)
            acknowledged = int((process.stdout.read().split() or [acknowledged])[-1])
        deadline = time.monotonic() + 30
        while True:  # the server notices the end of the connection
            try:
                with catalog.dialect.writer(), catalog.transaction() as transaction:
                    count = transaction.row_count(SPACE, Modality.IMAGE)
                    break
            except LibraryLockedError:
                assert time.monotonic() < deadline
        assert acknowledged <= count <= acknowledged + 50
        with catalog.snapshot() as snapshot:
            assert snapshot.rows_in_use(SPACE, Modality.IMAGE).tolist() == list(range(count))
            assert snapshot.counts(SPACE).indexed == count
        assert catalog.dialect.find_damage() == []


def test_readers_see_one_state_and_never_wait(catalog, location):
    other = Catalog(location)
    with other.transaction() as transaction:
        add(transaction, ["/a.jpg"])
    with catalog.snapshot() as snapshot:
        assert snapshot.row_count(SPACE, Modality.IMAGE) == 1
        with other.transaction() as transaction:
            add(transaction, ["/b.jpg"])
            assert paths_of(catalog) == ["/a.jpg"]  # not yet committed
        assert [file.path for file in snapshot.indexed_files()] == ["/a.jpg"]
    assert paths_of(catalog) == ["/a.jpg", "/b.jpg"]
    other.close()


def test_a_reader_cannot_write(catalog):
    with (
        pytest.raises(ReadOnlyLibraryError, match="may only be read"),
        catalog.dialect.connect(write=False) as connection,
    ):
        connection.execute(sa.text("DELETE FROM files"))


def test_transactions_wait_for_each_other(catalog, location):
    other = Catalog(location)
    entered = threading.Event()

    def write_slowly():
        with other.transaction() as transaction:
            entered.set()
            add(transaction, ["/a.jpg"])
            time.sleep(0.2)

    thread = threading.Thread(target=write_slowly)
    thread.start()
    entered.wait(10)
    with catalog.transaction() as transaction:
        assert transaction.row_count(SPACE, Modality.IMAGE) == 1
        add(transaction, ["/b.jpg"])
    thread.join()
    assert paths_of(catalog) == ["/a.jpg", "/b.jpg"]
    other.close()


def end_connections(catalog):
    """End all other connections, as a server does that is restarted."""
    with catalog.dialect.connect(write=False) as connection:
        connection.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
            "AND application_name LIKE 'mmsearch%%'"
        )


def test_a_reader_goes_on_after_a_restart_of_the_server(catalog, location):
    other = Catalog(location)
    before = other.dialect.version()
    assert paths_of(other) == []
    end_connections(catalog)
    assert other.dialect.version() == before
    assert paths_of(other) == []
    other.close()


def test_a_writer_that_lost_its_lock_does_not_write(catalog, location):
    other = Catalog(location)

    def write():
        with other.dialect.writer():
            end_connections(catalog)
            with catalog.dialect.writer(), other.transaction() as transaction:
                add(transaction, ["/a.jpg"])

    with pytest.raises(LibraryError, match="Cannot use the catalog"):
        write()
    assert paths_of(catalog) == []
    other.close()


def test_the_version_stays_where_nothing_was_written(catalog):
    before = catalog.dialect.version()
    with catalog.transaction() as transaction:
        transaction.mark_removed(["/nowhere"])
        transaction.sources()
    assert catalog.dialect.version() == before


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:hidden@127.0.0.1:1/db",
        "postgresql://me:hidden@/db?host=/nowhere",
        "postgresql://me:hidden@no-such-host.invalid/db",
    ],
)
def test_a_server_that_is_not_there_is_named_without_the_password(url):
    catalog = Catalog(url)
    with pytest.raises(LibraryError, match=r"Cannot use the catalog postgresql://me@") as refused:
        catalog.check_schema()
    assert "hidden" not in str(refused.value)
    catalog.close()


def test_a_database_that_is_not_there_is_told(location):
    catalog = Catalog(location.replace("/postgres?", "/no_such_database?"))
    with pytest.raises(LibraryError, match="no_such_database"):
        catalog.check_schema()
    catalog.close()


def test_a_user_who_may_only_read_can_search(catalog, location):
    with catalog.transaction() as transaction:
        add(transaction, ["/a dog.jpg"], camera="Canon")
    schema = catalog.dialect._schema
    with catalog.dialect.connect(write=True) as connection:
        connection.exec_driver_sql("DROP ROLE IF EXISTS reader")
        connection.exec_driver_sql("CREATE ROLE reader LOGIN")
        connection.exec_driver_sql(f"GRANT USAGE ON SCHEMA {schema} TO reader")
        connection.exec_driver_sql(f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO reader")
    reader = Catalog(location.replace("//postgres:@", "//reader@"))
    reader.check_schema()
    reader.dialect.version()
    with reader.snapshot() as snapshot:
        assert len(snapshot.text_matches(SPACE, Modality.IMAGE, "dog", limit=5)) == 1
        table = snapshot.item_table(SPACE, Modality.IMAGE)
        where = Filter(camera="canon", path="*.jpg")
        assert snapshot.passing(SPACE, Modality.IMAGE, table, where).tolist() == [True]
    with pytest.raises(ReadOnlyLibraryError), reader.transaction() as transaction:
        add(transaction, ["/b.jpg"])
    reader.close()
    with catalog.dialect.connect(write=True) as connection:
        connection.exec_driver_sql("DROP OWNED BY reader")
        connection.exec_driver_sql("DROP ROLE reader")


def test_a_catalog_is_of_one_library(catalog, location):
    catalog.dialect.claim(Path("/one"))
    catalog.dialect.claim(Path("/one"))
    with pytest.raises(UsageError, match=r"catalog of another library already .*:/one"):
        catalog.dialect.claim(Path("/two"))


def test_two_libraries_share_a_database(catalog, new_schema):
    other = Catalog(new_schema())
    other.migrate()
    with catalog.dialect.writer(), other.dialect.writer(), other.transaction() as transaction:
        add(transaction, ["/a.jpg"])
    assert (paths_of(catalog), paths_of(other)) == ([], ["/a.jpg"])
    other.close()


def test_paths_and_texts_come_back_as_they_were(catalog):
    paths = [os.fsdecode(b"/\xff\xfe/a.jpg"), "/雪/😀 '\"%_\\.jpg", "/new\nline.jpg"]
    with catalog.transaction() as transaction:
        add(transaction, paths, text="a\0b", camera="Ca\0non", latitude=float("nan"))
        transaction.record_files(
            SPACE,
            [
                FileUpdate(
                    FileEntry("/t.csv", MediaKind.TABLE, 1, 1, "t"),
                    annotations=[(path, {"a\0": "\0\ud800", "b": 2**70}) for path in paths],
                )
            ],
        )
    with catalog.snapshot() as snapshot:
        assert sorted(file.path for file in snapshot.indexed_files()) == sorted([*paths, "/t.csv"])
        [item] = snapshot.items_at(SPACE, Modality.IMAGE, [0])[0]
        details = snapshot.details(item)
        assert details.metadata.text == "a\ufffdb"  # NUL is what PostgreSQL cannot store
        assert details.metadata.latitude is None
        assert details.annotations == [{"a\0": "\0\ud800", "b": 2**70}]


def test_numbers_are_compared_exactly(catalog):
    values = [2**53, 2**53 + 1, 2**63 - 1, -(2**63) + 1, 0.1, 1e300, 5e-324]
    with catalog.transaction() as transaction:
        add(transaction, [f"/{number}.jpg" for number in range(len(values))])
        said = [(f"/{number}.jpg", {"n": value}) for number, value in enumerate(values)]
        table = FileEntry("/t.csv", MediaKind.TABLE, 1, 1, "t")
        transaction.record_files(SPACE, [FileUpdate(table, annotations=said)])
        items = transaction.item_table(SPACE, Modality.IMAGE)
        for value in values:
            test = {"n": ColumnTest(equals=value)}
            passing = transaction.passing(SPACE, Modality.IMAGE, items, Filter(columns=test))
            assert passing.tolist() == [value == other for other in values]
            if abs(value) < 2**53 or isinstance(value, float):
                test = {"n": ColumnTest(min=value)}
                passing = transaction.passing(SPACE, Modality.IMAGE, items, Filter(columns=test))
                assert passing.tolist() == [other >= value for other in values]


def test_a_number_out_of_range_is_just_not_there(catalog):
    with catalog.snapshot() as snapshot:
        for number in (2**31, 2**40, 2**63, 2**80):
            assert snapshot.item(number) is None
            assert snapshot.items_of_ids([number]) == {}


def test_integers_are_read_and_written_in_bulk(catalog):
    rows = np.arange(200_000).tolist()
    names = ("id", "digest", "name", "value", "folded", "number", "truth")
    with catalog.dialect.connect(write=True) as connection:
        catalog.dialect.insert_rows(
            connection,
            CellValueRecord,
            names,
            [(n + 1, -n, "name", "1", "1", 0.5, n % 2 == 0) for n in rows],
        )
        query = sa.select(CellValueRecord.digest, CellValueRecord.id)
        ordered = query.order_by(CellValueRecord.digest)
        digests, ids = catalog.dialect.read_integers(connection, ordered)
        assert digests.tolist() == [-n for n in reversed(rows)]
        assert ids.tolist() == [n + 1 for n in reversed(rows)]
        [nothing] = catalog.dialect.read_integers(connection, sa.select(FileRecord.id))
        assert nothing.tolist() == []


def test_what_does_not_agree_is_found_and_repaired(catalog):
    with catalog.transaction() as transaction:
        add(transaction, ["/a.jpg", "/b.jpg"])
    with catalog.dialect.connect(write=True) as connection:
        connection.exec_driver_sql("UPDATE file_words_size SET tokens = tokens + 1")
        connection.exec_driver_sql("ALTER TABLE items DISABLE TRIGGER ALL")
        connection.exec_driver_sql("UPDATE items SET file_id = 99 WHERE id = 1")
    orphans = "records of items name others that are not there"
    text = "the text index file_words does not agree with its texts"
    assert catalog.dialect.find_damage() == [orphans, text]
    assert catalog.dialect.find_damage(repair=True) == [orphans]


def test_the_planner_is_told_of_the_rows(catalog):
    with catalog.transaction() as transaction:
        add(transaction, [f"/{number}.jpg" for number in range(300)])
    catalog.dialect.seal()
    with catalog.dialect.connect(write=False) as connection:
        query = sa.text("SELECT reltuples FROM pg_class WHERE oid = 'files'::regclass")
        assert connection.scalar(query) == 300


def test_a_backup_is_left_to_the_tools_of_the_server(catalog, tmp_path):
    with pytest.raises(LibraryError, match=r"is not a file.*pg_dump"):
        catalog.dialect.back_up(tmp_path / "copy")


def test_a_schema_of_somebody_else_is_left_alone(location):
    dialect = PostgreSQL(sa.make_url(location))
    assert not dialect.exists()
    with dialect._engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE SCHEMA {dialect._schema}")
        connection.exec_driver_sql("CREATE TABLE mine (x integer)")
    assert dialect.exists()
    dialect.close()
    catalog = Catalog(location)
    with pytest.raises(LibraryError, match="not a catalog of mmsearch"):
        catalog.migrate()
    with catalog.dialect.connect(write=False) as connection:
        assert sa.inspect(connection).get_table_names() == ["mine"]
    catalog.close()

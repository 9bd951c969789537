import os
import shutil
import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.catalog import Catalog
from retrieval.catalog.dialects.commit_record import (
    CommitRecord,
    read_record,
    record_path,
    write_record,
)


@pytest.fixture
def path(tmp_path):
    catalog = Catalog(tmp_path / "catalog.sqlite")
    catalog.migrate()
    catalog.close()
    return tmp_path / "catalog.sqlite"


def add_source(catalog, name):
    with catalog.transaction() as transaction:
        transaction.add_sources({name: None})


@given(st.integers(0, 10**10 - 1), st.none() | st.from_regex(r"\A[0-9a-f]{32}\Z"))
def test_a_record_is_read_as_written(tmp_path_factory, commits, checksum):
    catalog = tmp_path_factory.mktemp("records") / "catalog.sqlite"
    record = CommitRecord(commits, checksum)
    write_record(catalog, CommitRecord(1))
    write_record(catalog, record)
    assert read_record(catalog) == record


def test_a_damaged_record_says_nothing(tmp_path):
    catalog = tmp_path / "catalog.sqlite"
    write_record(catalog, CommitRecord(5, "ab" * 16))
    content = record_path(catalog).read_bytes()
    for at in range(len(content)):
        record_path(catalog).write_bytes(
            content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
        )
        assert read_record(catalog) is None
        record_path(catalog).write_bytes(content[:at])
        assert read_record(catalog) is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes")
def test_a_named_pipe_is_not_opened(tmp_path):
    os.mkfifo(record_path(tmp_path / "catalog.sqlite"))
    write_record(tmp_path / "catalog.sqlite", CommitRecord(1))
    assert read_record(tmp_path / "catalog.sqlite") is None


def test_only_commits_that_change_something_are_counted(path):
    catalog = Catalog(path)
    before = read_record(path).commits
    with catalog.transaction():
        pass
    with catalog.snapshot() as snapshot:
        snapshot.sources()
    assert read_record(path).commits == before
    add_source(catalog, "/a")
    assert read_record(path).commits == before + 1
    with catalog.transaction() as transaction:
        transaction.add_sources({"/b": None})
        transaction._connection.rollback()
    assert read_record(path).commits == before + 1
    assert catalog.dialect.lost_commits() == 0
    catalog.close()


@pytest.mark.parametrize("kept", [0, 0.3, 0.6, 0.99])
def test_a_write_ahead_log_that_was_cut_is_told_until_it_is_repaired(path, tmp_path, kept):
    catalog = Catalog(path)
    for number in range(5):
        add_source(catalog, f"/{number}")
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in path.parent.glob("catalog.sqlite*"):
        shutil.copy(file, copy)
    wal = copy / "catalog.sqlite-wal"
    os.truncate(wal, int(wal.stat().st_size * kept))
    catalog.close()
    damaged = Catalog(copy / "catalog.sqlite")
    with damaged.snapshot() as snapshot:
        left = len(snapshot.sources())
    # The frame that was cut is of the last commit, or of an earlier one.
    assert damaged.dialect.lost_commits() >= 5 - left > 0
    lost = damaged.dialect.lost_commits()
    add_source(damaged, "/later")
    assert damaged.dialect.lost_commits() == lost
    damaged.dialect.seal()
    assert read_record(copy / "catalog.sqlite").checksum is None
    assert any("changes are missing" in told for told in damaged.dialect.find_damage())
    assert damaged.dialect.find_damage(repair=True) == []
    assert damaged.dialect.lost_commits() == 0
    damaged.close()


def test_a_byte_inside_a_text_is_told(path):
    catalog = Catalog(path)
    add_source(catalog, "/holiday photos")
    catalog.dialect.seal()
    assert catalog.dialect.find_damage() == []
    assert catalog.dialect.find_damage() == []  # which changed nothing
    catalog.close()
    content = path.read_bytes()
    assert content.count(b"/holiday photos") == 2  # in the table, and in its index
    path.write_bytes(content.replace(b"/holiday photos", b"/holidaz photos"))
    catalog = Catalog(path)
    [told] = catalog.dialect.find_damage()
    assert "checksum differs" in told
    assert catalog.dialect.find_damage(repair=True) == []
    catalog.close()


def test_a_sealed_catalog_that_is_written_again_is_whole(path):
    catalog = Catalog(path)
    for number in range(3):
        add_source(catalog, f"/{number}")
        catalog.dialect.seal()
        add_source(catalog, f"/{number}/more")
        assert read_record(path).checksum is None
        assert catalog.dialect.find_damage() == []
        assert read_record(path).checksum is not None
    catalog.close()
    reopened = Catalog(path)
    assert reopened.dialect.find_damage() == []
    reopened.close()


def test_a_catalog_above_the_limit_is_not_sealed(path):
    catalog = Catalog(path)
    add_source(catalog, "/a")
    catalog.dialect.seal(most_bytes=10_000)
    assert read_record(path).checksum is None
    catalog.dialect.seal(most_bytes=10_000_000)
    assert read_record(path).checksum is not None
    catalog.close()


def test_a_catalog_of_an_earlier_version_is_counted_from_its_next_commit(path):
    record_path(path).unlink()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version=0")
    connection.close()
    catalog = Catalog(path)
    assert catalog.dialect.lost_commits() == 0
    assert catalog.dialect.find_damage() == []
    add_source(catalog, "/a")
    assert read_record(path) == CommitRecord(1)
    catalog.close()

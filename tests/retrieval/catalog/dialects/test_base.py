"""What every database must do that can hold a catalog."""

import os

import pytest
import sqlalchemy as sa

from retrieval.catalog import Catalog
from retrieval.catalog.schema import AnnotationRecord, ExtentRecord, FileRecord
from retrieval.errors import LibraryError, LibraryLockedError
from retrieval.media import Modality


@pytest.fixture
def evaluate(catalog):
    """Let the database say what a condition is."""

    def ask(condition):
        with catalog.dialect.connect(write=False) as connection:
            return connection.execute(sa.select(condition)).scalar()

    return ask


def test_a_part_is_held_as_it_is_written(catalog, evaluate):
    assert evaluate(catalog.dialect.holds(sa.literal("a%_é"), "%_"))
    assert not evaluate(catalog.dialect.holds(sa.literal("a%_é"), "A"))
    assert not evaluate(catalog.dialect.holds(sa.literal("abc"), "a%"))


def test_integers_are_read_by_the_first_of_a_pair(catalog):
    pairs = [(2, -5), (1, 7), (2, 2**40)]
    rows = (sa.select(sa.literal(a).label("a"), sa.literal(b).label("b")) for a, b in pairs)
    query = sa.select(*sa.union_all(*rows).subquery().c)
    with catalog.dialect.connect(write=False) as connection:
        found = catalog.dialect.read_groups(connection, query)
    assert {first: sorted(second.tolist()) for first, second in found} == {
        1: [7],
        2: [-5, 2**40],
    }


def test_a_missing_text_contains_nothing(catalog, evaluate):
    def contains(text, part):
        return evaluate(catalog.dialect.contains(sa.literal(text, sa.Text), part))

    assert contains("Canon EOS", "eos")
    assert contains("ÉCLAIR 100%_", "éclair 100%_")
    assert not contains("Canon EOS", "n%e")
    assert contains(None, "x") in (0, False)


def test_rows_are_inserted_as_by_their_mappings(catalog):
    """Whatever the order of the columns, with values that the database cannot take as they are."""
    names = ("columns", "image_path", "file_id")
    rows = [({"a": [1, "\u96ea"]}, os.fsdecode(b"/a/\xff.jpg"), 7), ({}, "/b", 8)]
    with catalog.dialect.connect(write=True) as connection:
        file = {"id": 7, "path": "/t", "state": "indexed", "size": 1, "mtime_ns": 1}
        connection.execute(sa.insert(FileRecord), [file, file | {"id": 8, "path": "/u"}])
        catalog.dialect.insert_rows(connection, AnnotationRecord, names, iter(rows))
        catalog.dialect.insert_rows(connection, AnnotationRecord, names, [])
        columns = (AnnotationRecord.__table__.c[name] for name in names)
        assert connection.execute(sa.select(*columns).order_by(AnnotationRecord.id)).all() == rows


def test_rows_that_cannot_be_inserted_are_explained(catalog):
    names, row = ("space_id", "modality", "row_count"), ("x", "image", 1)
    with pytest.raises(LibraryError), catalog.dialect.connect(write=True) as connection:
        catalog.dialect.insert_rows(connection, ExtentRecord, names, [row, row])


def test_the_version_changes_with_every_commit_of_anyone(catalog, location):
    other = Catalog(location)
    versions = [catalog.dialect.version()]
    for count, writer in enumerate((catalog, other, catalog)):
        with writer.transaction() as transaction:
            transaction.extend_rows("space", Modality.IMAGE, count, 1)
        versions.append(catalog.dialect.version())
    other.close()
    assert len(set(versions)) == 4
    assert catalog.dialect.version() == versions[-1]


def test_there_is_one_writer_until_it_lets_go(catalog, location):
    other = Catalog(location)
    with catalog.dialect.writer(), pytest.raises(LibraryLockedError), other.dialect.writer():
        pass
    with other.dialect.writer():
        pass
    other.close()


def test_what_fails_is_rolled_back(catalog):
    def write_and_fail():
        with catalog.dialect.connect(write=True) as connection:
            row = {"space_id": "x", "modality": "image", "row_count": 1}
            connection.execute(sa.insert(ExtentRecord).values(row))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_and_fail()
    with catalog.dialect.connect(write=False) as connection:
        assert connection.execute(sa.select(ExtentRecord)).all() == []

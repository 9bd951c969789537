"""Expressions that several queries share, against plain Python."""

import os
from dataclasses import fields

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from retrieval.catalog.records import FileState, Item, ItemEntry
from retrieval.catalog.schema import (
    ITEM_COLUMNS,
    FilePath,
    FileRecord,
    at_or_below,
    chunks,
    item_of,
    select_items,
)
from retrieval.media import MediaKind, Modality

PATHS = ["/", "/a", "/a/b", "/a/b/c", "/a.b", "/ab", "/a0", "/雪", "/雪/x", "/a/雪"]
PATHS.append(os.fsdecode(b"/a/\xff"))


@pytest.fixture(scope="module")
def connection():
    with sa.create_engine("sqlite://").connect() as connection:
        FileRecord.metadata.create_all(connection)
        new = {"state": FileState.INDEXED, "size": 1, "mtime_ns": 1, "kind": "image"}
        connection.execute(sa.insert(FileRecord), [{"path": path, **new} for path in PATHS])
        yield connection


@pytest.mark.parametrize("root", ["/", "/a", "/a/", "/a/b", "/雪", "/nowhere"])
def test_a_path_and_all_below_it(connection, root):
    found = connection.scalars(sa.select(FileRecord.path).where(at_or_below(root))).all()
    below = root.rstrip("/") + "/"
    assert sorted(found) == sorted(path for path in PATHS if path == root or path.startswith(below))


def test_paths_are_bytes_that_need_not_be_text(connection):
    stored = sa.type_coerce(FileRecord.path, sa.LargeBinary)
    assert b"/a/\xff" in connection.scalars(sa.select(stored)).all()
    assert FilePath().process_bind_param(None, connection.dialect) is None


def test_an_item_is_made_of_what_is_selected():
    names = [column.key for column in select_items().selected_columns]
    assert names == [field.name for field in fields(Item)]
    made = item_of((7, "/a.mp4", "video", "image", "abc", 10, 5, "t1", 4, 3, None, 0.1, None, None))
    assert made == Item(
        7, "/a.mp4", MediaKind.VIDEO, Modality.IMAGE, "abc", 10, 5, "t1", 4, 3, time_s=0.1
    )
    entry = [field.name for field in fields(ItemEntry)]
    assert [column.key for column in ITEM_COLUMNS] == entry[2:]


@given(st.lists(st.integers(), max_size=30), st.integers(1, 10))
def test_chunks_lose_nothing_and_are_short_enough(values, size):
    parts = list(chunks(values, size))
    assert [value for part in parts for value in part] == values
    assert all(1 <= len(part) <= size for part in parts)
    assert len(parts) == -(-len(values) // size)

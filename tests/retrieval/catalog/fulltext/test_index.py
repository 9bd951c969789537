"""Which words the index holds, and that they follow the files."""

import os

import pytest
import sqlalchemy as sa

from retrieval.catalog import FileEntry, FileUpdate, ItemEntry
from retrieval.catalog.schema import FILE_WORDS, ITEM_WORDS
from retrieval.media import MediaKind, Metadata, Modality

SPACE = "space"


def add(catalog, path, **metadata):
    with catalog.transaction() as transaction:
        row = transaction.row_count(SPACE, Modality.IMAGE)
        transaction.extend_rows(SPACE, Modality.IMAGE, row, 1)
        file = FileEntry(path, MediaKind.IMAGE, 10, 1, "x", Metadata(**metadata))
        transaction.record_files(SPACE, [FileUpdate(file, [ItemEntry(Modality.IMAGE, row)])])


def documents(catalog, table=FILE_WORDS):
    with catalog.dialect.connect(write=False) as connection:
        return [tuple(row) for row in connection.execute(sa.select(*list(table.c)[1:]))]


def add_sources(catalog, *paths):
    with catalog.transaction() as transaction:
        transaction.add_sources(dict.fromkeys(paths))


def test_a_field_each(catalog):
    add_sources(catalog, "/home/anna/photos")
    add(catalog, "/home/anna/photos/sea/IMG_1.jpg", text="Calm", camera="Canon")
    assert documents(catalog) == [("", "calm", "canon", "img 1", "photos photo sea")]
    assert documents(catalog, ITEM_WORDS) == []


@pytest.mark.parametrize(
    ("sources", "folders"),
    [
        (["/a/b"], "b c d"),
        (["/a/b", "/a/b/c"], "b c d"),
        (["/a/b/c", "/a/b"], "b c d"),
        (["/a/b/c/"[:-1]], "c d"),
        (["/a/b/c/d/x.jpg"], ""),
        (["/"], "a b c d"),
        (["/a/bb", "/a/b/cc"], ""),
        ([], ""),
    ],
)
def test_folders_count_from_the_outermost_source_down(catalog, sources, folders):
    """In whatever order the sources and the file come."""
    for source in sources[:1]:
        add_sources(catalog, source)
    add(catalog, "/a/b/c/d/x.jpg")
    for source in sources[1:]:
        add_sources(catalog, source)
    assert [document[-1] for document in documents(catalog)] == [folders]


def test_a_source_that_comes_later_gives_its_files_their_folders(catalog):
    add(catalog, "/a/b/x.jpg")
    assert documents(catalog)[0][-1] == ""
    add_sources(catalog, "/a/b")
    assert documents(catalog)[0][-1] == "b"
    add_sources(catalog, "/a")
    assert documents(catalog)[0][-1] == "a b"


def test_names_of_any_bytes_have_words(catalog):
    add_sources(catalog, os.fsdecode(b"/\xff sea"))
    add(catalog, os.fsdecode(b"/\xff sea/caf\xff beach.jpg"))
    assert documents(catalog)[0][-2:] == ("caf beach", "sea")

"""Columns of files that follow from others, whatever changes those."""

import os

import pytest
import sqlalchemy as sa

from retrieval.catalog import FailedFile, FileEntry, FileUpdate, ItemEntry
from retrieval.catalog.derived import date_of, folder_of, refresh
from retrieval.catalog.schema import FileRecord, FolderRecord, RowRecord
from retrieval.media import UNTRUSTED_MTIME, MediaKind, Metadata, Modality

SPACE = "space"


def record(catalog, path, mtime_ns, taken_at=None, *, content="a", first_row=0):
    file = FileEntry(path, MediaKind.IMAGE, 1, mtime_ns, content, Metadata(taken_at))
    with catalog.transaction() as transaction:
        transaction.extend_rows(SPACE, Modality.IMAGE, first_row, 1)
        transaction.record_files(SPACE, [FileUpdate(file, [ItemEntry(Modality.IMAGE, first_row)])])
    return file


def derived(catalog):
    """The folder and the date of each file, and the file of each row."""
    with catalog.dialect.connect(write=False) as connection:
        files = connection.execute(
            sa.select(FileRecord.path, FolderRecord.path, FileRecord.date).join(
                FolderRecord, FolderRecord.id == FileRecord.folder_id
            )
        )
        rows = connection.execute(
            sa.select(RowRecord.row, FileRecord.path).join(
                FileRecord, FileRecord.id == RowRecord.file_id
            )
        )
        return {path: (folder, date) for path, folder, date in files}, dict(rows.all())


@pytest.mark.parametrize(
    ("taken_at", "mtime_ns", "date"),
    [
        (5, 10**10, 5),
        (None, 10**10 + 1, 10),
        (None, -1_500_000_000, -2),
        (None, UNTRUSTED_MTIME, None),
        (0, UNTRUSTED_MTIME, 0),
    ],
)
def test_the_date_of_a_file(taken_at, mtime_ns, date):
    assert date_of(taken_at, mtime_ns) == date


def test_the_folder_of_a_path_ends_with_a_slash():
    assert [folder_of(path) for path in ("/a/b.jpg", "/b.jpg", "/a/ /c")] == ["/a/", "/", "/a/ /"]


def test_folder_and_date_follow_every_change_of_a_file(catalog):
    strange = os.fsdecode(b"/\xff/x.jpg")
    record(catalog, "/a/x.jpg", 3 * 10**9)
    record(catalog, strange, 0, 7, content="b", first_row=1)
    files, rows = derived(catalog)
    assert files == {"/a/x.jpg": ("/a/", 3), strange: (os.fsdecode(b"/\xff/"), 7)}
    assert rows == {0: "/a/x.jpg", 1: strange}
    with catalog.transaction() as transaction:
        transaction.move_file("/a/x.jpg", "/a/b/y.jpg")
        transaction.record_touched([FileEntry(strange, MediaKind.IMAGE, 1, 9 * 10**9, "b")])
    files, rows = derived(catalog)
    assert files == {"/a/b/y.jpg": ("/a/b/", 3), strange: (os.fsdecode(b"/\xff/"), 7)}
    with catalog.transaction() as transaction:
        transaction.record_touched([FileEntry("/a/b/y.jpg", MediaKind.IMAGE, 1, 8 * 10**9, "a")])
        transaction.record_failures([FailedFile("/c.jpg", "broken", 1, 4 * 10**9)])
    files, _ = derived(catalog)
    assert files["/a/b/y.jpg"] == ("/a/b/", 8)
    assert files["/c.jpg"] == ("/", 4)


def test_all_files_can_be_brought_up_to_date(catalog):
    record(catalog, "/a/x.jpg", 3 * 10**9)
    with catalog.dialect.connect(write=True) as connection:
        connection.execute(sa.update(FileRecord).values(folder_id=None, date=None))
        refresh(connection)
    assert derived(catalog)[0] == {"/a/x.jpg": ("/a/", 3)}

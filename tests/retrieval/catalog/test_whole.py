"""All of a library as it goes to a table, and as it comes from one."""

import pytest

from retrieval.catalog import FailedFile, FileEntry, FileState, FileUpdate, ItemEntry
from retrieval.media import MediaKind, Metadata, Modality

SPACE = "space"
TABLE = FileEntry("/t.csv", MediaKind.TABLE, 5, 5, "t")


def image(path: str, content: str, **metadata: object) -> FileEntry:
    return FileEntry(path, MediaKind.IMAGE, 1, 1_000_000_000, content, Metadata(**metadata))


@pytest.fixture
def filled(catalog):
    """Two images, one with pages and a note, a table that says something of both, a failure."""
    with catalog.transaction() as transaction:
        transaction.extend_rows(SPACE, Modality.IMAGE, 0, 3)
        said = [("/a", {"n": 1}), ("/b", {"n": 2}), ("/a", {"n": 3})]
        pages = [ItemEntry(Modality.IMAGE, row, f"p{row}", page=row) for row in (1, 2)]
        transaction.record_files(
            SPACE,
            [
                FileUpdate(
                    image("/a", "a", camera="Canon", taken_at=7, columns={"rating": 5}),
                    [ItemEntry(Modality.IMAGE, 0, width=3, height=4, columns={"x": [1]})],
                ),
                FileUpdate(image("/b", "b"), pages, is_complete=False, notes=["torn", "worn"]),
                FileUpdate(TABLE, annotations=said),
            ],
        )
        transaction.record_failures([FailedFile("/c", "broken", 9, 9), FailedFile("/d", "gone")])
        transaction.mark_removed(["/d"])
        ids = transaction.items_in(["/a", "/b"])
        first = ids["/a", Modality.IMAGE, ""]
        transaction.hide_items([first])
        for name in ("Sea", "Art"):
            transaction.collect(transaction.create_collection(name), [first])
    return catalog


def stored(catalog) -> dict:
    with catalog.snapshot() as snapshot:
        end, files = snapshot.stored_files(SPACE, limit=100)
        assert snapshot.stored_files(SPACE, after=end, limit=100) == (end, [])
    return {file.file.path: file for file in files}


def test_everything_is_read(filled):
    files = stored(filled)
    assert files.keys() == {"/a", "/b", "/c", "/t.csv"}
    a, b, c, table = files["/a"], files["/b"], files["/c"], files["/t.csv"]
    assert a.said == (("/a", {"rating": 5}), ("/t.csv", {"n": 1}), ("/t.csv", {"n": 3}))
    assert (a.file.metadata.camera, a.file.metadata.taken_at) == ("Canon", 7)
    assert a.file.metadata.columns is None
    [item] = a.items
    assert item.entry == ItemEntry(Modality.IMAGE, 0, width=3, height=4, columns={"x": [1]})
    assert (item.hidden, item.collections, item.vector) == (True, ("Art", "Sea"), None)
    assert [page.entry.page for page in b.items] == [1, 2]
    assert (b.notes, b.is_complete, a.is_complete) == (("torn", "worn"), False, True)
    assert (c.failure, c.items, c.is_complete) == ("broken", (), False)
    assert (table.items, table.is_complete) == ((), True)


def test_pages_of_files_join_to_all(filled):
    found, after = [], 0
    with filled.snapshot() as snapshot:
        while True:
            after, files = snapshot.stored_files(SPACE, after=after, limit=1)
            if not files:
                break
            found += files
    assert {file.file.path: file for file in found} == stored(filled)


def test_of_another_space_there_are_no_items(filled):
    with filled.snapshot() as snapshot:
        _, files = snapshot.stored_files("other", limit=100)
    assert [file for file in files if file.items or file.is_complete] == []


def test_a_copy_takes_what_is_said_and_the_ids(filled):
    entry = image("/e", "e", columns={"rating": 1})
    said = [("/t.csv", {"n": 4}), ("/e", {"rating": 2}), ("/t.csv", {"n": 5})]
    update = FileUpdate(entry, [ItemEntry(Modality.IMAGE, 3)])
    with filled.transaction() as transaction:
        transaction.extend_rows(SPACE, Modality.IMAGE, 3, 1)
        transaction.record_files(
            SPACE, [update], said={"/e": said}, item_ids={("/e", Modality.IMAGE, ""): 77}
        )
        # The table is recorded again, and goes on saying what it said.
        transaction.record_files(SPACE, [FileUpdate(TABLE)], said={}, item_ids={})
        transaction.set_metadata_versions({"/e": 1})
    files = stored(filled)
    assert files["/e"].items[0].id == 77
    assert files["/e"].said == tuple(said)
    assert files["/e"].metadata_version == 1
    assert len(files["/a"].said) == 3
    # All that is said is replaced; ids of known items stay.
    with filled.transaction() as transaction:
        ids = {("/e", Modality.IMAGE, ""): 99}
        transaction.record_files(SPACE, [update], said={"/e": said[:1]}, item_ids=ids)
    assert stored(filled)["/e"].said == tuple(said[:1])
    assert stored(filled)["/e"].items[0].id == 77


def test_places_and_states_of_items(filled):
    with filled.snapshot() as snapshot:
        places = snapshot.item_places(SPACE)
        assert sorted(place[1:] for place in places) == [
            ("/a", "image", ""),
            ("/b", "image", "p1"),
            ("/b", "image", "p2"),
        ]
        assert snapshot.states_of(["/a", "/c", "/d", "/x"]) == {
            "/a": FileState.INDEXED,
            "/c": FileState.FAILED,
            "/d": FileState.REMOVED,
        }
        without = {file.path for file in snapshot.files_without_items(SPACE)}
        assert without == {"/c", "/t.csv"}


def test_items_and_words_are_deleted(filled):
    with filled.transaction() as transaction:
        places = transaction.item_places(SPACE)
        transaction.unhide_items([i for i, path, _, _ in places if path == "/a"])
        transaction.delete_items([i for i, path, _, part in places if (path, part) == ("/b", "p1")])
        assert transaction.text_matches(SPACE, Modality.IMAGE, "canon", limit=5)
        transaction.forget_words(["/a", "/unknown"])
    assert [item.entry.part for item in stored(filled)["/b"].items] == ["p2"]
    with filled.snapshot() as snapshot:
        assert snapshot.text_matches(SPACE, Modality.IMAGE, "canon", limit=5) == []

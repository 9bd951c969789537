import os
from dataclasses import replace

import pytest

from retrieval.catalog import (
    Catalog,
    FailedFile,
    FileEntry,
    FileState,
    FileUpdate,
    ItemEntry,
    TakenFrom,
    Transaction,
    local_time,
)
from retrieval.errors import DamagedLibraryError
from retrieval.filters import Filter
from retrieval.media import NO_METADATA, MediaKind, Metadata, Modality, local_clock_seconds

SPACE = "space-1"


def image(path: str, content: str = "a", mtime_ns: int = 1) -> FileEntry:
    return FileEntry(path, MediaKind.IMAGE, 10, mtime_ns, content)


def record(
    transaction: Transaction, images: list[FileEntry], first_row: int, space: str = SPACE
) -> None:
    """Record one picture a file, at rows that follow each other."""
    transaction.extend_rows(space, Modality.IMAGE, first_row, len(images))
    transaction.record_files(
        space,
        [
            FileUpdate(file, [ItemEntry(Modality.IMAGE, row, width=4, height=3)])
            for row, file in enumerate(images, start=first_row)
        ],
    )


def paths_at(catalog: Catalog, *rows: int, space: str = SPACE) -> dict[int, list[str]]:
    with catalog.snapshot() as snapshot:
        found = snapshot.items_at(space, Modality.IMAGE, rows)
    return {row: [item.path for item in items] for row, items in found.items()}


def test_items_are_found_at_their_rows(catalog):
    with catalog.transaction() as transaction:
        record(transaction, [image("/a.jpg"), image("/b.jpg", "b")], 0)
    assert paths_at(catalog, 0, 1, 2) == {0: ["/a.jpg"], 1: ["/b.jpg"]}
    with catalog.snapshot() as snapshot:
        assert snapshot.row_count(SPACE, Modality.IMAGE) == 2
        assert snapshot.counts(SPACE).items[Modality.IMAGE] == 2


def test_pictures_of_a_space_come_with_their_content(catalog):
    with catalog.transaction() as transaction:
        record(
            transaction, [image("/b.jpg", "b"), image("/a.jpg", "a"), image("/copy.jpg", "b")], 0
        )
        record(transaction, [image("/a.jpg", "a")], 0, "space-2")
    with catalog.transaction() as transaction:
        record(transaction, [image("/a.jpg", "new")], 3)
        transaction.mark_removed(["/copy.jpg"])
    with catalog.snapshot() as snapshot:
        found = [(item.path, item.content_hash) for item in snapshot.pictures(SPACE)]
        assert found == [("/b.jpg", "b"), ("/a.jpg", "new")]
        assert snapshot.pictures("space-2") == []
        assert snapshot.pictures("space-3") == []


def test_a_changed_file_keeps_its_item_and_leaves_its_old_row(catalog):
    with catalog.transaction() as transaction:
        record(transaction, [image("/a.jpg", "old")], 0)
    with catalog.snapshot() as snapshot:
        [before] = snapshot.items_at(SPACE, Modality.IMAGE, [0])[0]
    with catalog.transaction() as transaction:
        record(transaction, [image("/a.jpg", "new")], 1)
    with catalog.snapshot() as snapshot:
        found = snapshot.items_at(SPACE, Modality.IMAGE, [0, 1])
    assert list(found) == [1]
    assert found[1][0].id == before.id


def test_a_row_of_older_content_is_not_found_in_another_space(catalog):
    with catalog.transaction() as transaction:
        record(transaction, [image("/a.jpg", "old")], 0, "space-2")
        record(transaction, [image("/a.jpg", "new")], 0)
    assert paths_at(catalog, 0, space="space-2") == {}
    assert paths_at(catalog, 0) == {0: ["/a.jpg"]}


def test_removed_files_vanish_and_return_without_new_rows(catalog):
    with catalog.transaction() as transaction:
        record(transaction, [image("/a.jpg")], 0)
        assert transaction.mark_removed(["/a.jpg", "/unknown.jpg"]) == 1
    assert paths_at(catalog, 0) == {}
    with catalog.snapshot() as snapshot:
        assert snapshot.item(1) is None
        [known] = snapshot.files_below(["/"], SPACE)
    assert known.state is FileState.REMOVED
    assert known.embedded
    with catalog.transaction() as transaction:
        transaction.record_touched([image("/a.jpg", mtime_ns=2)])
    assert paths_at(catalog, 0) == {0: ["/a.jpg"]}


def test_a_file_that_fails_is_listed_and_no_longer_found(catalog):
    with catalog.transaction() as transaction:
        record(transaction, [image("/a.jpg")], 0)
        transaction.record_failures([FailedFile("/a.jpg", "truncated", 3, 4)])
    assert paths_at(catalog, 0) == {}
    with catalog.snapshot() as snapshot:
        assert snapshot.failures() == [FailedFile("/a.jpg", "truncated", 3, 4)]


def test_only_paths_below_the_root_are_below_it(catalog):
    paths = ["/a/b.jpg", "/a/b/c.jpg", "/ab.jpg", "/a", "/b.jpg"]
    with catalog.transaction() as transaction:
        record(transaction, [image(path) for path in paths], 0)
    with catalog.snapshot() as snapshot:
        assert {file.path for file in snapshot.files_below(["/a"], SPACE)} == {
            "/a",
            "/a/b.jpg",
            "/a/b/c.jpg",
        }
        assert len(list(snapshot.files_below(["/"], SPACE))) == len(paths)


@pytest.mark.parametrize(
    "name", ["/雪の犬.jpg", os.fsdecode(b"/not utf-8 \xff.jpg"), "/new\nline.jpg", "/100%_.jpg"]
)
def test_names_of_any_bytes_come_back(catalog, name):
    with catalog.transaction() as transaction:
        transaction.add_sources({name: None})
        record(transaction, [image(name)], 0)
    assert paths_at(catalog, 0) == {0: [name]}
    with catalog.snapshot() as snapshot:
        assert snapshot.sources() == [name]


def test_rows_out_of_turn_are_refused_and_rolled_back(catalog):
    def commit_out_of_turn() -> None:
        with catalog.transaction() as transaction:
            transaction.add_sources({"/a": None})
            record(transaction, [image("/a/b.jpg")], 5)

    with pytest.raises(DamagedLibraryError, match="5, but 0 are committed"):
        commit_out_of_turn()
    with catalog.snapshot() as snapshot:
        assert snapshot.sources() == []


def test_a_snapshot_neither_waits_for_a_writer_nor_sees_its_work(catalog):
    with catalog.transaction() as transaction:
        record(transaction, [image("/a.jpg")], 0)
        assert paths_at(catalog, 0) == {}
    assert paths_at(catalog, 0) == {0: ["/a.jpg"]}


@pytest.mark.slow
def test_many_files_go_through_one_transaction(catalog):
    images = [image(f"/photos/{number}.jpg", str(number)) for number in range(25_000)]
    with catalog.transaction() as transaction:
        record(transaction, images, 0)
        assert transaction.mark_removed([i.path for i in images[:12_000]]) == 12_000
    with catalog.snapshot() as snapshot:
        assert snapshot.counts(SPACE).items[Modality.IMAGE] == 13_000
        assert len(snapshot.items_at(SPACE, Modality.IMAGE, range(25_000))) == 13_000


def video(content: str, *, is_first: bool = True, is_complete: bool = True, parts=("t0",), row=0):
    file = FileEntry("/v.mp4", MediaKind.VIDEO, 10, 1, content, Metadata(duration_s=2.5))
    items = [
        ItemEntry(Modality.IMAGE, row + place, part, 4, 3, time_s=int(part[1:]) / 1000)
        for place, part in enumerate(parts)
    ]
    return FileUpdate(file, items, is_first=is_first, is_complete=is_complete)


def test_a_file_is_embedded_when_its_last_piece_is_recorded(catalog):
    with catalog.transaction() as transaction:
        transaction.extend_rows(SPACE, Modality.IMAGE, 0, 2)
        transaction.record_files(SPACE, [video("a", is_complete=False)])
        [known] = transaction.files_below(["/"], SPACE)
        assert not known.embedded
        assert transaction.embedded_content(SPACE, MediaKind.VIDEO, "a") is None
        rest = video("a", is_first=False, parts=["t900"], row=1)
        rest = replace(rest, file=replace(rest.file, metadata=NO_METADATA))
        transaction.record_files(SPACE, [rest])
        [known] = transaction.files_below(["/"], SPACE)
        assert known.embedded
        metadata, items, _ = transaction.embedded_content(SPACE, MediaKind.VIDEO, "a")
        assert metadata.duration_s == 2.5  # the second step brought none
        assert [(item.part, item.row, item.time_s) for item in items] == [
            ("t0", 0, 0.0),
            ("t900", 1, 0.9),
        ]
        assert transaction.contents_of_size(SPACE, [10, 11]) == {10: {(MediaKind.VIDEO, "a")}}
        assert transaction.rows_of_contents(SPACE, ["a", "b"]) == {
            ("a", Modality.IMAGE, "t0"): 0,
            ("a", Modality.IMAGE, "t900"): 1,
        }


def test_frames_that_a_changed_video_no_longer_has_are_gone(catalog):
    with catalog.transaction() as transaction:
        transaction.extend_rows(SPACE, Modality.IMAGE, 0, 4)
        transaction.record_files(SPACE, [video("a", parts=["t0", "t5"])])
        [kept], [gone] = transaction.items_at(SPACE, Modality.IMAGE, [0, 1]).values()
        transaction.record_files(SPACE, [video("b", parts=["t0", "t7"], row=2)])
        found = transaction.items_at(SPACE, Modality.IMAGE, range(4))
        assert {row: item.part for row, [item] in found.items()} == {2: "t0", 3: "t7"}
        assert found[2][0].id == kept.id
        assert transaction.item(gone.id) is None


def test_a_moved_file_keeps_its_items(catalog):
    with catalog.transaction() as transaction:
        record(transaction, [image("/a.jpg"), image("/b.jpg", "b")], 0)
        transaction.mark_removed(["/a.jpg"])
        assert not transaction.move_file("/a.jpg", "/b.jpg")
        assert transaction.move_file("/a.jpg", "/new.jpg")
    assert paths_at(catalog, 0) == {0: ["/new.jpg"]}
    with catalog.snapshot() as snapshot:
        assert snapshot.item(1).path == "/new.jpg"


def test_what_a_table_says_of_an_image_is_replaced_with_the_table(catalog):
    def table(content: str, **options) -> FileUpdate:
        file = FileEntry("/t.csv", MediaKind.TABLE, 10, 1, content)
        return FileUpdate(file, annotations=[("/a.jpg", {"content": content})], **options)

    with catalog.transaction() as transaction:
        record(transaction, [image("/a.jpg", mtime_ns=5_000_000_000)], 0)
        transaction.record_files(SPACE, [table("x", is_complete=False)])
        transaction.record_files(SPACE, [table("x", is_first=False)])
        [item] = transaction.pictures(SPACE)
        details = transaction.details(item)
        assert details.annotations == [{"content": "x"}, {"content": "x"}]
        assert details.taken_at == 5
        transaction.record_files(SPACE, [table("y")])
        assert transaction.details(item).annotations == [{"content": "y"}]
        transaction.mark_removed(["/t.csv"])
        assert transaction.details(item).annotations == []


def test_options_of_a_source_stay_until_others_are_told(catalog):
    with catalog.transaction() as transaction:
        transaction.add_sources({"/a": {"hidden": True}})
        transaction.add_sources({"/a": None, "/b": None})
        assert transaction.source_options() == {"/a": {"hidden": True}, "/b": None}
        transaction.add_sources({"/a": {"hidden": False}})
        assert transaction.source_options()["/a"] == {"hidden": False}


def test_a_touched_file_has_its_new_time_unless_it_has_a_date(catalog):
    dated = replace(image("/dated.jpg", "d"), metadata=Metadata(taken_at=70, taken_local=77))
    with catalog.transaction() as transaction:
        record(transaction, [dated, image("/plain.jpg", "p", mtime_ns=5_000_000_000)], 0)
        transaction.record_touched(
            [replace(dated, mtime_ns=9 * 10**9), image("/plain.jpg", "p", mtime_ns=9 * 10**9)]
        )
        items = transaction.pictures(SPACE)
    here = local_time(local_clock_seconds(9))
    assert [item.taken_local for item in items] == [local_time(77), here]
    assert [item.taken_from for item in items] == [TakenFrom.METADATA, TakenFrom.MTIME]


def test_metadata_that_is_read_again_takes_the_place_of_the_old(catalog):
    before = Metadata(taken_at=70, camera="Canon", text="words", columns={"rating": 1})
    files = [replace(image(f"/{name}.jpg", name), metadata=before) for name in "ab"]
    new = Metadata(taken_at=70, taken_local=3670, date_source="exif", columns={"keyword": ["dog"]})
    with catalog.transaction() as transaction:
        record(transaction, files, 0)
        transaction.record_metadata({"/a.jpg": (new, 77), "/b.jpg": None}, {})
        first, second = transaction.pictures(SPACE)
        assert first.taken_local == local_time(3670)
        assert second.taken_local == local_time(local_clock_seconds(70))
        details = transaction.details(first)
        assert details.metadata == replace(new, columns=None)
        assert details.annotations == [{"keyword": ["dog"]}]
        kept = replace(before, columns=None, taken_local=local_clock_seconds(70))
        assert transaction.details(second).metadata == kept
        known = {file.path: file.sidecars for file in transaction.files_below(["/"], SPACE)}
        assert known == {"/a.jpg": 77, "/b.jpg": None}
        assert found_where(transaction, {"keyword": {"equals": "dog"}}) == ["/a.jpg"]
        assert found_where(transaction, {"rating": {"min": 1}}) == ["/b.jpg"]


def test_notes_of_metadata_are_renewed_with_it_and_others_stay(catalog):
    update = FileUpdate(image("/a.jpg", "a"), notes=["it is cut", "metadata: its XMP is broken"])
    with catalog.transaction() as transaction:
        transaction.record_files(SPACE, [update])
        for new in (("metadata: its EXIF is damaged",), ()):
            transaction.record_metadata({"/a.jpg": (Metadata(), None)}, {"/a.jpg": new})
            assert [noted.notes for noted in transaction.notes()] == [["it is cut", *new]]


def found_where(transaction, columns):
    items = transaction.items(SPACE, where=Filter(columns=columns), limit=10)
    return sorted(item.path for item in items)


def test_what_a_file_says_of_itself_moves_with_it_and_comes_back(catalog):
    rated = replace(image("/a.jpg", "a"), metadata=Metadata(columns={"rating": 5}))
    with catalog.transaction() as transaction:
        record(transaction, [rated], 0)
        assert transaction.move_file("/a.jpg", "/b.jpg")
        assert found_where(transaction, {"rating": {"min": 5}}) == ["/b.jpg"]
        transaction.relocate("/b.jpg", "/c.jpg")
        assert found_where(transaction, {"rating": {"min": 5}}) == ["/c.jpg"]
        transaction.mark_removed(["/c.jpg"])
        assert found_where(transaction, {"rating": {"min": 5}}) == []
        transaction.record_touched([replace(rated, path="/c.jpg")])
        assert found_where(transaction, {"rating": {"min": 5}}) == ["/c.jpg"]
        record(transaction, [replace(rated, path="/c.jpg", metadata=NO_METADATA)], 1)
        assert found_where(transaction, {"rating": {"min": 5}}) == []


def states(catalog: Catalog) -> dict[str, tuple[FileState, str | None]]:
    with catalog.snapshot() as snapshot:
        return {
            file.path: (file.state, file.content_hash) for file in snapshot.files_below(["/"], "")
        }


def test_a_folder_is_relocated_with_its_items_annotations_and_words(catalog):
    table = FileEntry("/p/t.csv", MediaKind.TABLE, 10, 1, "t")
    with catalog.transaction() as transaction:
        transaction.add_sources({"/p": {"hidden": True}, "/pq": None})
        record(transaction, [image("/p/x/a.jpg"), image("/pq/b.jpg", "b")], 0)
        said = [("/p/x/a.jpg", {"caption": "zebra"}), ("/pq/b.jpg", {"caption": "lion"})]
        transaction.record_files(SPACE, [FileUpdate(table, annotations=said)])
        transaction.record_failures([FailedFile("/p", "no such file or directory")])
    with catalog.snapshot() as snapshot:
        ids = {
            i.path: i.id
            for items in snapshot.items_at(SPACE, Modality.IMAGE, [0, 1]).values()
            for i in items
        }
    with catalog.transaction() as transaction:
        done = transaction.relocate("/p", "/new/place")
    assert (done.files, done.hidden) == (2, 0)
    assert paths_at(catalog, 0, 1) == {0: ["/new/place/x/a.jpg"], 1: ["/pq/b.jpg"]}
    with catalog.snapshot() as snapshot:
        assert snapshot.source_options() == {"/new/place": {"hidden": True}, "/pq": None}
        assert snapshot.failures() == []
        [moved] = snapshot.items_at(SPACE, Modality.IMAGE, [0])[0]
        assert moved.id == ids["/p/x/a.jpg"]
        assert snapshot.details(moved).annotations == [{"caption": "zebra"}]
        for words, row in {"zebra": 0, "lion": 1}.items():
            found = snapshot.text_matches(SPACE, Modality.IMAGE, words, limit=9)
            assert [row for row, _ in found] == [row]
        assert snapshot.text_matches(SPACE, Modality.IMAGE, "place", limit=9)


@pytest.mark.parametrize(
    ("old", "new"), [("/a", "/a/a"), ("/a/a", "/a"), ("/a", "/b"), ("/a", "/")]
)
def test_folders_may_lie_in_one_another(catalog, old, new):
    paths = ["/a/x", "/a/a/x", "/a/a/a/x", "/b/y"]
    with catalog.transaction() as transaction:
        transaction.add_sources({"/a": None, "/a/a": None})
        record(transaction, [image(path, path) for path in paths], 0)
    with catalog.transaction() as transaction:
        done = transaction.relocate(old, new)
    below = [path for path in paths if path.startswith(f"{old}/")]
    expected = {path: path for path in paths if path not in below}
    hidden: set[str] = set()
    for path in below:
        target = new.rstrip("/") + path.removeprefix(old)
        if target in expected.keys() | hidden:
            hidden.add(path)
        else:
            expected[target] = path
    assert (done.files, done.hidden) == (len(below) - len(hidden), len(hidden))
    found = {p: h for p, (state, h) in states(catalog).items() if state is FileState.INDEXED}
    assert found == expected


def test_what_is_known_at_the_new_path_stays(catalog):
    with catalog.transaction() as transaction:
        transaction.add_sources({"/p": {"hidden": True}, "/q": None})
        record(transaction, [image("/p/a", "1"), image("/p/b", "2"), image("/q/a", "3")], 0)
    with catalog.transaction() as transaction:
        done = transaction.relocate("/p", "/q")
    assert (done.files, done.hidden) == (1, 1)
    assert states(catalog) == {
        "/p/a": (FileState.REMOVED, "1"),
        "/q/a": (FileState.INDEXED, "3"),
        "/q/b": (FileState.INDEXED, "2"),
    }
    with catalog.snapshot() as snapshot:
        assert snapshot.source_options() == {"/q": None}


def test_a_library_of_windows_is_relocated(catalog):
    with catalog.transaction() as transaction:
        transaction.add_sources({"D:\\Photos": None})
        record(transaction, [image("D:\\Photos\\x\\a.jpg"), image("D:\\Photos2\\a.jpg", "b")], 0)
    with catalog.transaction() as transaction:
        transaction.relocate("D:\\Photos", "/media/d")
        assert transaction.sources() == ["/media/d"]
    assert paths_at(catalog, 0, 1) == {0: ["/media/d/x/a.jpg"], 1: ["D:\\Photos2\\a.jpg"]}


def test_a_relocation_that_fails_changes_nothing(catalog):
    with catalog.transaction() as transaction:
        transaction.add_sources({"/p": None})
        record(transaction, [image("/p/a")], 0)

    def relocate_and_fail() -> None:
        with catalog.transaction() as transaction:
            transaction.relocate("/p", "/q")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        relocate_and_fail()
    with catalog.snapshot() as snapshot:
        assert snapshot.sources() == ["/p"]
    assert states(catalog) == {"/p/a": (FileState.INDEXED, "a")}


def test_ways_to_sources_are_remembered_until_they_move(catalog):
    with catalog.transaction() as transaction:
        transaction.add_sources({"/m/p": None, "/m/q": None, "/r": None})
        transaction.place_sources({"/m/p": "../p", "/m/q": "../q", "/r": None})
    with catalog.transaction() as transaction:
        assert transaction.sources_beside() == {"/m/p": "../p", "/m/q": "../q"}
        transaction.relocate("/m/p", "/n/p")
        assert transaction.sources_beside() == {"/m/q": "../q"}


def test_notes_join_by_file_are_copied_and_go_with_a_new_reading(catalog):
    def update(content, notes, **how):
        return replace(video(content, **how), notes=notes)

    def notes():
        with catalog.snapshot() as snapshot:
            return [(file.path, file.notes) for file in snapshot.notes()]

    with catalog.transaction() as transaction:
        transaction.extend_rows(SPACE, Modality.IMAGE, 0, 3)
        transaction.record_files(SPACE, [update("a", ["one"], is_complete=False)])
        rest = update("a", ["two", "three"], is_first=False, parts=["t900"], row=1)
        transaction.record_files(SPACE, [rest])
        assert transaction.embedded_content(SPACE, MediaKind.VIDEO, "a")[2] == [
            "one",
            "two",
            "three",
        ]
    assert notes() == [("/v.mp4", ["one", "two", "three"])]
    with catalog.snapshot() as snapshot:
        assert snapshot.counts(SPACE).noted == 1
        [item] = snapshot.items_at(SPACE, Modality.IMAGE, [0])[0]
        assert snapshot.details(item).notes == ["one", "two", "three"]
    with catalog.transaction() as transaction:
        transaction.mark_removed(["/v.mp4"])
    assert notes() == []
    with catalog.transaction() as transaction:
        transaction.record_files(SPACE, [update("b", ["four"], row=2)])
    assert notes() == [("/v.mp4", ["four"])]

import dataclasses
import json
import shutil

import numpy as np
import pytest

from indexer.pipeline import index_sources
from retrieval.catalog import FileEntry, ItemEntry
from retrieval.encoders.base import Space
from retrieval.errors import DamagedLibraryError, SpaceMismatchError, UsageError
from retrieval.lance.copies import STATE_FILE, open_copy, open_import
from retrieval.lance.export import export_library
from retrieval.lance.records import StoredFile, StoredItem, stored_file, table_of
from retrieval.lance.schema import file_key_of
from retrieval.lance.table import ROW_ID, LanceTable
from retrieval.library import create_library, open_library
from retrieval.media import MediaKind, Metadata, Modality
from tests.rich_library import contents_of

pytest.importorskip("lance", reason="needs Lance: pip install 'mmsearch[cluster]'")


@pytest.fixture
def table(tmp_path, space):
    return LanceTable.create(f"lance:{tmp_path}/table", space, {"/p": None})


def ids_in(table: LanceTable) -> dict:
    rows = table.read([ROW_ID, "path", "part"], "modality IS NOT NULL").to_pylist()
    return {(row["path"], row["part"]): row[ROW_ID] + 1 for row in rows}


def ids_of(library) -> dict:
    with library.catalog.snapshot() as snapshot:
        items = snapshot.items(library.space().id, limit=1000)
    return {(item.path, item.part): item.id for item in items}


def test_a_copy_follows_additions_changes_and_deletions(table, tmp_path, space, unit_file):
    table.append(table_of([unit_file(f"/p/{n}", n) for n in range(4)], space))
    copy = open_copy(LanceTable.open(table.location), tmp_path / "copy")
    assert copy.is_outdated()
    done = copy.update()
    assert (done.rows, done.removed, done.is_complete) == (7, 0, True)
    assert ids_of(copy.library) == ids_in(table)
    assert not copy.is_outdated()
    assert copy.update().rows == 0

    table.merge(table_of([unit_file("/p/new"), unit_file("/p/1", seed=1)], space))
    table.replace_files([file_key_of("/p/3")], table_of([unit_file("/p/3", 2)], space))
    table.delete_files([file_key_of("/p/2"), file_key_of("/p/0")])
    assert copy.is_outdated()
    done = copy.update()
    # A part of the third, both of the second, its file and the first, which has no items.
    assert (done.rows, done.removed) == (4, 5)
    assert ids_of(copy.library) == ids_in(table)
    whole = open_copy(LanceTable.open(table.location), tmp_path / "whole")
    whole.update()
    assert contents_of(copy.library) == contents_of(whole.library)
    # A row that is deleted and written again has another id, here as there.
    table.delete_files([file_key_of("/p/1")])
    table.merge(table_of([unit_file("/p/1")], space))
    copy.update()
    assert ids_of(copy.library) == ids_in(table)
    table.compact()
    table.create_indices()
    assert (copy.update().rows, copy.version) == (0, table.version)


@pytest.mark.slow
def test_a_copy_that_is_stopped_goes_on_where_it_was(table, tmp_path, space, unit_file):
    table.append(table_of([unit_file(f"/p/{n}", 3) for n in range(1500)], space))
    reader = LanceTable.open(table.location)
    first = open_copy(reader, tmp_path / "copy").update(should_stop=lambda: True)
    assert not first.is_complete
    assert 0 < first.rows < 4500
    table.delete_files([file_key_of("/p/0")])  # which the run that goes on does not see yet
    copy = open_copy(LanceTable.open(table.location), tmp_path / "copy")
    second = copy.update()
    assert (second.rows, second.is_complete) == (4500 - first.rows, True)
    assert copy.update().removed == 4
    assert ids_of(copy.library) == dict(list(ids_in(table).items())[:1000])


def test_what_a_user_did_with_a_copy_stays(table, tmp_path, space, unit_file):
    collected = unit_file("/p/a")
    item = dataclasses.replace(collected.items[0], hidden=True, collections=("Sea",))
    table.append(table_of([dataclasses.replace(collected, items=[item])], space))
    table.append(table_of([unit_file("/p/b"), unit_file("/p/c")], space))
    copy = open_copy(LanceTable.open(table.location), tmp_path / "copy")
    copy.update()
    ids = ids_of(copy.library)
    assert ("/p/a", "") not in ids
    with copy.library.catalog.transaction() as transaction:
        assert [(one.name, one.items) for one in transaction.collections()] == [("Sea", 0)]
        transaction.collect(transaction.create_collection("Mine"), [ids["/p/b", ""]])
        transaction.hide_items([ids["/p/c", ""]])
    table.merge(table_of([unit_file("/p/b", seed=1), unit_file("/p/c", seed=1)], space))
    copy.update()
    with copy.library.catalog.snapshot() as snapshot:
        counted = {one.name: one.items for one in snapshot.collections()}
    assert counted == {"Mine": 1, "Sea": 0}
    assert ids_of(copy.library).keys() == {("/p/b", "")}


def test_a_copy_follows_a_table_back(table, tmp_path, space, unit_file):
    table.append(table_of([unit_file("/p/a"), unit_file("/p/b")], space))
    old = table.version
    table.merge(table_of([unit_file("/p/a", seed=1)], space))
    table.delete_files([file_key_of("/p/b")])
    table.append(table_of([unit_file("/p/c")], space))
    copy = open_copy(LanceTable.open(table.location), tmp_path / "copy")
    copy.update()
    table.at(old).dataset.restore()
    table.refresh()
    assert copy.is_outdated()
    copy.update()
    assert ids_of(copy.library) == ids_in(table)
    assert ids_of(copy.library).keys() == {("/p/a", ""), ("/p/b", "")}
    whole = open_copy(LanceTable.open(table.location), tmp_path / "whole")
    whole.update()
    assert contents_of(copy.library) == contents_of(whole.library)


@pytest.mark.slow
def test_shards_share_no_item_and_lose_none(table, tmp_path, space, unit_file):
    files = [unit_file(f"/p/{n}", 2) for n in range(40)]
    table.append(table_of(files, space))
    shards = [
        open_copy(LanceTable.open(table.location), tmp_path / f"{n}", shard=(n, 3))
        for n in range(3)
    ]
    for shard in shards:
        shard.update()
    found = [ids_of(shard.library) for shard in shards]
    assert sum(map(len, found)) == 80
    assert found[0] | found[1] | found[2] == ids_in(table)
    # A file whose content changes may go to another shard.
    changed = []
    for file in files:
        entry = dataclasses.replace(file.file, content_hash=f"other-{file.file.path}")
        changed.append(dataclasses.replace(file, file=entry))
    table.merge(table_of(changed, space))
    for shard in shards:
        shard.update()
    found = [ids_of(shard.library) for shard in shards]
    assert sum(map(len, found)) == 80
    assert found[0] | found[1] | found[2] == ids_in(table)
    with pytest.raises(UsageError, match="shard 1 of 3"):
        open_copy(LanceTable.open(table.location), tmp_path / "1", shard=(0, 3))
    for wrong in ((3, 3), (-1, 2), (0, 0)):
        with pytest.raises(UsageError, match="no shard"):
            open_copy(LanceTable.open(table.location), tmp_path / "x", shard=wrong)


def test_a_copy_is_nothing_else(table, tmp_path, space, unit_file):
    table.append(table_of([unit_file("/p/a")], space))
    reader = LanceTable.open(table.location)
    create_library(tmp_path / "own", space).catalog.close()
    open_copy(reader, tmp_path / "own")  # which is empty
    open_import(reader, tmp_path / "imported").update()
    with pytest.raises(UsageError, match="no copy of"):
        open_copy(reader, tmp_path / "imported")
    copy = open_copy(reader, tmp_path / "copy")
    copy.update()
    with pytest.raises(UsageError, match="is a copy of"):
        open_import(reader, tmp_path / "copy")
    # Another table at the same place is another table.
    shutil.rmtree(tmp_path / "table")
    again = LanceTable.create(table.location, space)
    with pytest.raises(UsageError, match="no copy of"):
        open_copy(again, tmp_path / "copy")


def test_what_else_wrote_to_a_copy_is_noticed(table, tmp_path, space, unit_file):
    table.append(table_of([unit_file("/p/a")], space))
    copy = open_copy(LanceTable.open(table.location), tmp_path / "copy")
    copy.update()
    own = open_import(LanceTable.create(f"lance:{tmp_path}/t2", space), tmp_path / "copy")
    own.table.append(table_of([unit_file("/other", 3)], space))
    own.update()
    table.append(table_of([unit_file("/p/b")], space))
    with pytest.raises(UsageError, match="something else has written"):
        copy.update()


def test_vectors_of_one_space_do_not_get_into_another(table, tmp_path, space, unit_file):
    table.append(table_of([unit_file("/p/a")], space))
    other = Space("other", "sha256:1", "none", 8)
    create_library(tmp_path / "library", other)
    with pytest.raises(SpaceMismatchError, match="--space new"):
        open_import(table, tmp_path / "library")
    opened = open_import(table, tmp_path / "library", new_space=True)
    opened.update()
    assert sorted(opened.library.space_ids()) == sorted([space.id, other.id])
    assert opened.library.space() == other
    assert len(contents_of(opened.library, space.id)["/p/a"][1]) == 1


def test_an_import_leaves_what_the_library_has(table, tmp_path, space, unit_file, write_files):
    library = create_library(tmp_path / "library", space)
    vector = np.full((1, 8), 8**-0.5, np.float32)
    write_files(library, {"/own/1": vector, "/p/own": vector})
    table.append(table_of([unit_file("/p/a", 2), unit_file("/p/b")], space))
    imported = open_import(LanceTable.open(table.location), tmp_path / "library")
    imported.update()
    assert {path for path, _ in ids_of(library)} == {"/own/1", "/p/own", "/p/a", "/p/b"}
    table.replace_files([file_key_of("/p/a")], table_of([unit_file("/p/a")], space))
    table.delete_files([file_key_of("/p/b")])
    imported.update()
    # Below the sources of the table, what it lacks is gone.
    assert set(ids_of(library)) == {("/own/1", ""), ("/p/a", "")}


def test_what_no_encoder_gives_is_left_out(table, tmp_path, space, unit_file):
    good = unit_file("/p/a", 5)
    items = list(good.items)
    for place, vector in enumerate(
        [np.full(8, np.nan), np.zeros(8), np.full(8, np.inf), np.full(8, 1.0)]
    ):
        items[place] = dataclasses.replace(items[place], vector=vector.astype(np.float16))
    table.append(table_of([dataclasses.replace(good, items=items)], space))
    copy = open_copy(table, tmp_path / "copy")
    assert copy.update().damaged == 4
    assert len(ids_of(copy.library)) == 1


def test_copies_of_a_file_share_a_row_unless_their_vectors_differ(table, tmp_path, space):
    def file(path: str, place: int) -> StoredFile:
        item = StoredItem(ItemEntry(Modality.IMAGE, -1), np.eye(8, dtype=np.float16)[place])
        entry = FileEntry(path, MediaKind.IMAGE, 10, 5, "same", Metadata())
        return stored_file(entry, [item])

    table.append(table_of([file("/p/a", 0), file("/p/b", 0), file("/p/c", 1)], space))
    copy = open_copy(table, tmp_path / "copy")
    copy.update()
    contents = contents_of(copy.library)
    with copy.library.catalog.snapshot() as snapshot:
        assert snapshot.row_count(space.id, Modality.IMAGE) == 2
    [a], [b], [c] = (contents[f"/p/{name}"][1].values() for name in "abc")
    assert a[1] == b[1] != c[1]


@pytest.mark.parametrize("content", ["", "[]", "{", '{"a": 1}', '{"a": {"location": 1}}'])
def test_a_damaged_state_is_reported(table, tmp_path, content):
    copy = open_copy(table, tmp_path / "copy")
    (copy.library.path / STATE_FILE).write_text(content)
    with pytest.raises(DamagedLibraryError, match="is damaged"):
        open_copy(table, tmp_path / "copy")


def test_the_state_says_what_a_copy_is_of(table, tmp_path):
    copy = open_copy(table, tmp_path / "copy", shard=(1, 2))
    copy.update()
    state = json.loads((copy.library.path / STATE_FILE).read_text())[table.identity]
    assert state["location"] == table.location
    assert (state["version"], state["shard"], state["shards"]) == (table.version, 1, 2)


@pytest.mark.slow
def test_a_whole_library_comes_back(rich, tmp_path, tiny_encoder):
    location = f"lance:{tmp_path}/table"
    export_library(rich, location)
    table = LanceTable.open(location)
    copy = open_copy(table, tmp_path / "copy")
    copy.update()
    assert contents_of(copy.library) == contents_of(rich)
    imported = open_import(table, tmp_path / "imported")
    imported.update()
    # The next run of the indexer has nothing to do.
    summary = index_sources(imported.library, tiny_encoder, [tmp_path / "photos"], workers=1)
    assert (summary.embedded, summary.added, summary.changed, summary.removed) == (0, 0, 0, 0)
    # What a table says comes and goes with it.
    (tmp_path / "photos" / "captions0.csv").unlink()
    index_sources(rich, tiny_encoder, [tmp_path / "photos"], workers=1)
    export_library(rich, location)
    for one in (copy, imported):
        one.update()
        assert contents_of(one.library) == contents_of(rich)
    assert not open_library(copy.library.path).warnings


@pytest.mark.slow
def test_shards_know_what_tables_of_other_shards_say(rich, tmp_path):
    location = f"lance:{tmp_path}/table"
    export_library(rich, location)
    found: dict = {}
    for number in range(4):
        shard = open_copy(LanceTable.open(location), tmp_path / f"shard{number}", shard=(number, 4))
        shard.update()
        found |= {
            path: value
            for path, value in contents_of(shard.library).items()
            if path == "sources" or not isinstance(value[0], FileEntry) or value[0].size
        }
    assert found == contents_of(rich)

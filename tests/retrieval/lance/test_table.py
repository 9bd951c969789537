import dataclasses
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from retrieval.encoders.base import Space
from retrieval.errors import LibraryError, NotFoundError, SpaceMismatchError, UsageError
from retrieval.lance.records import ITEM_COLUMNS, files_of, items_of, table_of
from retrieval.lance.schema import LATER_COLUMNS, arrow, file_key_of, lance
from retrieval.lance.table import CHANGED_AT, ROW_ID, LanceTable, quoted
from tests.conftest import REPOSITORY

pytest.importorskip("lance", reason="needs Lance: pip install 'mmsearch[cluster]'")


@pytest.fixture(params=["directory", pytest.param("bucket", marks=pytest.mark.slow)])
def location(request, tmp_path):
    """Where to make a table: in a directory and in an object store."""
    if request.param == "directory":
        return f"lance:{tmp_path}/table"
    return f"lance+s3://{request.getfixturevalue('bucket')}/table"


def ids(table):
    """The ids of the rows, by path and part."""
    rows = table.read([ROW_ID, "path", "part"]).to_pylist()
    assert len({(row["path"], row["part"]) for row in rows}) == len(rows)
    return {(row["path"], row["part"]): row[ROW_ID] for row in rows}


def test_rows_keep_their_ids_through_changes_and_compaction(location, space, make_file):
    table = LanceTable.create(location, space, {"/p": None})
    table.append(table_of([make_file("/p/a", 3), make_file("/p/it's")], space))
    before = ids(table)
    assert sorted(before.values()) == [0, 1, 2, 3]
    table.merge(table_of([make_file("/p/it's", seed=1), make_file("/p/c")], space))
    assert ids(table) == before | {("/p/c", ""): 4}
    changed = {row["path"]: row[CHANGED_AT] for row in table.read(["path", CHANGED_AT]).to_pylist()}
    assert changed["/p/a"] < changed["/p/it's"] == changed["/p/c"] == table.version
    with_ids = ids(table)
    table.compact()
    table.create_indices()
    assert ids(table) == with_ids
    again = LanceTable.open(location)
    assert ids(again) == with_ids
    assert (again.space, again.sources) == (space, {"/p": None})


def test_a_table_with_files_in_other_places_is_refused(tmp_path, space, make_file):
    table = LanceTable.create(f"lance:{tmp_path}/theirs", space)
    table.append(table_of([make_file("/a")], space))
    table.dataset.shallow_clone(f"{tmp_path}/clone", table.version)
    with pytest.raises(UsageError, match="files in other places"):
        LanceTable.open(f"lance:{tmp_path}/clone")
    table.dataset.add_bases([lance().DatasetBasePath("s3://of-somebody/x", name="other")])
    with pytest.raises(UsageError, match="files in other places"):
        table.refresh()


def test_a_table_of_an_earlier_version_is_read_and_gets_its_columns_when_written_to(
    tmp_path, space, make_file
):
    location = f"lance:{tmp_path}/table"
    table = LanceTable.create(location, space)
    table.append(table_of([make_file("/a", 2)], space))
    table.dataset.drop_columns(list(LATER_COLUMNS))
    earlier = LanceTable.open(location)
    assert [name for name in LATER_COLUMNS if name in earlier.dataset.schema.names] == []
    items = items_of(earlier.read((*ITEM_COLUMNS, ROW_ID)))
    assert [(item.part, item.start_s) for item in items] == [("p0", None), ("p1", None)]
    [stored] = files_of(earlier.read([*earlier.dataset.schema.names, ROW_ID]))
    [of_entry, *_] = [item.entry for item in stored.items]
    assert of_entry.end_s is None
    timed = make_file("/b")
    [item] = timed.items
    entry = dataclasses.replace(item.entry, time_s=2.5, start_s=2.0, end_s=4.5)
    timed = dataclasses.replace(timed, items=[dataclasses.replace(item, entry=entry)])
    earlier.merge(table_of([timed], space))
    found = {item.path: item for item in items_of(earlier.read((*ITEM_COLUMNS, ROW_ID)))}
    assert (found["/b"].time_s, found["/b"].start_s, found["/b"].end_s) == (2.5, 2.0, 4.5)
    assert found["/a"].start_s is None


def test_files_are_replaced_in_one_commit(location, space, make_file):
    table = LanceTable.create(location, space)
    table.append(table_of([make_file("/a", 3), make_file("/b"), make_file("/c", 2)], space))
    before, version = ids(table), table.version
    keys = [file_key_of(path) for path in ("/a", "/c", "/d")]
    table.replace_files(keys, table_of([make_file("/a", 2, seed=1), make_file("/d")], space))
    assert table.version == version + 1
    after = ids(table)
    assert after.keys() == {("/a", "p0"), ("/a", "p1"), ("/b", ""), ("/d", "")}
    assert {key: row for key, row in after.items() if key in before} == {
        key: before[key] for key in after.keys() & before.keys()
    }
    table.replace_files([file_key_of("/b")], table_of([], space))
    table.delete_files([])
    assert ("/b", "") not in ids(table)
    assert table.at(version).count() == 6


def test_nothing_known_is_merged_twice(location, space, make_file):
    table = LanceTable.create(location, space)
    rows = table_of([make_file("/a", 3), make_file("/b", 0, failure="broken")], space)
    for _ in range(3):
        table.merge(rows)
    assert table.count() == 4
    assert table.count("modality IS NULL") == 1


def test_two_writers_at_once_lose_and_double_nothing(location, space, make_file):
    LanceTable.create(location, space)

    def write(writer: int) -> None:
        table = LanceTable.open(location)
        for turn in range(5):
            both, own = make_file(f"/both/{turn}", 2), make_file(f"/{writer}/{turn}")
            table.merge(table_of([both], space))
            table.replace_files([file_key_of(own.file.path)], table_of([own], space))

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, range(2)))
    table = LanceTable.open(location)
    assert len(ids(table)) == table.count() == 20


def test_a_version_is_read_as_it_was(location, space, make_file):
    table = LanceTable.create(location, space)
    reader = LanceTable.open(location)
    table.append(table_of([make_file("/a")], space))
    old = table.version
    table.delete("path = '/a'")
    assert (reader.count(), reader.newest_version) == (0, table.version)
    assert table.at(old).count() == 1
    assert reader.refresh()
    assert not reader.refresh()
    assert reader.version == table.version
    assert [one.rows for one in table.versions()] == [0, 1, 0]
    with pytest.raises(NotFoundError, match="version 99"):
        table.at(99)


def test_what_rewrites_rows_without_a_sign_is_known(tmp_path, space, make_file):
    table = LanceTable.create(f"lance:{tmp_path}/t", space)
    table.append(table_of([make_file("/a")], space))
    old = table.version
    table.merge(table_of([make_file("/b")], space))
    table.delete("path = '/a'")
    table.compact()
    table.create_indices()
    assert not table.was_rewritten_since(1)
    last = table.version
    table.at(old).dataset.restore()
    table.refresh()
    assert table.was_rewritten_since(last)
    assert not table.was_rewritten_since(table.version)
    table.append(table_of([make_file("/c")], space))
    assert not table.was_rewritten_since(table.version - 1)
    table.compact(keep=timedelta(0))
    assert table.was_rewritten_since(1)


def test_words_are_found_as_they_were_split(location, space, make_file):
    table = LanceTable.create(location, space)
    table.create_indices()  # of nothing
    table.append(table_of([make_file("/Tagebuch.jpg"), make_file("/b.jpg")], space))
    table.create_indices()
    table.append(table_of([make_file("/Tagebuch2.jpg")], space))
    table.create_indices()
    search = table.dataset.to_table(columns=["path", "_score"], full_text_query="tagebuch")
    assert sorted(search["path"].to_pylist()) == ["/Tagebuch.jpg", "/Tagebuch2.jpg"]


def test_a_table_has_one_space(location, space):
    LanceTable.create(location, space)
    LanceTable.create(location, space)
    other = dataclasses.replace(space, weights="sha256:1")
    with pytest.raises(SpaceMismatchError, match="Vectors of two spaces"):
        LanceTable.create(location, other)


def test_what_is_no_library_is_not_opened(tmp_path, space):
    with pytest.raises(NotFoundError, match="no table"):
        LanceTable.open(f"lance:{tmp_path}/nothing")
    rows = {"vector": [[0.0, 1.0]]}
    for name, options in (("plain", {}), ("stable", {"enable_stable_row_ids": True})):
        lance().write_dataset(arrow().table(rows), str(tmp_path / name), **options)
        with pytest.raises(UsageError, match="none that mmsearch wrote"):
            LanceTable.open(f"lance:{tmp_path}/{name}")
        with pytest.raises(UsageError):
            LanceTable.create(f"lance:{tmp_path}/{name}", space)
    damaged = tmp_path / "damaged"
    LanceTable.create(f"lance:{damaged}", space)
    [manifest] = damaged.glob("_versions/*.manifest")
    manifest.write_bytes(b"garbage")
    with pytest.raises(LibraryError, match="cannot be read"):
        LanceTable.open(f"lance:{damaged}")


def test_sources_are_said_once(tmp_path, space):
    table = LanceTable.create(f"lance:{tmp_path}/t", space)
    table.set_sources({"/a": {"follow": True}})
    version = table.version
    table.set_sources({"/a": {"follow": True}})
    assert table.version == version
    other = LanceTable.open(f"lance:{tmp_path}/t")
    assert other.sources == {"/a": {"follow": True}}
    table.set_sources({"/b": None})
    other.set_sources({"/a": {"follow": True}, "/c": None})  # of another writer, at once
    assert LanceTable.open(f"lance:{tmp_path}/t").sources == {"/b": None, "/c": None}


def test_quotes_cannot_be_broken(tmp_path, space, make_file):
    table = LanceTable.create(f"lance:{tmp_path}/t", space)
    names = ["/'", "/\\'", "/' OR '1'='1", '/"', "/é\n", "/%_"]
    table.append(table_of([make_file(name) for name in names], space))
    for name in names:
        assert table.count(f"path = {quoted(name)}") == 1
    with pytest.raises(UsageError):
        quoted("a\0b")


def test_the_core_needs_no_lance():
    program = (
        "import sys; sys.modules['lance'] = None; sys.modules['pyarrow'] = None\n"
        "from retrieval.lance.table import LanceTable\n"
        "from retrieval.encoders.base import Space\n"
        "from retrieval.errors import UsageError\n"
        "try: LanceTable.create('lance:/nowhere/x', Space('a', 'b', 'c', 2))\n"
        "except UsageError as error: assert 'mmsearch[cluster]' in str(error), error\n"
        "else: raise SystemExit('no error')\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=REPOSITORY)


def test_another_dimension_is_another_space(tmp_path, space):
    LanceTable.create(f"lance:{tmp_path}/t", space)
    with pytest.raises(SpaceMismatchError):
        LanceTable.create(f"lance:{tmp_path}/t", Space("toy", "sha256:0", "none", 16))

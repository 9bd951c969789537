"""What facets count, as arrays."""

from datetime import UTC, datetime

import numpy as np
import pytest
import sqlalchemy as sa

from retrieval.catalog import FailedFile, FileEntry, FileUpdate, ItemEntry
from retrieval.catalog.facets import MOST_VALUES, ColumnFacet, Labels, fill, read_file_facets
from retrieval.catalog.schema import CodesRecord, FileRecord, FolderRecord, LabelRecord
from retrieval.media import MediaKind, Metadata, Modality

SPACE = "space"


def test_labels_are_counted_where_there_are_some():
    labels = Labels(lambda code: " abc"[code], np.array([0, 1, 3, 1], np.int32))
    assert labels.count(np.array([0, 1, 1, 2, 3])) == [("a", 3), ("c", 1)]
    assert labels.count(np.array([], np.int64)) == []


@pytest.fixture
def snapshot(catalog):
    """Five pictures in two sources, one inside the other, a table and its text items."""
    paths = ["/p/a.jpg", "/p/2019/rome/b.jpg", "/p/2019/rome/old/c.jpg", "/p/in/d.jpg", "/q/e.jpg"]
    dates = [None, 1_560_600_000, 1_560_600_001, -86_400, 10**17]
    cameras = ["X", "", "X", None, "é"]
    updates = [
        FileUpdate(
            FileEntry(path, MediaKind.IMAGE, 1, -1, path, Metadata(date, camera, taken_local=date)),
            [ItemEntry(Modality.IMAGE, row)],
        )
        for row, (path, date, camera) in enumerate(zip(paths, dates, cameras, strict=True))
    ]
    said = [
        ("/p/a.jpg", {"tag": ["red", "red", 1], "unique": f"text {0}", "long": "x" * 101}),
        ("/q/e.jpg", {"tag": "red", "flag": True, "empty": "", "none": None, "nested": {"a": 1}}),
        ("/q/e.jpg", {"tag": "red", "flag": 1}),
        ("/nowhere.jpg", {"tag": "green"}),
    ]
    table = FileEntry("/p/t.csv", MediaKind.TABLE, 1, -1, "t")
    rows = [
        ItemEntry(Modality.TEXT, row, str(row), text="t", columns={"id": row, "tag": "red"})
        for row in range(MOST_VALUES + 1)
    ]
    with catalog.transaction() as transaction:
        transaction.add_sources({"/p": None, "/p/in": None})
        transaction.extend_rows(SPACE, Modality.IMAGE, 0, len(paths))
        transaction.extend_rows(SPACE, Modality.TEXT, 0, len(rows))
        transaction.record_files(SPACE, [*updates, FileUpdate(table, rows, annotations=said)])
    with catalog.snapshot() as snapshot:
        yield snapshot


def ids(snapshot, modality=Modality.IMAGE):
    table = snapshot.item_table(SPACE, modality)
    return table.file_ids, snapshot.item_ids(SPACE, modality, table)


def test_months_folders_and_labels_of_files(snapshot):
    facets, (file_ids, _) = snapshot.file_facets(), ids(snapshot)
    assert facets.months.count(file_ids) == [("1969-12", 1), ("2019-06", 2)]
    assert facets.labels["camera"].count(file_ids) == [("X", 2), ("é", 1)]
    assert facets.labels["kind"].count(file_ids) == [("image", 5)]
    assert facets.count_folders(file_ids) == [
        ("/p", 3),
        ("/p/2019", 2),
        ("/p/2019/rome", 2),
        ("/p/in", 1),
    ]


def test_a_catalog_without_files_has_nothing_to_count(catalog):
    with catalog.snapshot() as snapshot:
        facets = snapshot.file_facets()
        none = np.array([], np.int64)
        assert facets.months.count(none) == facets.labels["camera"].count(none) == []
        assert facets.count_folders(none) == []
        assert snapshot.column_facets() == {}


def coded(catalog):
    """By path: the folder, month and camera that the codes say, and that the files say."""
    query = sa.select(
        FileRecord.id,
        FileRecord.path,
        FolderRecord.path.label("folder"),
        FileRecord.taken_local,
        FileRecord.camera,
    ).join(FolderRecord, FolderRecord.id == FileRecord.folder_id)
    found, wanted = {}, {}
    with catalog.dialect.connect(write=False) as connection:
        facets = read_file_facets(connection)
        for file in connection.execute(query):
            labels = (facets.folders, facets.months, facets.labels["camera"])
            ids = np.array([file.id])
            found[file.path] = [[value for value, _ in of.count(ids)] for of in labels]
            local = file.taken_local
            months = [] if local is None else [f"{datetime.fromtimestamp(local, UTC):%Y-%m}"]
            wanted[file.path] = [[file.folder], months, [file.camera] if file.camera else []]
    return found, wanted


def test_codes_follow_every_change_of_a_file(catalog):
    def entry(number, path, seconds, **metadata):
        content = f"content {number}"
        mtime_ns = seconds * 10**9
        return FileEntry(path, MediaKind.IMAGE, 1, mtime_ns, content, Metadata(**metadata))

    count = 1100  # more than one record of codes holds
    files = [entry(n, f"/a/{n}.jpg", 86_400 * n, camera=f"C{n % 3}") for n in range(count)]
    with catalog.transaction() as transaction:
        transaction.record_files(SPACE, [FileUpdate(file) for file in files])
    found, wanted = coded(catalog)
    assert found == wanted
    assert len(found) == count
    with catalog.transaction() as transaction:
        transaction.move_file("/a/5.jpg", "/b/5.jpg")
        transaction.relocate("/a/7.jpg", "/c/d/7.jpg")
        transaction.record_touched([entry(9, "/a/9.jpg", 10**9)])
        transaction.record_metadata(
            {"/a/11.jpg": (Metadata(taken_at=10**9, taken_local=10**9 + 40 * 86_400), None)}, {}
        )
        transaction.record_failures([FailedFile("/e/f.jpg", "broken", 1, 10**18)])
        again = entry("new", "/a/13.jpg", 1, camera="another", taken_at=5 * 10**8)
        transaction.record_files(SPACE, [FileUpdate(again)])
    found, wanted = coded(catalog)
    assert found == wanted
    assert found["/a/11.jpg"][1] == ["2001-10"]
    assert found["/a/13.jpg"] == [["/a/"], ["1985-11"], ["another"]]
    with catalog.dialect.connect(write=True) as connection:
        connection.execute(sa.delete(CodesRecord))
        connection.execute(sa.delete(LabelRecord))
        fill(connection)
    assert coded(catalog) == (found, wanted)


def test_columns_with_few_values_are_facets(snapshot):
    columns = snapshot.column_facets()
    counted = {name: facet.count(*ids(snapshot)) for name, facet in columns.items()}
    assert counted == {
        "flag": [(True, 1), (1, 1)],
        "tag": [("red", 2), (1, 1)],
        "unique": [("text 0", 1)],
    }
    of_texts = {name: facet.count(*ids(snapshot, "text")) for name, facet in columns.items()}
    assert of_texts == {"flag": [], "tag": [("red", MOST_VALUES + 1)], "unique": []}


@pytest.mark.parametrize("is_of_items", [True, False])
def test_a_column_of_files_or_of_items_alone_is_counted(is_of_items):
    none, some = np.empty((0, 2), np.int64), np.array([[1, 0], [2, 1]])
    pairs = (none, some) if is_of_items else (some, none)
    ids = np.array([1, 1, 5])
    assert ColumnFacet(["a", "b"], *pairs).count(ids, ids) == [("a", 2)]
    assert ColumnFacet(["a", "b"], *pairs).count(ids[:0], ids[:0]) == []


def test_values_of_a_long_column_are_found_by_a_part(snapshot):
    count = MOST_VALUES + 1
    facet, left_out = snapshot.column_facet("id", "")
    assert (list(facet.values), left_out) == ([], count)
    facet, left_out = snapshot.column_facet("id", "99")
    found = facet.count(*ids(snapshot, "text"))
    assert sorted(found) == [(n, 1) for n in range(count) if "99" in str(n)]
    assert left_out == 0
    facet, left_out = snapshot.column_facet("tag", "RE")
    assert facet.count(*ids(snapshot)) == [("red", 2)]
    assert snapshot.column_facet("no such", "")[0].count(*ids(snapshot)) == []


def test_columns_of_removed_tables_are_gone(catalog, snapshot):
    with catalog.transaction() as transaction:
        transaction.mark_removed(["/p/t.csv"])
    with catalog.snapshot() as later:
        assert "flag" not in later.column_facets()

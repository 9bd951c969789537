"""What facets count, as arrays."""

import numpy as np
import pytest

from retrieval.catalog import FileEntry, FileUpdate, ItemEntry
from retrieval.catalog.facets import MOST_VALUES, ColumnFacet, Labels
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


def test_columns_of_removed_tables_are_gone(catalog, snapshot):
    with catalog.transaction() as transaction:
        transaction.mark_removed(["/p/t.csv"])
    with catalog.snapshot() as later:
        assert "flag" not in later.column_facets()

"""Cells of tables: what passes a test by column, and that they follow items, files and tables."""

import json

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retrieval.catalog import FileEntry, FileUpdate, ItemEntry, cells
from retrieval.catalog.column_condition import folded, number_of
from retrieval.catalog.schema import (
    CellValueRecord,
    FileCellRecord,
    FileRecord,
    ItemCellRecord,
    ItemRecord,
)
from retrieval.filters import ColumnTest
from retrieval.media import MediaKind, Modality

SPACE = "space"

scalars = st.sampled_from(
    [
        *(None, True, False, 0, 3, -1, 3.5, 1e300, 2**53 + 1, 10**30, float("inf"), "", "3"),
        *(" 3.5 ", "true", "\tFALSE", "Straße", "É", "a'b\"c", "\ud800", "9007199254740993"),
    ]
)
values = scalars | st.lists(scalars, max_size=3) | st.just({"a": 3}) | st.just([[3]])
names = st.sampled_from(["a", "b.c", 'qu"ote', "雪", "$[0]", "", "\ud800"])
numbers = st.none() | st.sampled_from([0, 3, 3.5, -1e300, 2.0**53, 1e30])
tests = st.builds(
    ColumnTest,
    equals=st.none() | st.sampled_from([3, 3.5, True, "3", "TRUE", "Straße", "", 2**53 + 1]),
    contains=st.none() | st.sampled_from(["3", "STRASSE", "é", "'", "53"]),
    min=numbers,
    max=numbers,
)


def passes(value, test: ColumnTest) -> bool:
    """The oracle, in plain Python."""
    if isinstance(value, list):
        return any(passes(single, test) for single in value if not isinstance(single, list))
    if not isinstance(value, str | int | float):
        return False
    text = str(value).lower() if isinstance(value, bool) else str(value)
    number, wanted = number_of(value), test.equals
    if wanted is not None:
        if isinstance(wanted, bool) or isinstance(value, bool):
            is_equal = text.strip().casefold() == str(wanted).strip().casefold()
        elif isinstance(wanted, str) and isinstance(value, str):
            is_equal = value == wanted
        else:
            is_equal = number is not None and number == number_of(wanted)
        if not is_equal:
            return False
    if test.contains is not None and folded(test.contains) not in folded(text):
        return False
    if test.min is None and test.max is None:
        return True
    return (
        number is not None
        and (test.min is None or number >= test.min)
        and (test.max is None or number <= test.max)
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    columns=st.dictionaries(names, values, max_size=3),
    name=names,
    test=tests,
    by_index=st.booleans(),
)
def test_a_cell_passes_as_it_does_in_python(catalog, columns, name, test, by_index):
    with catalog.dialect.connect(write=True) as connection:
        cells.refresh_items(connection, {1: columns})
        passing = cells.values_that_pass(name, test, catalog.dialect, by_index=by_index)
        found = connection.scalars(
            sa.select(ItemCellRecord.item_id).where(ItemCellRecord.value_id.in_(passing))
        ).all()
    wanted = name in columns and passes(columns[name], test)
    assert set(found) == ({1} if wanted else set())


@pytest.mark.parametrize("infinite", [float("inf"), float("-inf")])
def test_nothing_equals_what_is_no_number(catalog, infinite):
    with catalog.dialect.connect(write=True) as connection:
        cells.refresh_items(connection, {1: {"a": infinite}, 2: {"a": "text"}})
        passing = cells.values_that_pass(
            "a", ColumnTest(equals=infinite), catalog.dialect, by_index=True
        )
        assert connection.scalars(passing).all() == []


def said(catalog):
    """What is kept: of each file, of each item, and all values."""
    with catalog.dialect.connect(write=False) as connection:

        def read(owner, record, shown):
            query = (
                sa.select(shown, CellValueRecord.name, CellValueRecord.value)
                .join_from(owner, record, sa.or_(*_owned(record, owner)))
                .join(CellValueRecord, CellValueRecord.id == record.value_id)
            )
            return sorted(map(tuple, connection.execute(query)))

        of_files = read(FileRecord, FileCellRecord, FileRecord.path)
        of_items = read(ItemRecord, ItemCellRecord, ItemRecord.part)
        known = connection.execute(sa.select(CellValueRecord.name, CellValueRecord.value)).all()
    return of_files, of_items, sorted(map(tuple, known))


def _owned(record, owner):
    if record is FileCellRecord:
        return [FileCellRecord.file_id == FileRecord.id]
    return [ItemCellRecord.item_id == ItemRecord.id]


def record(catalog, path, kind=MediaKind.IMAGE, *, content="x", items=(), annotations=()):
    with catalog.transaction() as transaction:
        row = transaction.row_count(SPACE, Modality.TEXT)
        transaction.extend_rows(SPACE, Modality.TEXT, row, len(items))
        entries = [
            ItemEntry(Modality.TEXT, row + place, str(place), text="t", columns=columns)
            for place, columns in enumerate(items)
        ]
        file = FileEntry(path, kind, 1, 1, content)
        transaction.record_files(SPACE, [FileUpdate(file, entries, annotations=list(annotations))])


def test_cells_follow_files_and_tables(catalog):
    record(catalog, "/a.jpg")
    record(
        catalog,
        "/t.csv",
        MediaKind.TABLE,
        annotations=[("/a.jpg", {"tag": ["x", "y"]}), ("/b.jpg", {"tag": "x"})],
    )
    x, y = ("tag", '"x"'), ("tag", '"y"')
    assert said(catalog) == ([("/a.jpg", *x), ("/a.jpg", *y)], [], [x, y])
    record(catalog, "/b.jpg", content="other")
    assert said(catalog)[0] == [("/a.jpg", *x), ("/a.jpg", *y), ("/b.jpg", *x)]
    with catalog.transaction() as transaction:
        transaction.move_file("/a.jpg", "/c.jpg")
    assert said(catalog) == ([("/b.jpg", *x)], [], [x])
    with catalog.transaction() as transaction:
        transaction.move_file("/c.jpg", "/a.jpg")
    assert said(catalog)[0] == [("/a.jpg", *x), ("/a.jpg", *y), ("/b.jpg", *x)]
    with catalog.transaction() as transaction:
        transaction.mark_removed(["/t.csv"])
    assert said(catalog) == ([], [], [])
    with catalog.transaction() as transaction:
        transaction.record_touched([FileEntry("/t.csv", MediaKind.TABLE, 1, 2, "x")])
    assert said(catalog)[0] == [("/a.jpg", *x), ("/a.jpg", *y), ("/b.jpg", *x)]
    record(catalog, "/t.csv", MediaKind.TABLE, content="new", annotations=[("/b.jpg", {"n": 1})])
    assert said(catalog) == ([("/b.jpg", "n", "1")], [], [("n", "1")])


def test_annotations_of_images_that_move_with_their_table(catalog):
    record(catalog, "/old/a.jpg")
    record(catalog, "/old/t.csv", MediaKind.TABLE, annotations=[("/old/a.jpg", {"n": 1})])
    with catalog.transaction() as transaction:
        transaction.relocate("/old", "/new")
    assert said(catalog)[0] == [("/new/a.jpg", "n", "1")]


def test_cells_follow_items(catalog):
    record(catalog, "/t.csv", MediaKind.TABLE, items=[{"n": 1}, {"n": 2, "m": 1}])
    assert said(catalog)[1] == [("0", "n", "1"), ("1", "m", "1"), ("1", "n", "2")]
    record(catalog, "/t.csv", MediaKind.TABLE, content="y", items=[{"n": 2}])
    assert said(catalog) == ([], [("0", "n", "2")], [("n", "2")])
    with catalog.transaction() as transaction:
        transaction.remove_space(SPACE)
    assert said(catalog) == ([], [], [])


def test_a_catalog_without_cells_can_be_filled(catalog):
    record(catalog, "/a.jpg")
    record(
        catalog,
        "/t.csv",
        MediaKind.TABLE,
        items=[{"n": 1}],
        annotations=[("/a.jpg", {"k": [1, None, "x"]})],
    )
    before = said(catalog)
    with catalog.dialect.connect(write=True) as connection:
        for table in (FileCellRecord, ItemCellRecord, CellValueRecord):
            connection.execute(sa.delete(table))
        cells.fill(connection)
    assert said(catalog) == before
    assert [json.loads(value) for _, value in before[2]] == ["x", 1, 1]

import sqlite3

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.filters import Filter
from retrieval.indices.base import AllowedRows
from retrieval.indices.row_fields import FIELDS, NOTHING, RowFields, Selector

DAY = 86_400
ITEMS = [
    # row, width, height, taken_local, date, kind, camera, path
    (0, 100, 50, 0, 0, "image", "A 'quoted' one", "/photos/a/1.jpg"),
    (1, 200, None, DAY, DAY, "video", None, "/photos/b/2.mp4"),
    (3, 300, 70, None, None, "image", "B", "/photos/ab/3.jpg"),
    (4, 400, 80, -DAY, -DAY, "image", "B", "/else/4.jpg"),
]
ROWS = 6
WANTED = [
    ({"width": {"min": 200}}, {1, 3, 4}),
    ({"width": {"min": 99.5, "max": 200.5}}, {0, 1}),
    ({"height": {"max": 70}}, {0, 3}),
    ({"kind": ["video"]}, {1}),
    ({"kind": ["document"]}, set()),
    ({"camera_name": "A 'quoted' one"}, {0}),
    ({"source": "/photos"}, {0, 1, 3}),
    ({"source": "/photos/a"}, {0}),
    ({"taken_at": {"since": "1970-01-01", "before": "1970-01-02"}}, {0}),
    ({"taken_at": {"before": "1970-01-01T00:00:00Z"}}, {4}),
    ({"or": [{"kind": ["video"]}, {"camera_name": "B"}]}, {1, 3, 4}),
    ({"not": {"width": {"min": 200}}}, {0, 2, 5}),
    ({"and": [{"kind": ["image"]}, {"not": {"source": "/photos"}}]}, {4}),
]


@pytest.fixture
def fields():
    return RowFields.of(ITEMS, 0, ROWS)


def selected_by_sql(fields, condition):
    """Rows that SQLite finds by the text of a condition."""
    connection = sqlite3.connect(":memory:")
    connection.execute(f"create table t (id, {', '.join(FIELDS)})")
    rows = zip(range(len(fields)), *(fields.values[name].tolist() for name in FIELDS), strict=True)
    connection.executemany(f"insert into t values ({'?, ' * len(FIELDS)}?)", rows)
    found = {row for (row,) in connection.execute(f"select id from t where {condition}")}
    connection.close()
    return found


@pytest.mark.parametrize(("where", "expected"), WANTED)
def test_a_condition_passes_what_its_text_says(fields, where, expected):
    condition = fields.condition(Filter.model_validate(where))
    assert set(np.flatnonzero(condition.passing(fields)).tolist()) == expected
    assert selected_by_sql(fields, condition) == expected


@pytest.mark.parametrize(
    "where",
    [
        {"path": "**/*.jpg"},
        {"camera": "b"},
        {"taken_at": {"since": "1970", "recorded": True}},
        {"or": [{"kind": ["image"]}, {"rating": {"min": 3}}]},
        {"not": {"keyword": "dog"}},
        {},
    ],
)
def test_what_no_field_tells_has_no_condition(fields, where):
    assert fields.condition(Filter.model_validate(where)) is None


def test_fields_are_extended_with_other_numbers_of_names(fields):
    more = RowFields.of([(7, 1, 1, 1, 1, "video", "C", "/photos/b/c/7.mp4")], ROWS, ROWS + 2)
    both = fields.extended(more)
    assert len(both) == ROWS + 2
    assert both.values["kind"][[1, 7]].tolist() == [1, 1]
    assert both.values["camera"][-2:].tolist() == [NOTHING, 2]
    assert both.names["camera"] == ["A 'quoted' one", "B", "C"]
    below = both.condition(Filter(source="/photos/b"))
    assert np.flatnonzero(below.passing(both)).tolist() == [1, 7]
    assert len(RowFields.empty().extended(more)) == 2


@given(st.lists(st.booleans(), min_size=ROWS, max_size=ROWS), st.sampled_from([None, *WANTED]))
def test_a_selection_is_exactly_the_allowed_rows(allowed, wanted):
    fields = RowFields.of(ITEMS, 0, ROWS)
    where = None if wanted is None else Filter.model_validate(wanted[0])
    bitmap = np.array(allowed)
    selection = Selector(fields).select(AllowedRows(bitmap, where))
    passes = np.full(ROWS, not selection.only_included)
    if selection.condition is not None:
        passes &= selection.condition.passing(fields)
    passes[selection.included] = True
    passes[selection.excluded] = False
    assert passes.tolist() == allowed
    assert selection.named <= min(sum(allowed), ROWS - sum(allowed))


def test_a_condition_is_sent_with_what_changed_since():
    count = 1000
    items = [(row, row, 1, 0, 0, "image", None, "/a/b.jpg") for row in range(count)]
    selector = Selector(RowFields.of(items, 0, count))
    bitmap = np.arange(count) >= 600
    bitmap[[3, 700]] = True, False
    selection = selector.select(AllowedRows(bitmap, Filter.model_validate({"width": {"min": 600}})))
    assert "width >= 600" in str(selection.condition)
    assert (selection.included.tolist(), selection.excluded.tolist()) == ([3], [700])
    # Without fields, or of other rows, rows are named.
    for other in (Selector(None), Selector(RowFields.of(items[:-1], 0, count - 1))):
        named = other.select(AllowedRows(bitmap, Filter.model_validate({"width": {"min": 600}})))
        assert named.condition is None
        assert named.included.tolist() == np.flatnonzero(bitmap).tolist()

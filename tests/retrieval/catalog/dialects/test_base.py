"""What every database must do that can hold a catalog."""

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retrieval.catalog import Catalog
from retrieval.catalog.column_condition import passes
from retrieval.catalog.schema import ExtentRecord
from retrieval.errors import LibraryLockedError
from retrieval.filters import ColumnTest
from retrieval.media import Modality

scalars = st.sampled_from(
    [None, True, False, 0, 3, -1, 3.5, 1e300, "", "3", " 3.5 ", "true", "Straße", "É", "a'b\"c"]
)
values = scalars | st.lists(scalars, max_size=3) | st.just({"a": 3})
names = st.sampled_from(["a", "b.c", 'qu"ote', "雪", "$[0]", ""])
numbers = st.none() | st.sampled_from([0, 3, 3.5, -1e300])
tests = st.builds(
    ColumnTest,
    equals=st.none() | st.sampled_from([3, 3.5, True, "3", "TRUE", "Straße"]),
    contains=st.none() | st.sampled_from(["3", "STRASSE", "é", "'"]),
    min=numbers,
    max=numbers,
)


@pytest.fixture
def evaluate(catalog):
    """Let the database say what a condition is."""

    def ask(condition):
        with catalog.dialect.connect(write=False) as connection:
            return connection.execute(sa.select(condition)).scalar()

    return ask


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(columns=st.dictionaries(names, values, max_size=3), name=names, test=tests)
def test_a_cell_passes_as_it_does_in_python(catalog, evaluate, columns, name, test):
    found = evaluate(
        catalog.dialect.cell_passes(sa.literal(columns, sa.JSON(none_as_null=True)), name, test)
    )
    assert found is not None
    if test != ColumnTest():
        assert bool(found) is (name in columns and passes(columns[name], test))


def test_a_missing_text_contains_nothing(catalog, evaluate):
    def contains(text, part):
        return evaluate(catalog.dialect.contains(sa.literal(text, sa.Text), part))

    assert contains("Canon EOS", "eos")
    assert contains("ÉCLAIR 100%_", "éclair 100%_")
    assert not contains("Canon EOS", "n%e")
    assert contains(None, "x") in (0, False)


def test_the_version_changes_with_every_commit_of_anyone(catalog, location):
    other = Catalog(location)
    versions = [catalog.dialect.version()]
    for count, writer in enumerate((catalog, other, catalog)):
        with writer.transaction() as transaction:
            transaction.extend_rows("space", Modality.IMAGE, count, 1)
        versions.append(catalog.dialect.version())
    other.close()
    assert len(set(versions)) == 4
    assert catalog.dialect.version() == versions[-1]


def test_there_is_one_writer_until_it_lets_go(catalog, location):
    other = Catalog(location)
    with catalog.dialect.writer(), pytest.raises(LibraryLockedError), other.dialect.writer():
        pass
    with other.dialect.writer():
        pass
    other.close()


def test_what_fails_is_rolled_back(catalog):
    def write_and_fail():
        with catalog.dialect.connect(write=True) as connection:
            row = {"space_id": "x", "modality": "image", "row_count": 1}
            connection.execute(sa.insert(ExtentRecord).values(row))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_and_fail()
    with catalog.dialect.connect(write=False) as connection:
        assert connection.execute(sa.select(ExtentRecord)).all() == []

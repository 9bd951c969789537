"""A catalog in each database that can hold one: the tests of this folder are run for all."""

from itertools import count

import pytest
import sqlalchemy as sa

from retrieval.catalog import SCHEMA_REVISION, Base, Catalog

_schemas = count()


@pytest.fixture(scope="session")
def new_schema(postgresql_server):
    """Name a schema of a PostgreSQL database that does not exist yet."""
    return lambda: f"{postgresql_server}&schema=catalog_{next(_schemas)}"


@pytest.fixture(
    scope="session", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)]
)
def new_location(request):
    """Name a database that does not exist yet, given a folder of its own."""
    if request.param == "sqlite":
        return lambda folder: folder / "catalog.sqlite"
    new_schema = request.getfixturevalue("new_schema")
    return lambda _: new_schema()


@pytest.fixture(scope="session")
def emptied():
    """Schemas that a test has used and that are empty again: to make one takes longer."""
    return []


@pytest.fixture
def location(request, new_location, emptied, tmp_path):
    location = new_location(tmp_path)
    if emptied and "catalog" in request.fixturenames and "://" in str(location):
        return emptied.pop()
    return location


@pytest.fixture
def catalog(location, emptied):
    catalog = Catalog(location)
    catalog.migrate()
    yield catalog
    if "://" in str(location):
        empty(catalog)
        emptied.append(location)
    catalog.close()


def empty(catalog: Catalog) -> None:
    """Delete all that a catalog in PostgreSQL has."""
    words = ("file_words", "item_words")
    with catalog.dialect.connect(write=True) as connection:
        tables = ", ".join(f'"{name}"' for name in (*Base.metadata.tables, *words))
        connection.exec_driver_sql(f"TRUNCATE {tables} RESTART IDENTITY")
        for name in words:
            connection.exec_driver_sql(f"UPDATE {name}_size SET documents = 0, tokens = 0")
        revision = {"revision": SCHEMA_REVISION}
        connection.execute(sa.text("UPDATE alembic_version SET version_num = :revision"), revision)

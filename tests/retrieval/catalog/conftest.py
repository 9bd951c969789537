"""A catalog in each database that can hold one: the tests of this folder are run for all."""

from itertools import count

import pytest

from retrieval.catalog import Catalog

_schemas = count()


@pytest.fixture(
    scope="session", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)]
)
def new_location(request):
    """Name a database that does not exist yet, given a folder of its own."""
    if request.param == "sqlite":
        return lambda folder: folder / "catalog.sqlite"
    server = request.getfixturevalue("postgresql_server")
    return lambda _: f"{server}&schema=catalog_{next(_schemas)}"


@pytest.fixture
def location(new_location, tmp_path):
    return new_location(tmp_path)


@pytest.fixture
def catalog(location):
    catalog = Catalog(location)
    catalog.migrate()
    yield catalog
    catalog.close()

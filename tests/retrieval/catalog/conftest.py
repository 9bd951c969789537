"""A catalog in each database that can hold one: the tests of this folder are run for all."""

import pytest

from retrieval.catalog import Catalog
from retrieval.catalog.dialects import DIALECTS

NEW_LOCATION = {
    "sqlite": lambda folder: folder / "catalog.sqlite",
}
"""By dialect: name a database that does not exist yet."""


@pytest.fixture(scope="session", params=DIALECTS)
def new_location(request):
    return NEW_LOCATION[request.param]


@pytest.fixture
def location(new_location, tmp_path):
    return new_location(tmp_path)


@pytest.fixture
def catalog(location):
    catalog = Catalog(location)
    catalog.migrate()
    yield catalog
    catalog.close()

import pytest

from retrieval.catalog import Catalog


@pytest.fixture
def catalog(tmp_path):
    catalog = Catalog(tmp_path / "catalog.sqlite")
    catalog.migrate()
    yield catalog
    catalog.close()

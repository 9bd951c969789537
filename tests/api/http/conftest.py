"""A service over a library of coloured pictures."""

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from api.http.app import create_app
from api.http.settings import ServiceSettings
from tests.warm_starts import warm_readers


@pytest.fixture(scope="session", autouse=True)
def warm_service() -> Iterator[None]:
    """Let services share the processes that check uploads and decode pictures."""
    with warm_readers("api.http.uploads", "api.http.decode_pool"):
        yield


@pytest.fixture(scope="session")
def client(coloured_library):
    app = create_app(coloured_library.path, ServiceSettings(max_body_mb=0.1), device="cpu")
    with TestClient(app, base_url="http://localhost") as client:
        yield client

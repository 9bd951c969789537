"""A service over a library of coloured pictures."""

import pytest
from starlette.testclient import TestClient

from api.http.app import create_app
from api.http.settings import ServiceSettings


@pytest.fixture(scope="session")
def client(coloured_library):
    app = create_app(coloured_library.path, ServiceSettings(max_body_mb=0.1), device="cpu")
    with TestClient(app, base_url="http://localhost") as client:
        yield client

"""Services that the defences stand before, by default and with keys."""

import pytest
from starlette.testclient import TestClient

from api.http.app import create_app
from api.http.middleware.headers import POLICY
from api.http.settings import ServiceSettings

READER = "reader-secret-0123456789"
WRITER = "writer-secret-0123456789"
KEYS = f"eve:read:{READER} bob:write:{WRITER}"


@pytest.fixture(scope="session")
def locked(coloured_library):
    """A service with keys."""
    app = create_app(coloured_library.path, ServiceSettings(api_keys=KEYS), device="cpu")
    with TestClient(app, base_url="http://localhost") as client:
        yield client


@pytest.fixture(scope="session")
def port(coloured_library, served):
    app = create_app(coloured_library.path, ServiceSettings(max_body_mb=0.1), device="cpu")
    with served(app) as port:
        yield port


@pytest.fixture(scope="session")
def refused():
    """Check a refusal: a problem, with all headers, and counted."""

    def check(client, answer, status, reason):
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == status
        assert answer.headers["content-security-policy"] == POLICY
        return (
            f'mmsearch_rejected_requests_total{{reason="{reason}"}}' in client.get("/metrics").text
        )

    return check

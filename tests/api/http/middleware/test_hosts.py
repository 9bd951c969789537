"""Names that a request may call this service by."""

import pytest
from starlette.testclient import TestClient

from api.http.app import create_app
from api.http.settings import ServiceSettings


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8765", "", "[::2]"]
)
def test_dns_rebinding_is_refused(client, host, refused):
    assert refused(client, client.get("/v1/items/1", headers={"Host": host}), 421, "host")


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "127.0.0.1:8765", "127.9.9.9", "[::1]:8765", "localhost."]
)
def test_dns_rebinding_guard_knows_this_machines_own_names(client, host):
    assert client.get("/v1/items/1", headers={"Host": host}).status_code == 200


def test_dns_rebinding_guard_lets_a_name_in_that_is_allowed(coloured_library):
    settings = ServiceSettings(allowed_hosts="photos.example, other.example")
    app = create_app(coloured_library.path, settings, device="cpu")
    with TestClient(app, base_url="http://photos.example:8765") as client:
        assert client.get("/healthz").status_code == 200
        assert client.get("/healthz", headers={"Host": "third.example"}).status_code == 421


@pytest.mark.parametrize("host", ["10.1.2.3:8765", "[fd00::2]:8765", "10.1.2.3"])
def test_probes_may_use_the_address_of_a_container(client, host):
    headers = {"Host": host}
    for path in ("/healthz", "/readyz", "/metrics"):
        assert client.get(path, headers=headers).status_code == 200
    for path in ("/", "/v1/items/1", "/v1/stats"):
        assert client.get(path, headers=headers).status_code == 421
    assert client.get("/healthz", headers={"Host": "evil.example"}).status_code == 421

"""Requests that can be read in two ways."""

import pytest


@pytest.mark.parametrize("path", ["/healthz", "/v1/items", "/nowhere"])
def test_a_request_with_two_lengths_is_refused_and_its_connection_ends(client, refused, path):
    headers = {"Content-Length": "6", "Transfer-Encoding": "chunked"}
    answer = client.post(path, headers=headers, content=b"0\r\n\r\nG")
    assert refused(client, answer, 400, "framing")
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize(
    "host",
    [
        "[::1]evil",
        "[::1",
        "::1",
        "localhost:9101@evil",
        "evil@127.0.0.1",
        "localhost/evil",
        "localhost\\evil",
        "localhost#",
        "localhost?",
        "local host",
        "localhost:port",
        "localhost:80:80",
        "[localhost]",
        "127.0.0.1\u00a0",
        "localhost, evil",
        "[]:80",
        ":80",
    ],
)
def test_a_malformed_host_is_refused(client, host):
    answer = client.get("/v1/items/1", headers={"Host": host.encode("latin-1")})
    assert answer.status_code == 400
    assert "Host" in answer.json()["detail"]

"""Headers of every answer."""

import pytest


@pytest.mark.parametrize("path", ["/healthz", "/nowhere", "/v1/items/1/thumbnail", "/metrics"])
def test_clickjacking_sniffing_and_scripts_are_shut_out_on_every_answer(client, path):
    headers = client.get(path).headers
    policy = headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert policy.startswith("default-src 'none'")
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert "server" not in headers
    assert "cache-control" in headers

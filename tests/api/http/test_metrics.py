"""What Prometheus reads, parsed by Prometheus's own parser."""

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from api.http.app import create_app


@pytest.fixture(scope="module")
def client(coloured_library):
    app = create_app(coloured_library.path, device="cpu")
    with TestClient(app, base_url="http://localhost") as client:
        yield client


def samples(client) -> dict[tuple[str, ...], float]:
    """Values by the name of the sample and the values of its labels."""
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_searches_are_counted_by_route_and_stage(client):
    before = samples(client)
    for number in range(3):
        client.post("/v1/search", json={"text": f"a dog {number}"})
    client.post("/v1/search", json={"text": ""})
    client.get("/v1/items/1")
    client.get("/v1/items/2")
    client.get("/nowhere/at/all")
    after = samples(client)

    def added(*name: str) -> float:
        return after[name] - before.get(name, 0)

    assert added("mmsearch_request_seconds_count", "POST", "/v1/search", "200") == 3
    assert added("mmsearch_request_seconds_count", "POST", "/v1/search", "422") == 1
    assert added("mmsearch_request_seconds_count", "GET", "/v1/items/{item_id}", "200") == 2
    assert added("mmsearch_request_seconds_count", "GET", "other", "404") == 1
    assert added("mmsearch_stage_seconds_count", "encode") == 3
    assert added("mmsearch_stage_seconds_sum", "encode") > 0
    assert added("mmsearch_batch_size_count") == 3
    assert added("mmsearch_queue_seconds_count") == 3
    assert after["mmsearch_queue_depth",] == 0


def test_the_library_and_the_process_are_described(client):
    found = samples(client)
    assert found["mmsearch_rows", "image"] == 4
    assert found["mmsearch_rows", "text"] == 0
    assert found["process_resident_memory_bytes",] > 1e6


def test_two_applications_count_apart(client, coloured_library):
    app = create_app(coloured_library.path, device="cpu")
    with TestClient(app, base_url="http://localhost") as other:
        other.get("/v1/items/1")
        assert samples(other)["mmsearch_request_seconds_count", "GET", "/v1/items/{item_id}", "200"]

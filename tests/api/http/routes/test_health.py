"""Liveness, readiness and metrics."""

from starlette.testclient import TestClient

from api.http.app import create_app


def test_health(client):
    body = client.get("/healthz").json()
    assert body["status"] == "ok"
    assert body["encoder"].startswith("local-dir:")


def test_a_service_that_shuts_down_is_alive_and_not_ready(coloured_library):
    """So a load balancer sends no more requests, and nothing restarts it meanwhile."""
    app = create_app(coloured_library.path, device="cpu")
    with TestClient(app, base_url="http://localhost") as client:
        assert client.get("/readyz").json()["status"] == "ready"
        app.state.service.stop()
        answer = client.get("/readyz")
        assert answer.status_code == answer.json()["status"] == 503
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["retry-after"] == "1"
        assert client.get("/healthz").status_code == 200


def test_metrics_are_text_for_prometheus(client):
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert "# TYPE mmsearch_request_seconds histogram" in answer.text


def test_head_is_answered_without_a_body(client):
    [item] = client.get("/v1/items", params={"limit": 1}).json()["items"]
    page = client.get("/").text
    style = page.partition('href="ui/')[2].partition('"')[0]
    paths = ["/healthz", "/readyz", "/metrics", "/", f"/ui/{style}", item["thumbnail"]]
    paths.append(f"/v1/items/{item['item_id']}/file")
    for path in paths:
        head, whole = client.head(path), client.get(path)
        assert (head.status_code, head.content) == (200, b""), path
        assert head.headers["content-type"] == whole.headers["content-type"]

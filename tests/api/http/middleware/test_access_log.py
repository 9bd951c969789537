"""What is counted and logged of a request, also of one that fails."""

import json
import logging

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from api.http.metrics import ServiceMetrics
from api.http.middleware.access_log import AccessLog


def hello(_request):
    return PlainTextResponse("hello")


def fail(_request):
    raise ZeroDivisionError("the secret inside")


def fail_halfway(_request):
    def body():
        yield b"half"
        raise ZeroDivisionError

    return StreamingResponse(body())


@pytest.fixture
def metrics():
    return ServiceMetrics()


@pytest.fixture
def ask(metrics, caplog):
    """Answer a GET with the middleware around three routes; gives the answer and the log lines."""
    routes = [Route("/hello/{name}", hello), Route("/fail", fail), Route("/half", fail_halfway)]
    caplog.set_level(logging.INFO, "mmsearch.access")

    def ask(path: str, *, log: bool = True):
        app = Starlette(routes=routes, middleware=[Middleware(AccessLog, metrics, log=log)])
        answer = TestClient(app, client=("192.0.2.7", 1)).get(path)
        lines = [record for record in caplog.records if record.name == "mmsearch.access"]
        return answer, [json.loads(record.getMessage()) for record in lines]

    return ask


def test_a_line_of_json_tells_route_status_and_size(ask, metrics):
    _, [line] = ask("/hello/you%0Athere")
    assert line.pop("ms") >= 0
    assert line.pop("time") > 1.7e9
    assert line == {
        "client": "192.0.2.7",
        "key": None,
        "method": "GET",
        "route": "/hello/{name}",
        "path": "/hello/you\nthere",
        "status": 200,
        "bytes": 5,
    }
    counted = 'mmsearch_request_seconds_count{method="GET",route="/hello/{name}",status="200"} 1.0'
    assert counted in metrics.text().decode()


def test_paths_that_no_route_has_share_a_label(ask, metrics):
    """Else a scan for weak pages would fill the memory with labels."""
    for path in ("/wp-admin", "/.env"):
        assert ask(path)[0].status_code == 404
    counted = 'mmsearch_request_seconds_count{method="GET",route="other",status="404"} 2.0'
    assert counted in metrics.text().decode()
    assert "wp-admin" not in metrics.text().decode()


def test_a_failure_is_a_problem_that_is_logged_and_counted(ask, metrics, caplog):
    answer, [line] = ask("/fail")
    assert (answer.status_code, line["status"]) == (500, 500)
    assert answer.headers["content-type"] == "application/problem+json"
    assert line["bytes"] == len(answer.content)
    assert "secret" not in answer.text
    assert "the secret inside" in caplog.text
    assert 'route="/fail",status="500"} 1.0' in metrics.text().decode()


def test_a_failure_within_an_answer_closes_the_connection(ask, metrics):
    """A second head cannot be sent: what the client has must not look complete."""
    with pytest.raises(ZeroDivisionError):
        ask("/half")
    assert 'route="/half",status="200"} 1.0' in metrics.text().decode()


def test_nothing_is_logged_unless_asked_for(ask, metrics):
    assert ask("/hello/you", log=False)[1] == []
    assert 'status="200"} 1.0' in metrics.text().decode()

"""The clients of the load test."""

import socket

import pytest

from api.http.app import create_app
from api.http.settings import ServiceSettings
from benchmarks.service.client import Load, LoadError, ask

TEXTS = [f"the dog {number} runs after ball {number}" for number in range(5000)]


@pytest.mark.slow
def test_clients_count_what_the_service_answered(coloured_library, served):
    app = create_app(coloured_library.path, device="cpu")
    with served(app) as port:
        asked = ask(Load(port, clients=3, seconds=1.0, texts=TEXTS, fields={"k": 2}))
        metrics = app.state.service.metrics.text().decode()
    assert set(asked.statuses) == {200}
    assert len(asked.statuses) == len(asked.took_ms) == len(asked.began_s) > 3
    line = 'mmsearch_request_seconds_count{method="POST",route="/v1/search",status="200"}'
    assert f"{line} {float(len(asked.statuses))}" in metrics
    assert not asked.ran_out
    assert asked.cpu_s > 0
    assert 1.0 <= asked.seconds < 10
    assert max(asked.began_s) < 1.0


@pytest.mark.slow
def test_clients_keep_what_was_refused_and_lost_apart(coloured_library, served):
    settings = ServiceSettings(rate_limit="5/hour")
    with served(create_app(coloured_library.path, settings, device="cpu")) as port:
        asked = ask(Load(port, clients=2, seconds=5.0, texts=TEXTS))
    assert asked.statuses.count(200) == 5
    assert set(asked.statuses) == {200, 429}
    lost = ask(Load(port, clients=1, seconds=0.3, texts=TEXTS))
    assert set(lost.statuses) == {0}


@pytest.mark.slow
def test_clients_tell_when_the_texts_are_used_up(coloured_library, served):
    with served(create_app(coloured_library.path, device="cpu")) as port:
        asked = ask(Load(port, clients=2, seconds=5.0, texts=TEXTS[:4]))
    assert asked.ran_out
    assert len(asked.statuses) == 4


def test_lost_connections_are_tried_again_after_a_pause():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    asked = ask(Load(port, clients=2, seconds=0.15, texts=TEXTS))
    assert set(asked.statuses) == {0}
    # A client that was refused waits a tenth of a second.
    assert 2 <= len(asked.statuses) <= 4
    assert not asked.ran_out


def test_clients_that_cannot_run_say_why():
    with pytest.raises(LoadError, match=r"(?s)failed: .*not iterable"):
        ask(Load(1, clients=1, seconds=0.1, texts=5))

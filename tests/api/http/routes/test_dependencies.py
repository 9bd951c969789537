"""The state that routes share: work on the inference thread, and the end of a service."""

import threading

import pytest
from starlette.testclient import TestClient

from api.http.app import create_app
from api.http.batching import NotReadyError


@pytest.fixture
def running(coloured_library):
    """A service, and a way to await on its event loop."""
    app = create_app(coloured_library.path, device="cpu")
    with TestClient(app, base_url="http://localhost") as client:
        yield app.state.service, client.portal.call


def test_one_thread_that_is_not_the_event_loops_owns_the_encoder(running):
    service, call = running
    threads = {call(service.on_inference_thread, threading.get_ident) for _ in range(5)}
    assert len(threads) == 1
    assert call(threading.get_ident) not in threads


def test_what_a_call_raises_is_raised_and_the_next_one_runs(running):
    service, call = running
    with pytest.raises(ZeroDivisionError):
        call(service.on_inference_thread, lambda: 1 / 0)
    assert call(service.on_inference_thread, lambda: 42) == 42


def test_a_service_that_stops_takes_no_more_and_tells_followers(running):
    service, call = running
    service.stop()
    call(service.stopping.wait)
    with pytest.raises(NotReadyError):
        call(service.on_inference_thread, lambda: 42)

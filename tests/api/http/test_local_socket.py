"""Sockets of a service for commands of the same user."""

import tempfile
from pathlib import Path

import pytest

from api.http.local_socket import open_local_socket
from api.resident.places import connect, is_possible

pytestmark = pytest.mark.skipif(not is_possible(), reason="there are no Unix sockets here")


@pytest.fixture
def library(monkeypatch):
    with tempfile.TemporaryDirectory(prefix="mm-") as directory:
        monkeypatch.setenv("XDG_RUNTIME_DIR", f"{directory}/run")
        found = Path(directory) / "library"
        found.mkdir()
        yield found


def test_the_first_service_of_a_library_has_its_socket(library):
    first = open_local_socket(library)
    assert Path(first.place).parent == library
    assert open_local_socket(library) is None
    first.listening.close()
    second = open_local_socket(library)  # the first was killed
    assert second.place == first.place
    first.remove()
    assert Path(second.place).exists(), "it is that of another service by now"
    second.remove()
    assert not Path(second.place).exists()
    second.listening.close()


def test_a_library_in_which_no_socket_can_lie_has_it_elsewhere(library):
    deep = library / ("d" * 100)
    deep.mkdir()
    opened = open_local_socket(deep)
    assert Path(opened.place).parent == library.parent / "run" / "mmsearch"
    connect(opened.place, 1.0).close()
    opened.remove()
    opened.listening.close()


def test_there_is_none_if_it_is_switched_off(library, monkeypatch):
    monkeypatch.setenv("MMSEARCH_RESIDENT", "off")
    assert open_local_socket(library) is None
    assert list(library.iterdir()) == []

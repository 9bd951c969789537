"""Sockets of running services: where they lie, and who may use them."""

import contextlib
import os
import socket
import stat
import tempfile
import threading
from pathlib import Path

import pytest

from api.resident.places import (
    connect,
    is_of_this_user,
    is_possible,
    library_sockets,
    listen,
    runtime_directory,
)

pytestmark = pytest.mark.skipif(not is_possible(), reason="there are no Unix sockets here")


@pytest.fixture(autouse=True)
def tmp_path(monkeypatch):
    """A directory of a short path, for sockets."""
    with tempfile.TemporaryDirectory(prefix="mm-") as directory:
        monkeypatch.setenv("XDG_RUNTIME_DIR", f"{directory}/run")
        yield Path(directory)


def test_the_runtime_directory_is_private_and_one_of_others_is_refused(tmp_path):
    directory = runtime_directory()
    assert directory == str(tmp_path / "run" / "mmsearch")
    assert stat.S_IMODE(os.stat(directory).st_mode) == 0o700
    os.chmod(directory, 0o755)
    assert runtime_directory() is None
    os.chmod(directory, 0o700)
    os.rename(directory, tmp_path / "elsewhere")
    os.symlink(tmp_path / "elsewhere", directory)
    assert runtime_directory() is None


def test_a_socket_lies_in_the_library_or_where_its_path_is_short_enough(tmp_path):
    here, there = library_sockets("/a/library", "1.2")
    assert here == "/a/library/service-1.2.sock"
    assert os.path.dirname(there) == str(tmp_path / "run" / "mmsearch")
    assert library_sockets("/a/" + "l" * 100, "1.2") != [there]
    assert len(library_sockets("/a/" + "l" * 100, "1.2")) == 1
    assert library_sockets("/a/library", "1.3") != [here, there]


def test_a_library_has_the_same_place_through_a_link(tmp_path):
    library = tmp_path / ("long" * 25)
    library.mkdir()
    (tmp_path / "link").symlink_to(library)
    assert (
        library_sockets(str(library), "1")[-1] == library_sockets(str(tmp_path / "link"), "1")[-1]
    )


def test_one_process_listens_and_one_that_has_ended_makes_room(tmp_path):
    place = str(tmp_path / "s")
    assert connect(place, 1.0) is None
    first = listen(place)
    assert stat.S_IMODE(os.stat(place).st_mode) == 0o600
    assert listen(place) is None
    with connect(place, 1.0) as connected:
        assert is_of_this_user(connected)
        accepted, _ = first.accept()
        with accepted:
            assert is_of_this_user(accepted)
    first.close()  # as by a kill: the file stays
    assert connect(place, 1.0) is None
    second = listen(place)
    assert second is not None
    second.close()


def test_a_process_that_is_too_busy_to_answer_keeps_its_socket(tmp_path):
    place = str(tmp_path / "busy.sock")
    with socket.socket(socket.AF_UNIX) as busy, contextlib.ExitStack() as waiting:
        busy.bind(place)
        busy.listen(0)
        while True:  # until no more connections may wait
            one = waiting.enter_context(socket.socket(socket.AF_UNIX))
            one.settimeout(0.01)
            try:
                one.connect(place)
            except OSError:
                break
        assert listen(place) is None
        assert os.path.exists(place)


def test_no_file_of_another_kind_is_replaced(tmp_path):
    place = tmp_path / "s"
    place.write_text("mine")
    with pytest.raises(FileExistsError):
        listen(str(place))
    assert place.read_text() == "mine"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")
def test_a_process_of_another_user_is_told(tmp_path):
    place = str(tmp_path / "s")
    with listen(place) as listening:
        os.chmod(tmp_path, 0o755)
        os.chmod(place, 0o666)
        told = []

        def ask() -> None:
            accepted, _ = listening.accept()
            with accepted:
                told.append(is_of_this_user(accepted))

        thread = threading.Thread(target=ask)
        thread.start()
        pid = os.posix_spawn(
            "/usr/bin/env",
            ["env", "python3", "-c", _AS_NOBODY, place],
            dict(os.environ),
        )
        os.waitpid(pid, 0)
        thread.join(10)
    assert told == [False]


_AS_NOBODY = """
import os, socket, sys
where = os.open(os.path.dirname(sys.argv[1]), os.O_RDONLY)
os.fchdir(where)
os.setuid(65534)
s = socket.socket(socket.AF_UNIX)
s.connect(os.path.basename(sys.argv[1]))
"""


@pytest.mark.parametrize("value", ["off", "0", "no"])
def test_it_can_be_switched_off(monkeypatch, value):
    monkeypatch.setenv("MMSEARCH_RESIDENT", value)
    assert not is_possible()


def test_the_place_is_not_that_of_another_users_socket(tmp_path, monkeypatch):
    place = str(tmp_path / "s")
    with listen(place):
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
        assert connect(place, 1.0) is None


def test_sockets_are_of_the_unix_family(tmp_path):
    with listen(str(tmp_path / "s")) as listening:
        assert listening.family == socket.AF_UNIX

"""The first steps of a command: nothing heavy is imported, and no worker is needed."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from api.resident import launcher
from api.resident.launcher import UnusedError, identity, leave_to_the_asker, run_in_worker
from api.resident.places import is_possible, listen, runtime_directory

pytestmark = pytest.mark.skipif(not is_possible(), reason="there are no Unix sockets here")


@pytest.fixture(autouse=True)
def tmp_path(monkeypatch):
    """A directory of a short path, for sockets."""
    with tempfile.TemporaryDirectory(prefix="mm-") as directory:
        monkeypatch.setenv("XDG_RUNTIME_DIR", directory)
        yield Path(directory)


@pytest.fixture
def answering():
    """A worker that answers one command; returns the commands that it has got."""
    asked = []

    def start(answer: bytes):
        place = f"{runtime_directory()}/worker-{identity()}-1.sock"
        listening = listen(place)

        def work() -> None:
            connection, _ = listening.accept()
            with connection, listening:
                size, descriptors, _, _ = socket.recv_fds(connection, 4, 4)
                content = b""
                while len(content) < int.from_bytes(size, "big"):
                    content += connection.recv(1 << 20)
                asked.append(json.loads(content))
                os.write(descriptors[1], b"from the worker\n")
                for descriptor in descriptors:
                    os.close(descriptor)
                connection.sendall(answer)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        return asked

    return start


def in_a_process(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = (
        "import sys; from api.resident.launcher import run_in_worker; "
        "print(run_in_worker(sys.argv), file=sys.stderr)"
    )
    return subprocess.run(
        [sys.executable, "-c", command, *arguments],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | environment,
    )


@pytest.mark.parametrize("arguments", [["mmsearch"], ["mmsearch", "index", "search"]])
def test_other_commands_run_here(arguments):
    assert run_in_worker(arguments) is None


def test_without_a_worker_a_command_runs_here(tmp_path):
    assert run_in_worker(["mmsearch", "search", "x"]) is None
    assert os.listdir(tmp_path / "mmsearch") == []


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"pid 1\n3\n", "3"),
        (b"pid 1\n0\n", "0"),
        (b"pid 1\nunused\n", "None"),
        (b"pid 1\n", "1"),  # it has died
        (b"what?\n", "None"),
        (b"", "None"),
    ],
)
def test_a_worker_gets_the_command_and_its_answer_decides(answering, answer, expected):
    asked = answering(answer)
    done = in_a_process("search", "a dog", "-k", "3", WORD="heard")
    assert done.stderr.strip() == expected
    assert done.stdout == "from the worker\n"
    assert asked[0]["arguments"][1:] == ["search", "a dog", "-k", "3"]
    assert asked[0]["environment"]["WORD"] == "heard"


def test_the_socket_of_a_worker_that_has_ended_is_removed():
    place = f"{runtime_directory()}/worker-{identity()}-1.sock"
    listen(place).close()
    assert run_in_worker(["mmsearch", "search", "x"]) is None
    assert not os.path.exists(place)


def test_a_worker_of_another_program_is_passed_over():
    place = f"{runtime_directory()}/worker-00000000-1.sock"
    with listen(place):
        assert run_in_worker(["mmsearch", "search", "x"]) is None


def test_only_a_worker_leaves_a_command_to_the_one_that_asks(monkeypatch):
    leave_to_the_asker()
    monkeypatch.setattr(launcher, "is_worker", True)
    with pytest.raises(UnusedError):
        leave_to_the_asker()


def test_nothing_heavy_is_imported_on_the_way_to_a_worker():
    command = (
        "import sys; sys.argv = ['mmsearch', 'search', 'x']\n"
        "before = set(sys.modules)\n"
        "import api.cli; from api.resident.launcher import run_in_worker\n"
        "run_in_worker(sys.argv)\n"
        "print(*sorted({name.split('.')[0] for name in set(sys.modules) - before}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", command], capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert "api" in loaded
    assert not loaded - {"api"} - set(sys.stdlib_module_names)
    assert not loaded & {
        "asyncio",
        "http",
        "email",
        "logging",
        "subprocess",
        "tempfile",
        "typing_extensions",
    }

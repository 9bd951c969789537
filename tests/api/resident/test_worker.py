"""Commands that run in a worker of a service: the same output, status and directory."""

import os
import pty
import signal
import subprocess
import sys
import tempfile
import time

import pytest

from api.http.local_socket import CommandWorker
from api.resident.launcher import worker_sockets
from api.resident.places import is_possible
from retrieval.encoders.base import Space
from retrieval.library import create_library

pytestmark = [
    pytest.mark.skipif(not is_possible(), reason="there are no Unix sockets here"),
    pytest.mark.slow,
]

PROGRAM = [sys.executable, "-c", "from api.cli import main; main()"]
IN_A_WORKER_ALONE = [
    sys.executable,
    "-c",
    "import sys; from api.resident.launcher import run_in_worker; "
    "status = run_in_worker(sys.argv); sys.exit(99 if status is None else status)",
]


@pytest.fixture(scope="module")
def worker():
    with (
        tempfile.TemporaryDirectory(prefix="mm-") as directory,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("XDG_RUNTIME_DIR", directory)
        worker = CommandWorker()
        worker.start()
        worker.start()  # once only
        end = time.monotonic() + 120
        while not worker_sockets():
            assert time.monotonic() < end
            time.sleep(0.05)
        assert len(worker_sockets()) == 1
        yield worker
        worker.close()
        assert worker_sockets() == []


@pytest.fixture
def short_directory():
    with tempfile.TemporaryDirectory(prefix="mm-") as directory:
        yield directory


def run(program, *arguments: str, **settings) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*program, *arguments], capture_output=True, text=True, check=False, **settings
    )


def test_help_is_the_same_from_a_worker(worker):
    there = run(IN_A_WORKER_ALONE, "search", "--help")
    here = run(PROGRAM, "search", "--help", env=os.environ | {"MMSEARCH_RESIDENT": "off"})
    assert there.stdout.replace("-c", "mmsearch") == here.stdout.replace("-c", "mmsearch")
    assert there.returncode == here.returncode == 0
    assert "--image" in there.stdout


def test_errors_of_usage_have_their_status_and_message(worker):
    done = run(IN_A_WORKER_ALONE, "search", "x", "-k", "0")
    assert done.returncode == 2
    assert "between 1 and 10,000" in done.stderr
    assert done.stdout == ""


def test_the_directory_and_environment_are_those_of_the_asker(worker, tmp_path):
    done = run(
        IN_A_WORKER_ALONE,
        "search",
        "x",
        "--library",
        "not-here",
        cwd=tmp_path,
        env=os.environ | {"COLUMNS": "300"},
    )
    assert done.returncode == 1
    assert "not-here" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_library_without_a_service_is_left_to_the_asker(worker, tmp_path):
    library = create_library(tmp_path / "library", Space("toy", "none", "none", 2)).path
    done = run(IN_A_WORKER_ALONE, "search", "noise", "--json", "--library", str(library))
    assert (done.returncode, done.stdout, done.stderr) == (99, "", "")


def test_a_terminal_stays_a_terminal(worker, tmp_path):
    """Rich makes errors coloured in a terminal alone."""
    reader, terminal = pty.openpty()
    command = [*IN_A_WORKER_ALONE, "search", "x", "--no-such-option"]
    environment = {k: v for k, v in os.environ.items() if k != "NO_COLOR"} | {"TERM": "xterm"}
    process = subprocess.Popen(command, stderr=terminal, env=environment)
    assert process.wait(60) == 2
    os.close(terminal)
    shown = os.read(reader, 10_000)
    os.close(reader)
    assert b"\x1b[" in shown


def test_the_worker_outlives_commands_that_are_interrupted(worker, tmp_path):
    process = subprocess.Popen([*IN_A_WORKER_ALONE, "search", "x"], stderr=subprocess.PIPE)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert run(IN_A_WORKER_ALONE, "search", "--help").returncode == 0


def test_the_worker_ends_with_what_has_started_it(short_directory, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", short_directory)
    starter = (
        "import time; from api.http.local_socket import CommandWorker\n"
        "from api.resident.launcher import worker_sockets\n"
        "CommandWorker().start()\n"
        "while not worker_sockets(): time.sleep(0.05)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", starter])
    assert process.wait(120) == 0
    end = time.monotonic() + 60
    while worker_sockets():
        assert time.monotonic() < end
        time.sleep(0.05)

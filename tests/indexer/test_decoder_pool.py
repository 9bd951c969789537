"""Workers that really crash, hang, fail and lose their indexer."""

import errno
import io
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from indexer.decoder_pool import _START, DecoderPool, WorkerStartError, _send
from indexer.media.base import Decoded, Locator, Piece
from retrieval.errors import MissingExtraError, UnreadableFileError
from retrieval.media import Modality

HANG_WITH_LOCK = ("(a+)+$", "a" * 60 + "b")
"""Arguments of `re.match` that keep it busy for ever, and the interpreter's lock taken."""

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
on_posix = pytest.mark.skipif(os.name != "posix", reason="sends signals")


@pytest.fixture(scope="module")
def workers() -> Iterator[DecoderPool]:
    with DecoderPool(2) as pool:
        yield pool


def raise_in_worker(workers: DecoderPool, statements: str) -> BaseException | None:
    return workers.submit(exec, statements).exception()


def is_running(pid: int) -> bool:
    """Whether a process runs; one that ended and that nobody waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until_gone(pids: list[int], seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while any(map(is_running, pids)) and time.monotonic() < end:
        time.sleep(0.02)
    return not any(map(is_running, pids))


def test_results_belong_to_their_calls(workers: DecoderPool):
    futures = [workers.submit(divmod, number, 7) for number in range(100)]
    assert [future.result() for future in futures] == [divmod(n, 7) for n in range(100)]


def test_calls_run_in_other_processes_side_by_side(workers: DecoderPool):
    futures = [
        workers.submit(eval, f"__import__('time').sleep({s}) or __import__('os').getpid()")
        for s in (0.3, 0.3)
    ]
    pids = {future.result() for future in futures}
    assert len(pids) == 2
    assert os.getpid() not in pids


def test_pictures_come_through(workers: DecoderPool):
    pixels = os.urandom(520 * 700 * 3)
    image = workers.submit(Image.frombytes, "RGB", (520, 700), pixels).result()
    assert image.tobytes() == pixels
    piece = workers.submit(Piece, Modality.IMAGE, image, Locator("p3", 520, 700, 3)).result()
    reading = workers.submit(Decoded, (piece,)).result()
    assert reading.pieces[0].payload.tobytes() == pixels


def test_arrays_come_through_beside_other_values(workers: DecoderPool):
    arrays = [np.arange(60, dtype=np.float32).reshape(3, 4, 5), np.arange(9)[::2], np.empty((0, 2))]
    answer = workers.submit(tuple, [arrays, "text", {"empty": b""}]).result()
    for given, back in zip(arrays, answer[0], strict=True):
        np.testing.assert_array_equal(back, given)
        assert back.dtype == given.dtype
    assert answer[1:] == ("text", {"empty": b""})


def test_names_that_are_not_text_come_through(workers: DecoderPool, tmp_path: Path):
    folder = os.fsencode(tmp_path)
    try:
        Path(os.fsdecode(folder + b"/caf\xe9.txt")).write_text("found")
    except OSError:
        pytest.skip("this file system takes text only")
    (name,) = os.listdir(os.fsdecode(folder))  # noqa: PTH208 - names need not be valid text
    assert workers.submit(Path.read_text, tmp_path / name).result() == "found"


@on_posix
@pytest.mark.parametrize(
    ("death", "reason"),
    [
        ("signal.raise_signal(signal.SIGSEGV)", "crashed (signal SIGSEGV)"),
        ("signal.raise_signal(signal.SIGABRT)", "crashed (signal SIGABRT)"),
        ("signal.raise_signal(signal.SIGKILL)", "was killed (out of memory?)"),
        ("os._exit(3)", "crashed (exit code 3)"),
        ("os._exit(0)", "crashed (exit code 0)"),
        ("sys.exit(2)", "crashed (exit code 2)"),
    ],
)
def test_death_costs_only_its_own_call(workers: DecoderPool, death: str, reason: str):
    before = workers.submit(time.sleep, 0.1)
    dying = workers.submit(exec, f"import os, signal, sys; {death}")
    after = [workers.submit(abs, -number) for number in range(10)]
    with pytest.raises(UnreadableFileError, match=f"^the process that read it {re.escape(reason)}"):
        dying.result()
    before.result()
    assert [future.result() for future in after] == list(range(10))


@on_posix
def test_death_in_the_middle_of_a_result_costs_only_its_own_call(workers: DecoderPool):
    half_a_message = (1).to_bytes(8, "little") + (1_000_000).to_bytes(8, "little") + b"half"
    error = raise_in_worker(
        workers,
        "import os, contextlib\n"
        "for descriptor in range(3, 20):\n"
        "    with contextlib.suppress(OSError):\n"
        f"        os.write(descriptor, {half_a_message!r})\n"
        "os._exit(3)",
    )
    assert isinstance(error, UnreadableFileError)
    assert workers.submit(abs, -1).result() == 1


@on_linux
def test_death_of_an_idle_worker_costs_nothing():
    with DecoderPool(1) as workers:
        pid = workers.submit(os.getpid).result()
        os.kill(pid, signal.SIGKILL)
        assert wait_until_gone([pid])
        assert workers.submit(os.getpid).result() != pid


@pytest.mark.parametrize(
    ("call", "args"), [(time.sleep, (60,)), (re.match, HANG_WITH_LOCK)], ids=["sleeps", "computes"]
)
def test_what_hangs_is_given_up(call, args):
    with DecoderPool(1, limit_s=0.3) as workers:
        workers.submit(abs, 1).result()
        start = time.monotonic()
        hanging, next_one = workers.submit(call, *args), workers.submit(abs, -1)
        with pytest.raises(UnreadableFileError, match=r"^reading it was given up after 0\.3 s$"):
            hanging.result()
        assert 0.2 < time.monotonic() - start < 5
        assert next_one.result() == 1


def test_time_in_the_queue_does_not_count():
    with DecoderPool(1, limit_s=0.6) as workers:
        for future in [workers.submit(time.sleep, 0.3) for _ in range(3)]:
            future.result()


@on_posix
def test_time_of_a_suspended_program_does_not_count():
    program = run_program(
        "with DecoderPool(1, limit_s=0.5) as workers:\n"
        "    workers.submit(abs, 1).result()\n"
        "    future = workers.submit(time.sleep, 0.3)\n"
        "    print('started', flush=True)\n"
        "    print('ended well' if future.exception() is None else future.exception())\n"
    )
    assert program.stdout.readline() == "started\n"
    program.send_signal(signal.SIGSTOP)
    time.sleep(1.0)
    program.send_signal(signal.SIGCONT)
    assert program.communicate()[0] == "ended well\n"


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        ("1 / 0", ZeroDivisionError("division by zero")),
        (
            "from retrieval.errors import *; raise UnreadableFileError('it is empty')",
            UnreadableFileError("it is empty"),
        ),
        (
            "from retrieval.errors import *; raise MissingExtraError('raw photos', 'raw')",
            MissingExtraError("raw photos", "raw"),
        ),
        (
            "'\\udcff'.encode()",
            UnicodeEncodeError("utf-8", "\udcff", 0, 1, "surrogates not allowed"),
        ),
        ("raise MemoryError", MemoryError()),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_exceptions_come_through(workers: DecoderPool, statements: str, expected: Exception):
    error = raise_in_worker(workers, statements)
    assert type(error) is type(expected)
    assert str(error) == str(expected)


def test_exceptions_say_where_they_were_raised(workers: DecoderPool):
    error = raise_in_worker(workers, "def read_page(): 1 / 0\nread_page()")
    assert error is not None
    assert "in read_page" in error.__notes__[0]


def test_os_errors_keep_number_and_name(workers: DecoderPool, tmp_path: Path):
    with pytest.raises(FileNotFoundError) as caught:
        workers.submit(open, str(tmp_path / "gone.jpg")).result()
    assert caught.value.errno == errno.ENOENT
    assert caught.value.filename == str(tmp_path / "gone.jpg")


def test_exceptions_that_cannot_be_pickled_become_a_reason(workers: DecoderPool):
    pid = workers.submit(os.getpid).result()
    error = raise_in_worker(
        workers,
        "class CodecError(Exception):\n"
        "    def __init__(self, code, text): super().__init__(f'{code}: {text}')\n"
        "raise CodecError(7, 'bad header')",
    )
    assert isinstance(error, UnreadableFileError)
    assert str(error) == "CodecError: 7: bad header"
    assert pid in {workers.submit(os.getpid).result() for _ in range(4)}


def test_results_and_arguments_that_cannot_be_pickled_are_errors(workers: DecoderPool):
    with pytest.raises(TypeError, match="pickle"):
        workers.submit(threading.Lock).result()
    with pytest.raises(TypeError, match="pickle"):
        workers.submit(abs, threading.Lock())
    assert workers.submit(abs, -1).result() == 1


def test_what_codecs_print_is_seen_nowhere(workers: DecoderPool, capfd):
    for descriptor in (1, 2):
        assert workers.submit(os.write, descriptor, b"deprecated pixel format").result() == 23
    assert workers.submit(os.read, 0, 10).result() == b""
    assert capfd.readouterr() == ("", "")


@on_posix
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_the_indexer_decides_when_workers_end(workers: DecoderPool, name: str):
    workers.submit(signal.raise_signal, getattr(signal, name)).result()


@on_linux
def test_the_kernel_kills_a_worker_first(workers: DecoderPool):
    assert workers.submit(Path.read_text, Path("/proc/self/oom_score_adj")).result() == "500\n"


def test_workers_are_light(workers: DecoderPool):
    workers.submit(Decoded, ()).result()
    loaded = (
        "sorted({'torch', 'faiss', 'open_clip', 'transformers'} & {*__import__('sys').modules})"
    )
    assert workers.submit(eval, loaded).result() == []


def test_modules_in_the_folder_at_hand_are_not_imported(tmp_path: Path, monkeypatch):
    for name in ("pickle", "struct", "PIL"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported')")
    monkeypatch.chdir(tmp_path)
    with DecoderPool(1) as workers:
        assert workers.submit(Image.new, "L", (1, 1)).result().size == (1, 1)


@pytest.mark.parametrize("executable", ["no-such-interpreter", "/bin/false"])
def test_no_file_is_to_blame_when_no_worker_starts(monkeypatch, executable: str):
    monkeypatch.setattr(sys, "executable", executable)
    with DecoderPool(1) as workers, pytest.raises(WorkerStartError, match=r"process(es)? that"):
        workers.submit(abs, 1).result()


@on_linux
def test_closing_is_quick_and_leaves_nothing():
    with DecoderPool(2) as workers:
        pids = [workers.submit(os.getpid).result()]
        running = [workers.submit(time.sleep, 60), workers.submit(re.match, *HANG_WITH_LOCK)]
        waiting = [workers.submit(abs, 1) for _ in range(10)]
        time.sleep(0.2)
        start = time.monotonic()
    assert time.monotonic() - start < 3
    assert not any(map(is_running, pids))
    assert all(future.cancelled() for future in waiting)
    for future in running:
        with pytest.raises(CancelledError):
            future.result()


def test_an_exception_closes_as_well():
    workers = DecoderPool(1)

    def index() -> None:
        with workers:
            workers.submit(time.sleep, 60)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index()
    with pytest.raises(RuntimeError, match="after shutdown"):
        workers.submit(abs, 1)
    workers.close()


def run_program(body: str, *how: str) -> subprocess.Popen[str]:
    text = f"import os, re, sys, time\nfrom indexer.decoder_pool import DecoderPool\n{body}"
    return subprocess.Popen(
        [sys.executable, *(how or ("-c", text))],
        stdin=subprocess.PIPE if how == ("-",) else None,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@on_linux
def test_workers_end_with_a_killed_indexer():
    program = run_program(
        "workers = DecoderPool(3)\n"
        'get_pid = \'__import__("time").sleep(0.5) or __import__("os").getpid()\'\n'
        "futures = [workers.submit(eval, get_pid) for _ in range(3)]\n"
        "pids = {future.result() for future in futures}\n"
        "workers.submit(time.sleep, 60)\n"
        f"workers.submit(re.match, *{HANG_WITH_LOCK})\n"
        "time.sleep(0.2)\n"
        "print(*pids, flush=True)\n"
        "time.sleep(60)\n"
    )
    pids = [int(pid) for pid in program.stdout.readline().split()]
    assert all(map(is_running, pids))
    program.kill()
    program.communicate()
    assert len(pids) == 3
    assert wait_until_gone(pids)


def test_a_worker_whose_indexer_is_killed_while_it_starts_says_nothing():
    whole = io.BytesIO()
    _send(whole, [pickle.dumps(sys.path)])
    for held in (0, 5, 12, 16, 40):
        program = [sys.executable, "-P", "-c", _START]
        sent = whole.getvalue()[:held]
        ended = subprocess.run(program, input=sent, capture_output=True, check=False)
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b""), held


@on_linux
def test_ctrl_c_ends_everything_quietly():
    program = run_program(
        "import signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored in the background
        "try:\n"
        "    with DecoderPool(1) as workers:\n"
        "        print(workers.submit(os.getpid).result(), flush=True)\n"
        "        workers.submit(time.sleep, 60).result()\n"
        "except KeyboardInterrupt:\n"
        "    print('stopped')\n"
    )
    pid = int(program.stdout.readline())
    time.sleep(0.5)  # until it waits: Python loses a signal that comes in some of its own code
    os.killpg(program.pid, signal.SIGINT)
    assert program.communicate(timeout=60) == ("stopped\n", "")
    assert not is_running(pid)


@pytest.mark.parametrize("way", ["script", "stdin"])
def test_a_program_without_a_guard_runs_once(tmp_path: Path, way: str):
    body = (
        "print('body')\n"
        "with DecoderPool(2) as workers:\n"
        "    print(sum(workers.submit(abs, -n).result() for n in range(5)))\n"
    )
    text = f"from indexer.decoder_pool import DecoderPool\n{body}"
    script = tmp_path / "index my photos.py"
    script.write_text(text)
    out, errors = run_program("", str(script) if way == "script" else "-").communicate(
        text if way == "stdin" else None
    )
    assert (out, errors) == ("body\n10\n", "")

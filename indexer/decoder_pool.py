"""Processes that read files, so that a file that crashes or hangs its codec costs only itself.

Each worker is a fresh interpreter with a pipe of its own in either direction. In a pool whose
workers share a pipe (`pebble`, `concurrent.futures`, `multiprocessing.Pool`), one that is killed
while it sends a picture leaves half a message or a lock behind, and all others wait without end.
They are started by `subprocess`, not `multiprocessing`, which would run the program's `__main__`
again in each worker where it is a script without a guard, and cannot where it is standard input.
"""

import contextlib
import ctypes
import os
import pickle
import signal
import struct
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any, BinaryIO, Self, TypeVar, TypeVarTuple

from retrieval.errors import MMSearchError, UnreadableFileError

Message = Sequence[bytes | bytearray | memoryview]
"""A pickle, and the arrays that it refers to, which are not copied into it."""

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")

_START = """
import pickle, sys
pipe = sys.stdin.buffer
head = pipe.read(16)  # the number of parts, and the length of the first
length = int.from_bytes(head[8:], "little")
path = pipe.read(length)
if len(head) < 16 or len(path) < length:
    sys.exit()  # the indexer was killed
sys.path[:] = pickle.loads(path)
from indexer.decoder_pool import _serve
_serve()
"""
_ENVIRONMENT = {
    # One core each: NumPy would start a thread for every core in every worker.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    # The C library keeps the memory of a picture for the next one: to give it back and to get it
    # again cost a tenth of the time of a photo of 12 megapixels, page by page.
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(128 << 20),
}
_START_LIMIT_S = 120.0
_LEAVE_LIMIT_S = 5.0
_LENGTH = struct.Struct("<Q")
_PIPE_BYTES = 1 << 20
_PR_SET_PDEATHSIG = 1


class WorkerStartError(MMSearchError):
    """No process for reading files can be started on this machine; no file is to blame."""


class ReadTimeoutError(UnreadableFileError):
    """A file took longer to read than the limit."""


class DecoderPool:
    """Up to `count` processes, started when there is work, that make calls and give the results.

    limit_s: how many seconds a call may take, from when its worker begins it. Time in which the
    whole program is suspended does not count.
    """

    def __init__(self, count: int, *, limit_s: float = 60.0) -> None:
        self.limit_s = limit_s
        self._workers: set[_Worker] = set()
        self._idle: list[_Worker] = []
        self._closed = threading.Event()
        self._lock = threading.Lock()
        # One thread for each worker: it sends a call, waits for the result and unpacks it.
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="reading")
        threading.Thread(target=self._keep_time, name="reading time", daemon=True).start()

    def submit(self, call: Callable[[*Arguments], T], *args: *Arguments) -> Future[T]:
        """Make a call in a worker, as soon as one is free.

        `call` must be importable by its module and name, which one of `__main__` is not, and
        arguments and result must be picklable. The future raises UnreadableFileError if the worker
        died or took longer than `limit_s`, WorkerStartError if there is none, CancelledError if the
        pool was closed, else what the call raised, with its traceback as a note. An exception that
        cannot be pickled becomes UnreadableFileError. Raises RuntimeError on a closed pool.
        """
        return self._threads.submit(self._answer, _packed((call, args)))

    def close(self) -> None:
        """Cancel what waits, kill the workers and wait for their end. May be called again."""
        with self._lock:
            self._closed.set()
        self._threads.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            for worker in self._workers:
                worker.kill()
        self._threads.shutdown(wait=True)
        for worker in tuple(self._workers):
            self._end(worker)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _answer(self, request: Message) -> Any:
        worker = self._take()
        answer = worker.ask(request, self.limit_s)
        if answer is None and worker.has_answered and not worker.gave_up:
            # It may have died before this call began, which is then not to blame.
            self._bury(worker)
            worker = self._start()
            answer = worker.ask(request, self.limit_s)
        if answer is None:
            cause = self._bury(worker)
            if worker.gave_up:
                raise ReadTimeoutError(f"reading it was given up after {self.limit_s:g} s")
            raise UnreadableFileError(f"the process that read it {cause}")
        worker.has_answered = True
        self._idle.append(worker)
        succeeded, value = _unpacked(answer)
        if not succeeded:
            raise value
        return value

    def _take(self) -> "_Worker":
        with contextlib.suppress(IndexError):
            while True:
                worker = self._idle.pop()
                if worker.is_alive():
                    return worker
                self._end(worker)
        return self._start()

    def _start(self) -> "_Worker":
        try:
            worker = _Worker()
        except OSError as error:
            raise WorkerStartError(f"cannot start a process that reads files: {error}") from error
        with self._lock:
            self._workers.add(worker)
            if self._closed.is_set():
                worker.kill()
        if worker.ask([pickle.dumps(sys.path)], _START_LIMIT_S) is None:
            cause = self._bury(worker)
            raise WorkerStartError(f"a process that reads files {cause} before it read any")
        return worker

    def _bury(self, worker: "_Worker") -> str:
        cause = worker.cause_of_death()
        self._end(worker)
        if self._closed.is_set():
            raise CancelledError
        return cause

    def _end(self, worker: "_Worker") -> None:
        with self._lock:
            self._workers.discard(worker)
        worker.end()

    def _keep_time(self) -> None:
        # Counting ticks, and not reading a clock, leaves out the time of a suspended program, in
        # which results lie in the pipes and nobody takes them.
        tick_s = min(1.0, self.limit_s / 10)
        while not self._closed.wait(tick_s):
            with self._lock:
                for worker in self._workers:
                    worker.pass_time(tick_s)


class _Worker:
    """One process and its pipes, used by one thread at a time; `kill` and `pass_time` by any."""

    def __init__(self) -> None:
        self.gave_up = False
        self.has_answered = False
        self._left_s: float | None = None
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            # -P: the folder at hand may hold a `pickle.py` of the user.
            [sys.executable, "-P", f"-Xutf8={sys.flags.utf8_mode}", "-c", _START],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | _ENVIRONMENT,
            # Ctrl-C goes to a terminal's whole process group: the indexer decides, not they.
            process_group=0,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests: BinaryIO = self._process.stdin  # type: ignore[assignment]
        self._answers: BinaryIO = self._process.stdout  # type: ignore[assignment]
        _widen(self._answers)

    def ask(self, request: Message, limit_s: float) -> Message | None:
        """Send a request and wait for the answer; None if the process ended, or was made to."""
        with self._lock:
            self._left_s = limit_s
        try:
            _send(self._requests, request)
            return _receive(self._answers)
        except OSError:
            return None
        finally:
            with self._lock:
                self._left_s = None

    def pass_time(self, seconds: float) -> None:
        """Take seconds off what a request has left, and kill the process at its limit."""
        with self._lock:
            if self._left_s is None:
                return
            self._left_s -= seconds
            if self._left_s < 0:
                self.gave_up = True
                self._process.kill()

    def is_alive(self) -> bool:
        return not self.gave_up and self._process.poll() is None

    def kill(self) -> None:
        self._process.kill()

    def end(self) -> None:
        """Kill the process, wait for its end and close its pipes."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._requests, self._answers):
            with contextlib.suppress(OSError):
                pipe.close()

    def cause_of_death(self) -> str:
        """Describe how the process that closed its pipe ended, as the end of a sentence."""
        try:
            # One that leaves by itself closes its pipe first.
            code = self._process.wait(_LEAVE_LIMIT_S)
        except subprocess.TimeoutExpired:
            return "closed its pipe"
        if code >= 0:
            return f"crashed (exit code {code})"
        name = {int(known): known.name for known in signal.Signals}.get(-code, str(-code))
        return "was killed (out of memory?)" if name == "SIGKILL" else f"crashed (signal {name})"


def _serve() -> None:
    """Answer requests until the program that started this process ends: the whole of a worker."""
    requests, answers = _take_pipes()
    _settle()
    inbox: SimpleQueue[Message] = SimpleQueue()
    # Beside the calls, so that the end of the indexer also ends a call that hangs.
    threading.Thread(target=_receive_until_end, args=(requests, inbox), daemon=True).start()
    with contextlib.suppress(OSError):
        _send(answers, [b"ready"])
        while True:
            _send(answers, _call(inbox.get()))
    os._exit(0)


def _receive_until_end(requests: BinaryIO, inbox: SimpleQueue[Message]) -> None:
    while (request := _receive(requests)) is not None:
        inbox.put(request)
    os._exit(0)


def _take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Take standard input and output, which codecs then cannot read or print to."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    # Errors go to the terminal until here, where a worker that cannot start says why.
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    return requests, answers


def _settle() -> None:
    """Leave it to the indexer, or its end, when this process ends; be the first to go."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    if sys.platform == "linux":
        # The end of the pipe is not seen while native code holds the interpreter's lock.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        # Out of memory, the kernel kills a worker and not the indexer.
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("500")


def _call(request: Message) -> Message:
    try:
        call, args = _unpacked(request)
        return _packed((True, call(*args)))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is raised again by the indexer
        return _packed_error(error)


def _packed_error(error: Exception) -> Message:
    error.add_note(f"In the process that read the file:\n{traceback.format_exc()}")
    try:
        packed = _packed((False, error))
        _unpacked(packed)
    except Exception:  # noqa: BLE001 - an error's own methods may raise anything
        return _packed((False, UnreadableFileError(f"{type(error).__name__}: {error}")))
    return packed


def _packed(value: Any) -> Message:
    arrays: list[pickle.PickleBuffer] = []
    pickled = pickle.dumps(value, pickle.HIGHEST_PROTOCOL, buffer_callback=arrays.append)
    return [pickled, *(array.raw() for array in arrays)]


def _unpacked(message: Message) -> Any:
    return pickle.loads(message[0], buffers=message[1:])


def _send(pipe: BinaryIO, message: Message) -> None:
    """Write the number of parts, and each with its length before it."""
    pipe.write(_LENGTH.pack(len(message)))
    for part in message:
        pipe.write(_LENGTH.pack(len(part)))
        pipe.write(part)
    pipe.flush()


def _receive(pipe: BinaryIO) -> Message | None:
    """Read a whole message; None at the end of the pipe, also within a message."""
    try:
        return [_read(pipe, _read_length(pipe)) for _ in range(_read_length(pipe))]
    except EOFError:
        return None


def _read_length(pipe: BinaryIO) -> int:
    (length,) = _LENGTH.unpack(_read(pipe, _LENGTH.size))
    return int(length)


def _read(pipe: BinaryIO, length: int) -> bytearray:
    part = bytearray(length)
    if pipe.readinto(part) < length:  # type: ignore[attr-defined]
        raise EOFError
    return part


def _widen(pipe: BinaryIO) -> None:
    """Let a pipe hold a whole picture, so that its sender need not wait; where that is allowed."""
    if sys.platform == "linux":
        import fcntl

        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

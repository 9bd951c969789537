"""Load generator: concurrent HTTP clients in a separate process.

Each client keeps one connection open and sends the next request as soon as the last was answered.
It writes HTTP directly, since a client library would use about as much CPU time as the service.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from retrieval.errors import MMSearchError

_CHILD = """
import sys
from benchmarks.service.client import _ask_from_file
_ask_from_file(*sys.argv[1:])
"""
_REFUSED_PAUSE_S = 0.1
_CONNECTION_LOST = 0
_GRACE_S = 120.0


class LoadError(MMSearchError):
    """The load generator did not run to its end."""


@dataclass(frozen=True)
class Load:
    """A load: `clients` concurrent clients search for the next of the texts, for `seconds`.

    fields: additional JSON fields of every request, such as `{"k": 10}`.
    """

    port: int
    clients: int
    seconds: float
    texts: Sequence[str]
    fields: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Asked:
    """Result of a load. Per request: start time, latency in ms, HTTP status.

    began_s: start time in seconds since the load began. Status 0 is a lost connection. seconds:
    time until the last answer. cpu_s: CPU time of all clients. ran_out: there were too few texts.
    """

    began_s: list[float]
    took_ms: list[float]
    statuses: list[int]
    seconds: float
    cpu_s: float
    ran_out: bool


class Asking:
    """A running load generator in a separate process."""

    def __init__(self, load: Load) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._limit_s = load.seconds + _GRACE_S
        question, self._answer = (Path(self._folder.name, name) for name in ("ask", "answer"))
        question.write_text(json.dumps(asdict(load)), encoding="utf-8")
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CHILD, str(question), str(self._answer)],
            stderr=subprocess.PIPE,
        )

    def result(self) -> Asked:
        """Wait for the result; raises LoadError if the load generator fails."""
        with self._folder, self._process as process:
            try:
                _, complaint = process.communicate(timeout=self._limit_s)
            except subprocess.TimeoutExpired:
                process.kill()
                raise LoadError(
                    "The load generator did not end: the service does not answer."
                ) from None
            if process.returncode:
                raise LoadError(f"The load generator failed: {complaint.decode(errors='replace')}")
            return Asked(**json.loads(self._answer.read_text(encoding="utf-8")))


def ask(load: Load) -> Asked:
    """Run a load in a separate process, and wait for its result."""
    return Asking(load).result()


def _ask_from_file(question: str, answer: str) -> None:
    load = Load(**json.loads(Path(question).read_text(encoding="utf-8")))
    asked = asyncio.run(_ask_all(load))
    Path(answer).write_text(json.dumps(asdict(asked)), encoding="utf-8")


async def _ask_all(load: Load) -> Asked:
    texts = iter(load.texts)
    asked = Asked([], [], [], 0.0, 0.0, ran_out=False)
    began, cpu_before = time.perf_counter(), time.process_time()
    await asyncio.gather(*(_client(load, texts, began, asked) for _ in range(load.clients)))
    return Asked(
        asked.began_s,
        asked.took_ms,
        asked.statuses,
        time.perf_counter() - began,
        time.process_time() - cpu_before,
        ran_out=next(texts, None) is None,
    )


async def _client(load: Load, texts: Iterator[str], began: float, asked: Asked) -> None:
    reader: asyncio.StreamReader | None = None
    writer: asyncio.StreamWriter | None = None
    until = began + load.seconds
    while (start := time.perf_counter()) < until and (text := next(texts, None)) is not None:
        try:
            if reader is None or writer is None:
                reader, writer = await asyncio.open_connection("127.0.0.1", load.port)
            writer.write(_request(load, text))
            status, stays = await _read_answer(reader)
        except (OSError, EOFError, ValueError):
            status, stays = _CONNECTION_LOST, False
        asked.began_s.append(start - began)
        asked.took_ms.append((time.perf_counter() - start) * 1000)
        asked.statuses.append(status)
        if not stays and writer is not None:
            writer.close()
            reader = writer = None
        if status != 200:
            await asyncio.sleep(_REFUSED_PAUSE_S)
    if writer is not None:
        writer.close()


def _request(load: Load, text: str) -> bytes:
    body = json.dumps({"text": text, "parse": False, **load.fields}).encode()
    head = (
        f"POST /v1/search HTTP/1.1\r\nHost: 127.0.0.1:{load.port}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def _read_answer(reader: asyncio.StreamReader) -> tuple[int, bool]:
    """Read one answer; returns its status, and whether the connection stays open."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    status = int(head[9:12])
    _, _, rest = head.partition(b"content-length:")
    await reader.readexactly(int(rest.split(b"\r\n", 1)[0]))
    return status, b"connection: close" not in head

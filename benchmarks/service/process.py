"""Run the service in a separate process; measure start-up time, CPU time and memory."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from retrieval.errors import MMSearchError

_SAMPLE_S = 0.5
_READY_LIMIT_S = 300.0
_END_LIMIT_S = 30.0
_LAST_CHARACTERS = 2000
_MANY_REQUESTS = "1000000/second"
"""A rate limit that no benchmark reaches, so that the limiter runs but refuses nothing."""


class ServiceError(MMSearchError):
    """The service did not start, or ended unexpectedly."""


class ServiceProcess:
    """`mmsearch serve` on a free port; a context manager.

    program: command line of mmsearch. ready_s: seconds from the start of the process until it could
    search. memory: samples of seconds since the start and resident bytes; empty on other systems
    than Linux.
    """

    def __init__(self, program: Sequence[str], library: Path, *options: str) -> None:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.port: int = found.getsockname()[1]
        self.command = [
            *(*program, "serve", "--library", str(library), "--port", str(self.port)),
            *("--log-level", "warning", "--rate-limit", _MANY_REQUESTS, *options),
        ]
        self.ready_s = 0.0
        self.memory: list[tuple[float, int]] = []

    def __enter__(self) -> Self:
        self._complaints = tempfile.TemporaryFile()
        self._began = time.monotonic()
        self._process = subprocess.Popen(
            self.command, stdout=subprocess.DEVNULL, stderr=self._complaints
        )
        try:
            while not self._is_ready():
                self._check(_READY_LIMIT_S)
                time.sleep(0.02)
        except BaseException:
            self.kill()
            self._complaints.close()
            raise
        self.ready_s = time.monotonic() - self._began
        self._ended = threading.Event()
        self._sampler = threading.Thread(target=self._sample, name="memory", daemon=True)
        self._sampler.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._sampler.join()
        self._process.terminate()
        try:
            self._process.wait(_END_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.kill()
        self._complaints.close()

    def kill(self) -> None:
        """Kill the process, like a crash."""
        self._process.send_signal(signal.SIGKILL if sys.platform != "win32" else signal.SIGTERM)
        self._process.wait()

    def cpu_s(self) -> float | None:
        """CPU time of the process so far in seconds; None on other systems than Linux."""
        try:
            stat = Path(f"/proc/{self._process.pid}/stat").read_text()
        except OSError:
            return None
        # The name, in brackets, may contain anything; these are the 12th and 13th field after it.
        user, system = stat.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def memory_between(self, first: float, last: float) -> list[int]:
        """Samples of resident bytes between two values of `time.monotonic`."""
        return [held for at, held in self.memory if first <= at + self._began <= last]

    def search(self, **fields: object) -> dict[str, Any]:
        """Send one search; raises ServiceError unless the status is 200."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            headers = {"Content-Type": "application/json"}
            connection.request("POST", "/v1/search", json.dumps({"parse": False} | fields), headers)
            answer = connection.getresponse()
            body: dict[str, Any] = json.loads(answer.read())
        except OSError as error:
            raise ServiceError(f"The service does not answer: {error}.") from error
        finally:
            connection.close()
        if answer.status != 200:
            raise ServiceError(f"The service answered {answer.status}: {body.get('detail')}")
        return body

    def _is_ready(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def _check(self, limit_s: float) -> None:
        has_ended = self._process.poll() is not None
        if has_ended or time.monotonic() - self._began > limit_s:
            self._complaints.seek(0)
            said = self._complaints.read().decode(errors="replace")[-_LAST_CHARACTERS:]
            how = "ended" if has_ended else f"was not ready within {limit_s:g} s"
            raise ServiceError(f"The service {how}. {said}")

    def _sample(self) -> None:
        status = Path(f"/proc/{self._process.pid}/status")
        while not self._ended.wait(_SAMPLE_S):
            try:
                text = status.read_text()
            except OSError:
                return
            for line in text.splitlines():
                if line.startswith("VmRSS:"):
                    now = time.monotonic() - self._began
                    self.memory.append((now, int(line.split()[1]) * 1024))

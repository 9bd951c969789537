"""Measure wall time and peak memory of a program and its descendant processes."""

import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_SAMPLE_S = 0.5
_LAST_LINES = 15


@dataclass(frozen=True)
class Finished:
    """Result of a program. `output`: its last lines on standard output and error.

    peak_memory_bytes: maximum of the summed memory of the program and its descendants, with shared
    pages counted once (PSS). It is sampled twice a second, so that short peaks can be missed. None
    on other systems than Linux.
    """

    exit_code: int
    seconds: float
    peak_memory_bytes: int | None
    output: str


def run_measured(
    command: Sequence[str],
    *,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    limit_s: float | None = None,
) -> Finished:
    """Run a program to its end.

    Args:
        command: The command line.
        folder: Working directory.
        environment: Additional environment variables.
        limit_s: Time limit in seconds, after which the program is killed.

    Raises:
        OSError: The program cannot be started.
    """
    with tempfile.TemporaryFile() as output:
        began = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        sampler = _Sampler(process.pid)
        sampler.start()
        try:
            process.wait(limit_s)
        except subprocess.TimeoutExpired:
            process.kill()
        finally:
            if process.poll() is None and sys.exc_info()[0] is not None:
                process.kill()
            exit_code = process.wait()
            seconds = time.perf_counter() - began
            sampler.stop()
        output.seek(0)
        lines = output.read().decode(errors="replace").splitlines()
    return Finished(exit_code, seconds, sampler.peak_bytes, "\n".join(lines[-_LAST_LINES:]))


def peak_bytes() -> int:
    """Peak resident size of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class _Sampler(threading.Thread):
    """Thread that samples the memory of a process and its descendants."""

    def __init__(self, pid: int) -> None:
        super().__init__(name="memory", daemon=True)
        self.peak_bytes: int | None = None
        self._pid = pid
        self._stopped = threading.Event()

    def run(self) -> None:
        if not sys.platform.startswith("linux"):
            return
        while True:
            held = sum(_held_bytes(pid) for pid in _with_descendants(self._pid))
            self.peak_bytes = max(self.peak_bytes or 0, held)
            if self._stopped.wait(_SAMPLE_S):
                return

    def stop(self) -> None:
        self._stopped.set()
        self.join()


def _with_descendants(root: int) -> list[int]:
    """List a process and its running descendants."""
    children: dict[int, list[int]] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            try:
                stat = Path(entry.path, "stat").read_text(errors="replace")
            except OSError:
                continue
            # The name, in brackets, may contain anything; the parent is the second field after it.
            parent = int(stat.rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry.name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def _held_bytes(pid: int) -> int:
    """Memory of a process with its share of shared pages (PSS) in bytes; 0 if it has ended."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0

"""Wall time and peak memory of a program and all processes that it starts."""

import os
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
    """How a program ended. `output`: the last lines that it printed, to either stream.

    peak_memory_bytes: the largest sum, over the program and its descendants, of what each has in
    memory, pages that several share counted once (PSS). It is sampled twice a second, since that
    takes a little of a core: a shorter peak can be missed. None where the system does not tell,
    elsewhere than on Linux.
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
    """Run a program to its end, in a folder, with more in its environment than this process has.

    Raises OSError when it cannot be started. One that takes longer than `limit_s` is killed, and
    has the exit code of that.
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


class _Sampler(threading.Thread):
    """Looks at a process and its descendants until told to stop."""

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
    """The process and all that descend from it, as far as they are there."""
    children: dict[int, list[int]] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            try:
                stat = Path(entry.path, "stat").read_text(errors="replace")
            except OSError:
                continue
            # The name, in brackets, may hold anything; the parent is the second field after it.
            parent = int(stat.rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry.name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def _held_bytes(pid: int) -> int:
    """What a process has in memory, with its share of shared pages; 0 for one that is gone."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0

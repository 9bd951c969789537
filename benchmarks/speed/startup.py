"""Measure what each command costs that starts a process: wall time and peak memory."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from benchmarks.service.process import ServiceProcess
from retrieval.errors import MMSearchError

HELP = "--help"
FIRST_SEARCH = "first search"
SERVED_SEARCH = "search through a service"
RESIDENT_SEARCH = "search beside a service"
REQUEST = "its request alone"

_LAST_CHARACTERS = 2000

# The peak that Linux tells of a process is no less than that of the process which started it, so a
# small one has to.
_LAUNCHER = """
import os, sys, time
began = time.perf_counter()
pid = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ)
_, status, usage = os.wait4(pid, 0)
seconds = time.perf_counter() - began
with open(sys.argv[1], "w") as out:
    print(seconds, usage.ru_maxrss, os.waitstatus_to_exitcode(status), file=out)
"""


class CommandFailedError(MMSearchError):
    """A measured command ended with an error."""


@dataclass(frozen=True)
class Command:
    """A command line; environment: additional variables."""

    name: str
    words: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Startup:
    """A command, run several times.

    seconds: wall time of each run. peak_memory_bytes: median of the largest resident size of the
    process, or of a process that it started; None for a request to a process that runs already.
    """

    name: str
    seconds: tuple[float, ...]
    peak_memory_bytes: int | None

    @property
    def median_s(self) -> float:
        """Median wall time in seconds."""
        return median(self.seconds)


def measure_startup(
    program: Sequence[str],
    library: Path,
    query: str,
    *,
    beside: Sequence[Command] = (),
    rounds: int = 5,
    on_run: Callable[[str, float], None] = lambda *_: None,
) -> list[Startup]:
    """Measure `--help`, a first search, and one through a service, in turn with other commands.

    All run once before the first round, so that their files are in memory.

    Args:
        program: Command line of mmsearch.
        library: Directory of the library to search.
        query: Text to search for.
        beside: Other commands.
        rounds: Number of runs of each.
        on_run: Called with the name of each command that has run, and its seconds.

    Returns:
        The commands in the order of their runs: `HELP`, `FIRST_SEARCH`, `SERVED_SEARCH`, `REQUEST`,
        `RESIDENT_SEARCH`, which the service answers unasked, then the others.

    Raises:
        CommandFailedError: A command cannot be started or failed; with what it printed.
        ServiceError: The service did not start.
    """
    with ExitStack() as stack:
        service = stack.enter_context(ServiceProcess(program, library))
        served = f"http://127.0.0.1:{service.port}"
        search = [*program, "search", query, "--library", str(library)]
        commands = [
            Command(HELP, [*program, "--help"]),
            Command(FIRST_SEARCH, search, {"MMSEARCH_RESIDENT": "off"}),
            Command(SERVED_SEARCH, [*program, "search", query, "--server", served]),
            Command(RESIDENT_SEARCH, search),
            *beside,
        ]
        seconds: dict[str, list[float]] = {}
        peaks: dict[str, list[int]] = {}
        for number in range(rounds + 1):
            for command in commands:
                taken, peak = run_command(command)
                on_run(command.name, taken)
                if number:
                    seconds.setdefault(command.name, []).append(taken)
                    peaks.setdefault(command.name, []).append(peak)
                if command.name == SERVED_SEARCH:
                    began = time.perf_counter()
                    service.search(text=query)
                    if number:
                        seconds.setdefault(REQUEST, []).append(time.perf_counter() - began)
    return [
        Startup(name, tuple(taken), int(median(peaks[name])) if name in peaks else None)
        for name, taken in seconds.items()
    ]


def run_command(command: Command) -> tuple[float, int]:
    """Run a command to its end; returns wall time in seconds and peak memory in bytes.

    Raises CommandFailedError if it cannot be started or fails.
    """
    with tempfile.TemporaryDirectory(prefix="mmsearch-bench-") as folder:
        told = Path(folder, "told")
        ended = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(told), *command.words],
            cwd=folder,
            # Installed programs have their byte code; a tree in development may forbid writing it.
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "", **command.environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        words = told.read_text().split() if told.exists() else ["0", "0", "127"]
    seconds, peak, exit_code = float(words[0]), int(words[1]), int(words[2])
    if exit_code:
        printed = (ended.stdout + ended.stderr)[-_LAST_CHARACTERS:]
        raise CommandFailedError(f"{command.name} ended with exit code {exit_code}:\n{printed}")
    return seconds, peak if sys.platform == "darwin" else peak * 1024


def rclip_commands(program: Path, query: str, models: Path | None = None) -> list[Command]:
    """Describe the same of rclip: its help and a search without indexing.

    models: data directory of rclip with its models. (default: that of the user)
    """
    environment = {"RCLIP_DATADIR": str(models.absolute())} if models else {}
    search = [str(program), "--no-indexing", "--filepath-only", "--top", "10", query]
    return [
        Command("rclip --help", [str(program), "--help"], environment),
        Command("rclip search", search, environment),
    ]

"""Load test of the service: throughput, latency and behaviour under overload.

Two services run on the library: one with batching, one without. Every text is sent once, so that
caches do not improve the figures.
"""

import shutil
import statistics
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.service.client import Asked, Asking, Load, ask
from benchmarks.service.process import ServiceError, ServiceProcess

_WARM_UP_CLIENTS = 8
_WARM_UP_S = 3.0
_MOST_A_SECOND = 1500
_BESIDE_CLIENTS = 8
"""Number of clients during a soak test, indexing, or a crash."""
_POLL_S = 1.0
_MANY_HITS = 10_000


@dataclass(frozen=True)
class LoadRow:
    """Result of one load. Latencies in milliseconds, of the answered requests.

    throughput: answers per second. refused: answers with status 429. errors: other answers by
    status, 0 for a lost connection. memory_bytes: resident memory of the service at the beginning
    and end. cpu_ms: CPU time of the service per answer, which is comparable even if other programs
    are running. client_cpu: share of one core that the clients used.
    """

    name: str
    clients: int
    seconds: float
    answered: int
    throughput: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    refused: int
    errors: dict[str, int]
    memory_bytes: tuple[int, int] | None
    cpu_ms: float | None
    client_cpu: float


@dataclass(frozen=True)
class Soak:
    """Memory of the service under a long load: medians of the first and the last third."""

    row: LoadRow
    first_third_bytes: float
    last_third_bytes: float
    samples: list[tuple[float, int]]

    @property
    def growth(self) -> float:
        """Growth of the memory, relative to the first third."""
        return self.last_third_bytes / self.first_third_bytes - 1


@dataclass(frozen=True)
class Beside:
    """Items found while another process indexes, by seconds since its start."""

    row: LoadRow
    items_before: int
    items_added: int
    found: list[tuple[float, int]]


@dataclass(frozen=True)
class Crash:
    """Seconds until ready after a start and after SIGKILL under load; numbers of items."""

    cold_start_s: float
    restart_s: float
    items_before: int
    items_after: int


@dataclass
class ServiceResult:
    """Results of all load tests."""

    images: int
    rounds: int
    rerank: str
    rows: list[LoadRow] = field(default_factory=list)
    overload: LoadRow | None = None
    overload_queue: int | None = None
    soak: Soak | None = None
    beside_indexing: Beside | None = None
    crash: Crash | None = None

    def row(self, clients: int, name: str = "batched") -> LoadRow | None:
        """Return the result for a number of clients, if it was measured."""
        return next((r for r in self.rows if (r.name, r.clients) == (name, clients)), None)

    @property
    def speedup(self) -> float | None:
        """Throughput at 32 clients, divided by that of one client without batching."""
        many, single = self.row(32), self.row(1, "one by one")
        return many.throughput / single.throughput if many and single else None

    @property
    def tail(self) -> float | None:
        """99th percentile at 8 clients, divided by the median of a single client."""
        some, single = self.row(8), self.row(1)
        return some.p99_ms / single.p50_ms if some and single else None


class DistinctTexts:
    """Distinct texts: each caption once, then combinations of halves of two captions."""

    def __init__(self, captions: Sequence[str]) -> None:
        self._texts = _distinct(list(dict.fromkeys(captions)))
        self._ahead: list[str] = []

    def first(self, count: int) -> list[str]:
        """Return the next texts without consuming them."""
        while len(self._ahead) < count:
            self._ahead.append(next(self._texts))
        return self._ahead[:count]

    def used(self, count: int) -> None:
        """Consume the next `count` texts."""
        del self._ahead[:count]


def _distinct(captions: list[str]) -> Iterator[str]:
    yield from captions
    seen = set(captions)
    for step in range(1, len(captions)):
        for number, caption in enumerate(captions):
            words, others = caption.split(), captions[(number + step) % len(captions)].split()
            text = " ".join(words[: len(words) // 2] + others[len(others) // 2 :])
            if text not in seen:
                seen.add(text)
                yield text
    raise ServiceError("Too few captions for this duration, since every text is sent once.")


class ServiceBenchmark:
    """Load tests of the service on one library.

    Args:
        program: Command line of mmsearch.
        library: Directory of the library.
        captions: Texts to search for.
        rerank: Reranker of the services.
        device: Device of the encoder.
        on_step: Called with a description of each measurement.
    """

    def __init__(
        self,
        program: Sequence[str],
        library: Path,
        captions: Sequence[str],
        *,
        rerank: str = "auto",
        device: str = "auto",
        on_step: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._program = program
        self._library = library
        self._texts = DistinctTexts(captions)
        self._rerank = rerank
        self._options = ("--rerank", rerank, "--device", device)
        self._tell = on_step

    def measure(self, clients: Sequence[int], seconds: float, rounds: int) -> ServiceResult:
        """Measure one client without batching, and numbers of clients with it, in turn.

        Returns medians over the rounds. Raises ServiceError and LoadError.
        """
        alone = self._service("--batch", "1")
        with alone, self._service() as together:
            for service in (alone, together):
                self._load(service, "warm-up", _WARM_UP_CLIENTS, _WARM_UP_S)
            found = self._count(together)
            result = ServiceResult(found, rounds, self._rerank)
            plan = [(alone, "one by one", 1), *((together, "batched", n) for n in clients)]
            rows: list[list[LoadRow]] = [[] for _ in plan]
            for number in range(1, rounds + 1):
                for index, (service, name, count) in enumerate(plan):
                    row = self._load(service, name, count, seconds)
                    rows[index].append(row)
                    self._tell(
                        f"round {number}: {name}, {count} clients: {row.throughput:.1f} answers/s"
                    )
        result.rows = [_median(measured) for measured in rows]
        return result

    def overload(self, clients: int, seconds: float, queue: int) -> LoadRow:
        """Measure many more clients than the queue is long."""
        self._tell(f"overload: {clients} clients, queue length {queue}")
        with self._service("--queue", str(queue)) as service:
            self._load(service, "warm-up", _WARM_UP_CLIENTS, _WARM_UP_S)
            return self._load(service, "overload", clients, seconds)

    def soak(self, seconds: float) -> Soak:
        """Measure the memory of the service under a long load."""
        self._tell(f"soak: {seconds:g} s")
        with self._service() as service:
            self._load(service, "warm-up", _WARM_UP_CLIENTS, _WARM_UP_S)
            began = time.monotonic()
            row = self._load(service, "soak", _BESIDE_CLIENTS, seconds)
            held = service.memory_between(began, time.monotonic())
            third = max(1, len(held) // 3)
            return Soak(
                row,
                statistics.median(held[:third]),
                statistics.median(held[-third:]),
                service.memory,
            )

    def beside_indexing(self, photos: Path, workspace: Path, seconds: float) -> Beside:
        """Index a folder into a copy of the library while clients search it."""
        self._tell(f"indexing {photos} meanwhile")
        library = workspace / "library"
        shutil.copytree(self._library, library)
        command = [*self._program, "index", str(photos), "--library", str(library), "--json"]
        with self._service(library=library) as service:
            before = self._count(service)
            load = self._plan(service, _BESIDE_CLIENTS, seconds)
            began, cpu_before = time.monotonic(), service.cpu_s()
            asking = Asking(load)
            indexing = subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
            )
            found = []
            while indexing.poll() is None:
                time.sleep(_POLL_S)
                found.append((time.monotonic() - began, self._count(service)))
            _, complaint = indexing.communicate()
            if indexing.returncode:
                raise ServiceError(f"Indexing failed: {complaint}")
            found.append((time.monotonic() - began, self._count(service)))
            row = self._row(service, "while indexing", load, asking.result(), began, cpu_before)
            return Beside(row, before, found[-1][1] - before, found)

    def crash(self, seconds: float) -> Crash:
        """Kill a service under load and start it again."""
        self._tell("SIGKILL under load, and a restart")
        with self._service() as service:
            cold_start_s = service.ready_s
            before = self._count(service)
            asking = Asking(self._plan(service, _BESIDE_CLIENTS, seconds))
            time.sleep(seconds / 2)
            service.kill()
            self._texts.used(len(asking.result().statuses))
        with self._service() as service:
            return Crash(cold_start_s, service.ready_s, before, self._count(service))

    def _service(self, *options: str, library: Path | None = None) -> ServiceProcess:
        where = library or self._library
        return ServiceProcess(self._program, where, *self._options, *options)

    def _count(self, service: ServiceProcess) -> int:
        return len(service.search(text="anything", k=_MANY_HITS, rerank="none")["hits"])

    def _plan(self, service: ServiceProcess, clients: int, seconds: float) -> Load:
        texts = self._texts.first(int(_MOST_A_SECOND * seconds))
        return Load(service.port, clients, seconds, texts)

    def _load(self, service: ServiceProcess, name: str, clients: int, seconds: float) -> LoadRow:
        load = self._plan(service, clients, seconds)
        began, cpu_before = time.monotonic(), service.cpu_s()
        return self._row(service, name, load, ask(load), began, cpu_before)

    def _row(
        self,
        service: ServiceProcess,
        name: str,
        load: Load,
        asked: Asked,
        began: float,
        cpu_before: float | None,
    ) -> LoadRow:
        cpu_after = service.cpu_s()
        self._texts.used(len(asked.statuses))
        if asked.ran_out:
            raise ServiceError("Too few texts for this duration.")
        took = np.array(asked.took_ms)
        statuses = np.array(asked.statuses)
        answered = took[statuses == 200]
        if not len(answered):
            raise ServiceError(f"No request was answered; statuses: {Counter(asked.statuses)}.")
        p50, p95, p99 = np.percentile(answered, [50, 95, 99])
        counts = Counter(asked.statuses)
        cpu_ms = None
        if cpu_before is not None and cpu_after is not None:
            cpu_ms = (cpu_after - cpu_before) * 1000 / len(answered)
        held = service.memory_between(began, time.monotonic())
        return LoadRow(
            name,
            load.clients,
            asked.seconds,
            len(answered),
            len(answered) / asked.seconds,
            float(p50),
            float(p95),
            float(p99),
            counts.pop(429, 0),
            {str(status): count for status, count in counts.items() if status != 200},
            (held[0], held[-1]) if held else None,
            cpu_ms,
            asked.cpu_s / asked.seconds,
        )


_COMBINED: dict[Callable[..., Any], tuple[str, ...]] = {
    sum: ("seconds", "answered", "refused"),
    statistics.median: ("throughput", "p50_ms", "p95_ms", "p99_ms", "client_cpu"),
}


def _median(rows: Sequence[LoadRow]) -> LoadRow:
    """Combine the rounds of one load: sums of counts, medians of rates and times."""
    errors: Counter[str] = Counter()
    for row in rows:
        errors.update(row.errors)
    first, last = rows[0], rows[-1]
    costs = [row.cpu_ms for row in rows if row.cpu_ms is not None]
    memory = None
    if first.memory_bytes and last.memory_bytes:
        memory = (first.memory_bytes[0], last.memory_bytes[1])
    combined: dict[str, Any] = {
        name: combine(getattr(row, name) for row in rows)
        for combine, names in _COMBINED.items()
        for name in names
    }
    return replace(
        first,
        errors=dict(errors),
        memory_bytes=memory,
        cpu_ms=statistics.median(costs) if costs else None,
        **combined,
    )


def service_markdown(result: ServiceResult) -> str:
    """Format the results as Markdown tables."""
    lines = [
        f"{result.images:,} images, {result.rounds} rounds, reranker {result.rerank}:",
        "",
        "| | clients | answers/s | p50 ms | p95 ms | p99 ms | 429 | errors | memory MB | CPU ms |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- | --- | ---: |",
    ]
    extra = [result.overload]
    extra += [part.row for part in (result.soak, result.beside_indexing) if part]
    lines += [_line(row) for row in [*result.rows, *extra] if row]
    if result.speedup:
        lines += [
            "",
            f"Throughput of 32 clients, batched, against 1 one by one: {result.speedup:.2f} times.",
        ]
    if result.tail:
        lines += ["", f"p99 at 8 clients: {result.tail:.2f} medians of a single client."]
    if (soak := result.soak) is not None:
        lines += [
            "",
            f"Soak: median memory {soak.first_third_bytes / 1e6:.1f} MB in the first third, "
            f"{soak.last_third_bytes / 1e6:.1f} MB in the last ({soak.growth:+.2%}).",
        ]
    if (beside := result.beside_indexing) is not None:
        lines += [
            "",
            f"While {beside.items_added:,} items were added to {beside.items_before:,}, searches "
            f"found {', '.join(f'{count:,}' for _, count in _thinned(beside.found))}.",
        ]
    if (crash := result.crash) is not None:
        lines += [
            "",
            f"Ready {crash.cold_start_s:.2f} s after a start and {crash.restart_s:.2f} s after "
            f"SIGKILL under load; {crash.items_before:,} items before it, {crash.items_after:,} "
            "after.",
        ]
    return "\n".join(lines) + "\n"


def _line(row: LoadRow) -> str:
    memory = "-"
    if row.memory_bytes:
        memory = " to ".join(f"{held / 1e6:.0f}" for held in row.memory_bytes)
    cpu = "-" if row.cpu_ms is None else f"{row.cpu_ms:.1f}"
    errors = ", ".join(f"{status}: {count}" for status, count in row.errors.items()) or "none"
    return (
        f"| {row.name} | {row.clients} | {row.throughput:.1f} | {row.p50_ms:.1f} | "
        f"{row.p95_ms:.1f} | {row.p99_ms:.1f} | {row.refused:,} | {errors} | {memory} | {cpu} |"
    )


def _thinned(found: Sequence[tuple[float, int]], most: int = 8) -> Sequence[tuple[float, int]]:
    changes = [pair for i, pair in enumerate(found) if not i or pair[1] != found[i - 1][1]]
    step = max(1, -(-len(changes) // most))
    return [*changes[:-1:step], *changes[-1:]]

"""Recall against speed, time to build and memory of ways to search vectors, side by side.

Each method builds in a process of its own and searches in others, one a number of threads, so that
its memory is its own.
"""

import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.speed.memory import MeasurementError
from benchmarks.speed.processes import run_measured
from benchmarks.vectors.measurement import Point
from benchmarks.vectors.peers import make_method, missing
from benchmarks.vectors.workload import Workload
from retrieval.indices.base import load_engine

KS = (10, 100)

_CHILD = """
import sys
from benchmarks.vectors.measurement import run_task
run_task(sys.argv[1])
"""


@dataclass(frozen=True)
class MethodResult:
    """What a method took, and its curves.

    build_core_s: processor time of all threads together, which other programs on the machine change
    less than they do the wall time, build_s. build_peak_bytes: largest memory of the building
    process, all in. disk_bytes: what it left on the disk. memory_bytes: by how much opening and
    searching made the process's own memory grow; mapped_bytes: the same of pages of files, such as
    the embeddings, which the system may drop and read again. Both None elsewhere than on Linux.
    """

    name: str
    parameters: str
    rows: int
    build_s: float
    build_core_s: float
    build_peak_bytes: int
    disk_bytes: int
    open_s: float
    memory_bytes: int | None
    mapped_bytes: int | None
    rows_in_file: bool
    points: tuple[Point, ...]

    def fastest(self, modality: str, k: int, batch: int, threads: int, recall: float) -> Point:
        """Find the fastest point with at least this recall; if none, that of the highest recall.

        Args:
            modality: of the queries.
            k: length of the result lists.
            batch: number of queries at a time.
            threads: number of search threads.
            recall: recall@k, 0 to 1.
        """
        wanted = (modality, k, batch, threads)
        curve = [p for p in self.points if (p.modality, p.k, p.batch, p.threads) == wanted]
        good = [point for point in curve if point.recall >= recall]
        if good:
            return max(good, key=lambda point: point.queries_per_second)
        return max(curve, key=lambda point: point.recall)


@dataclass(frozen=True)
class VectorResult:
    """All methods over one workload, and the machine."""

    workload: str
    rows: int
    dimension: int
    methods: tuple[MethodResult, ...]
    skipped: dict[str, str] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)


def measure_vectors(
    workload: Workload,
    methods: Sequence[str],
    *,
    threads: Sequence[int] = (1, 2),
    ks: Sequence[int] = KS,
    rounds: int = 1,
    seed: int = 0,
    target_recall: float | None = None,
    indices: Path | None = None,
    build_limit_s: float | None = None,
    on_step: Callable[[str], None] = lambda _: None,
) -> VectorResult:
    """Build and search with each method by name; one that is not installed or fails is skipped.

    Args:
        workload: rows, queries and their true neighbours.
        methods: names, as `make_method` takes them.
        threads: numbers of search threads to measure.
        ks: lengths of result lists to measure.
        rounds: how often to measure the searches, the methods in turn.
        seed: of training.
        target_recall: skip settings of a curve past this recall, which saves most of the time.
        indices: a folder that caches built indices for later runs over the workload; None: none.
        build_limit_s: skip a method that builds for longer, in seconds.
        on_step: called with a line of text after each step.

    Raises:
        UsageError: unknown method.
    """
    skipped: dict[str, str] = {}
    results: list[MethodResult] = []
    searched: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory(prefix="mmsearch-vectors-") as scratch:
        place = indices / workload.folder.name if indices else Path(scratch)
        built = _build(
            methods, workload, place, max(threads), seed, build_limit_s, skipped, on_step
        )
        tasks = [(name, count) for _ in range(rounds) for name in built for count in threads]
        for name, count in tasks:
            try:
                folder, told = built[name]
                told = _child(
                    "search",
                    name,
                    workload,
                    folder,
                    count,
                    built=told["parameters"],
                    ks=ks,
                    target=target_recall,
                )
            except MeasurementError as error:
                skipped[name] = str(error)
                on_step(f"{name}: skipped, {error}")
                continue
            searched.setdefault(name, []).append(told)
            on_step(f"{name}: searched with {count} threads")
        results += [
            _join(name, workload, *built[name], rounds) for name, rounds in searched.items()
        ]
        if indices is None:
            for name, (folder, _) in built.items():
                engine = load_engine(make_method(name).engine)
                engine.discard(folder / f"index.{engine.name}")
    return VectorResult(
        workload=workload.name,
        rows=len(workload.rows),
        dimension=workload.rows.shape[1],
        methods=tuple(results),
        skipped=skipped,
        environment=_environment(seed, rounds),
    )


def _build(
    methods: Sequence[str],
    workload: Workload,
    place: Path,
    threads: int,
    seed: int,
    limit_s: float | None,
    skipped: dict[str, str],
    on_step: Callable[[str], None],
) -> dict[str, tuple[Path, dict[str, Any]]]:
    """Build what is installed; returns folders and the builders' answers by method name."""
    built: dict[str, tuple[Path, dict[str, Any]]] = {}
    for method in [make_method(name) for name in methods]:
        if (lacking := missing(method)) is not None:
            skipped[method.name] = lacking
            continue
        folder = place / re.sub(r"[^a-z0-9]+", "-", method.builds.lower())
        answer = folder.with_name(folder.name + ".json")
        if not answer.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            try:
                told = _child(
                    "build", method.name, workload, folder, threads, limit_s=limit_s, seed=seed
                )
            except MeasurementError as error:
                skipped[method.name] = str(error)
                on_step(f"{method.name}: skipped, {error}")
                continue
            answer.write_text(json.dumps(told))
        told = json.loads(answer.read_text())
        built[method.name] = folder, told
        on_step(f"{method.name}: built in {told['seconds']:.1f} s ({told['parameters']})")
    return built


def _join(
    name: str,
    workload: Workload,
    folder: Path,
    built: dict[str, Any],
    searched: list[dict[str, Any]],
) -> MethodResult:
    """Join the results of all rounds: medians of speed and memory."""
    seen: dict[str, list[Point]] = {}
    for told in searched:
        for body in told["points"]:
            point = Point(**body)
            key = [point.modality, point.k, point.batch, point.threads, point.setting]
            seen.setdefault(json.dumps(key), []).append(point)
    points = [
        replace(
            same[0],
            queries_per_second=median(point.queries_per_second for point in same),
            rounds=len(same),
        )
        for same in seen.values()
    ]

    def grown(what: str) -> int | None:
        sizes = [told[what] for told in searched if told[what] is not None]
        return int(median(sizes)) if sizes else None

    return MethodResult(
        name=name,
        parameters=built["parameters"],
        rows=len(workload.rows),
        build_s=built["seconds"],
        build_core_s=built["core_seconds"],
        build_peak_bytes=built["peak_bytes"],
        disk_bytes=sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()),
        open_s=median(told["open_s"] for told in searched),
        memory_bytes=grown("memory_bytes"),
        mapped_bytes=grown("mapped_bytes"),
        rows_in_file=make_method(name).rows_in_file,
        points=tuple(points),
    )


def _child(
    task: str,
    name: str,
    workload: Workload,
    folder: Path,
    threads: int,
    *,
    limit_s: float | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Run one task in a process with `threads` cores; raises MeasurementError."""
    with tempfile.TemporaryDirectory(prefix="mmsearch-vectors-") as place:
        answer = Path(place, "answer.json")
        order = {
            "task": task,
            "method": name,
            "workload": str(workload.folder),
            "folder": str(folder),
            "threads": threads,
            "answer": str(answer),
            **more,
        }
        counted = ("OMP", "OPENBLAS", "MKL", "RAYON")
        environment = {f"{library}_NUM_THREADS": str(threads) for library in counted}
        environment |= {
            "LANCE_CPU_THREADS": str(threads),
            "TOKIO_WORKER_THREADS": str(threads),
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        }
        finished = run_measured(
            [sys.executable, "-c", _CHILD, json.dumps(order)],
            environment=environment,
            limit_s=limit_s,
        )
        if limit_s is not None and finished.exit_code and finished.seconds >= limit_s:
            raise MeasurementError(f"{name} did not {task} within {limit_s:g} s")
        if finished.exit_code or not answer.exists():
            raise MeasurementError(f"{name} failed to {task}: {finished.output}")
        told: dict[str, Any] = json.loads(answer.read_text())
    told["peak_bytes"] = max(told.get("peak_bytes", 0), finished.peak_memory_bytes or 0)
    return told


def _environment(seed: int, rounds: int) -> dict[str, Any]:
    from benchmarks.quality.retrieval import describe_environment

    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {**describe_environment(), "seed": seed, "rounds": rounds, "load": load}

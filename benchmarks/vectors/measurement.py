"""One method in a process of its own: building it, opening it, and the points of its curves."""

import ctypes
import ctypes.util
import gc
import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.vectors.peers import Method, Setting, make_method
from benchmarks.vectors.workload import Workload, open_workload
from retrieval.encoders.base import Vectors

SINGLE, BATCH = 1, 100
"""Queries at a time."""
BATCH_WORDS = {SINGLE: "single", BATCH: f"by {BATCH}"}

_SINGLE_S, _BATCH_S = 0.5, 0.7
"""Time for one point of a curve, unless the fewest queries take longer."""

_FEWEST_SINGLES, _FEWEST_BATCHES = 20, 2
_WARM_UP = 8


@dataclass(frozen=True)
class Point:
    """One setting of a method, measured.

    batch: queries at a time. recall: mean share of the k nearest rows that were found, over all
    queries of the batches. queries_per_second: from the median time of a search. rounds: how
    often it was measured; the speed is the median of these.
    """

    modality: str
    k: int
    batch: int
    threads: int
    setting: Setting
    recall: float
    queries_per_second: float
    rounds: int = 1

    @property
    def milliseconds(self) -> float:
        """Compute a query's share of the time, in milliseconds."""
        return 1000 / self.queries_per_second


def run_task(order_text: str) -> None:
    """Do what a JSON object says, and write a JSON object where it says."""
    order = json.loads(order_text)
    if hasattr(os, "sched_setaffinity"):
        # Some libraries start a thread a core whatever they are told.
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: order["threads"]])
    method = make_method(order["method"])
    if method.package:
        import_module(method.package)
    workload = open_workload(Path(order["workload"]))
    folder = Path(order["folder"])
    if order["task"] == "build":
        began, spent = time.perf_counter(), time.process_time()
        parameters = method.build(
            workload.rows, folder, threads=order["threads"], seed=order["seed"]
        )
        told = {
            "seconds": time.perf_counter() - began,
            "core_seconds": time.process_time() - spent,
            "parameters": parameters,
        }
    else:
        told = _search(method, workload, folder, order)
    Path(order["answer"]).write_text(json.dumps(told))


def _search(
    method: Method, workload: Workload, folder: Path, order: dict[str, Any]
) -> dict[str, Any]:
    queries, truth = workload.queries(), workload.truth()
    _give_back_memory()
    before = _resident()
    began = time.perf_counter()
    index = method.open(workload.rows, folder, order["built"], threads=order["threads"])
    open_s = time.perf_counter() - began
    memory: tuple[int | None, int | None] = (None, None)
    points: list[Point] = []
    for k in order["ks"]:
        for modality, vectors in queries.items():
            reached: dict[str, bool] = {}
            for setting in method.settings(index, k):
                # A family of settings differs in its first value alone, which grows.
                family = json.dumps(list(setting.items())[1:])
                if reached.get(family):
                    continue
                search = partial(method.search, index, workload.rows, k=k, setting=setting)
                pair = measure_search(search, vectors, truth[modality], k)
                measured = [
                    Point(modality, k, batch, order["threads"], setting, recall, speed)
                    for batch, recall, speed in pair
                ]
                points += measured
                target = order["target"]
                past = target is not None and measured[0].recall > target + (1 - target) / 2
                reached[family] = past or measured[0].recall > 0.9995
        if memory == (None, None) and before is not None:
            _give_back_memory()
            after = _resident()
            memory = (after[0] - before[0], after[1] - before[1]) if after else memory
    return {
        "open_s": open_s,
        "memory_bytes": memory[0],
        "mapped_bytes": memory[1],
        "points": [asdict(point) for point in points],
    }


def measure_search(
    search: Callable[[Vectors], NDArray[np.int64]],
    queries: Vectors,
    truth: NDArray[np.int64],
    k: int,
) -> list[tuple[int, float, float]]:
    """Measure recall and speed of a search, with single queries and with batches.

    The speed is that of the median search, since other programs on the machine disturb some.

    Args:
        search: finds k rows for each of (m, d) unit queries, (m, k), -1 where there are fewer.
        queries: (q, d) float32, unit.
        truth: (q, k or more) int64, the nearest rows, best first.
        k: length of the result lists.

    Returns:
        Number of queries at a time, recall@k and queries per second, of each.
    """
    for query in range(min(_WARM_UP, len(queries))):
        search(queries[query : query + 1])
    hits = counted = 0
    spent: list[float] = []
    batches = [
        slice(first, first + BATCH) for first in range(0, max(1, len(queries) - BATCH + 1), BATCH)
    ]
    for batch in batches:
        if len(spent) >= _FEWEST_BATCHES and sum(spent) > _BATCH_S:
            break
        began = time.perf_counter()
        found = search(queries[batch])
        spent.append((time.perf_counter() - began) / len(found))
        hits += count_hits(found, truth[batch, :k])
        counted += found.size
    recall = hits / counted
    batch_speed = 1 / median(spent)
    spent = []
    for query in range(len(queries)):
        if query >= _FEWEST_SINGLES and sum(spent) > _SINGLE_S:
            break
        began = time.perf_counter()
        search(queries[query : query + 1])
        spent.append(time.perf_counter() - began)
    return [(SINGLE, recall, 1 / median(spent)), (BATCH, recall, batch_speed)]


def count_hits(found: NDArray[np.int64], truth: NDArray[np.int64]) -> int:
    """Count the true rows, (m, k), that were found, (m, k), over all queries."""
    pairs = zip(found, truth, strict=True)
    return int(sum(np.isin(right, got[got >= 0]).sum() for got, right in pairs))


def _resident() -> tuple[int, int] | None:
    """Bytes of this process in memory, its own and pages of files; None elsewhere than on Linux."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    size = {
        name: int(value.split()[0]) * 1024
        for name, _, value in (line.partition(":") for line in lines)
        if name.startswith("Rss")
    }
    return size["RssAnon"] + size["RssShmem"], size["RssFile"]


def _give_back_memory() -> None:
    """Free what is garbage, so that it does not count as the index's."""
    gc.collect()
    library = ctypes.util.find_library("c")
    if library and platform.system() == "Linux":
        trim = getattr(ctypes.CDLL(library), "malloc_trim", None)
        if trim:
            trim(0)

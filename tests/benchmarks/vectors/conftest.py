"""Methods as if they had been measured, and vectors to measure them with."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from benchmarks.vectors.measurement import Point
from benchmarks.vectors.search import MethodResult
from benchmarks.vectors.workload import Workload, synthetic_workload


@pytest.fixture(scope="session")
def workload(tmp_path_factory: pytest.TempPathFactory) -> Workload:
    folder = tmp_path_factory.mktemp("vectors")
    return synthetic_workload(folder, "clip", 2000, dimension=64, queries=100, seed=0)


@pytest.fixture
def point() -> Callable[..., Point]:
    """Make a point of a curve from recall and speed."""

    def make(recall: float, speed: float, **more: object) -> Point:
        return replace(Point("image", 10, 1, 1, {"nprobe": 1}, recall, speed), **more)

    return make


@pytest.fixture
def result_of() -> Callable[..., MethodResult]:
    """Make the result of a method from its points."""

    def make(*points: Point, rows: int = 1000) -> MethodResult:
        return MethodResult(
            name="some",
            parameters="IVF8,PQ8",
            rows=rows,
            build_s=rows / 100,
            build_core_s=rows / 60,
            build_peak_bytes=10**8,
            disk_bytes=80 * rows,
            open_s=0.1,
            memory_bytes=72 * rows,
            mapped_bytes=1024 * rows,
            rows_in_file=True,
            points=points,
        )

    return make

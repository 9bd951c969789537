"""Methods as if they had been measured, and vectors to measure them with."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from benchmarks.vectors.measurement import Point
from benchmarks.vectors.search import MethodResult, VectorResult
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


@pytest.fixture
def points(point: Callable[..., Point]) -> list[Point]:
    """Make the points of a curve; the one of recall 0.96 is beaten by the next."""
    return [point(0.9, 500), point(0.96, 300), point(0.97, 350), point(0.99, 100)]


@pytest.fixture
def measured(points: list[Point], result_of: Callable[..., MethodResult]) -> VectorResult:
    """Make a result with this curve for all modalities and batches."""
    every = [
        replace(one, modality=modality, batch=batch)
        for one in points
        for modality in ("image", "text")
        for batch in (1, 100)
    ]
    return VectorResult("some data", 1000, 64, (result_of(*every),))

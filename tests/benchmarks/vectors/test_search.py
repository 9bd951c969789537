"""Methods measured in processes of their own, and what is made of their figures."""

import sys
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.vectors.growth import Cost, cost_of, predict
from benchmarks.vectors.measurement import Point, count_hits, measure_search
from benchmarks.vectors.peers import make_method
from benchmarks.vectors.plot import draw_curves, frontier
from benchmarks.vectors.search import MethodResult, VectorResult, measure_vectors
from benchmarks.vectors.tables import growth_markdown, methods_markdown
from benchmarks.vectors.workload import synthetic_workload
from retrieval.errors import UsageError


def point(recall: float, speed: float, **more) -> Point:
    return replace(Point("image", 10, 1, 1, {"nprobe": 1}, recall, speed), **more)


def result_of(*points: Point, rows: int = 1000) -> MethodResult:
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


@pytest.fixture(scope="module")
def workload(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vectors")
    return synthetic_workload(folder, "clip", 2000, dimension=64, queries=100, seed=0)


@pytest.mark.slow
def test_methods_are_measured_side_by_side(workload):
    steps = []
    result = measure_vectors(
        workload,
        ["exact", "factory:IVF16,PQ16", "factory:IVF3000,PQ16"],
        threads=(1,),
        ks=(10,),
        rounds=2,
        on_step=steps.append,
    )
    exact, quantised = result.methods
    assert (result.rows, result.dimension) == (2000, 64)
    assert {(p.modality, p.batch, p.recall, p.rounds) for p in exact.points} == {
        (modality, batch, 1.0, 2) for modality in ("image", "text") for batch in (1, 100)
    }
    assert all(p.queries_per_second > 0 for p in exact.points)
    assert quantised.parameters == "IVF16,PQ16"
    assert quantised.disk_bytes > 2000 * (16 + 8)
    assert quantised.fastest("text", 10, 1, 1, 0.99).recall >= 0.99
    recalls = [p.recall for p in quantised.points if p.setting["nprobe"] == 2]
    assert max(recalls) < 0.99
    # More lists than rows cannot be trained: told, and the others go on.
    assert "cannot be trained" in result.skipped["factory:IVF3000,PQ16"]
    assert any("built in" in step for step in steps)
    if sys.platform == "linux":
        assert exact.memory_bytes is not None
        assert exact.mapped_bytes >= 2000 * 64 * 2 * 0.9


def test_an_unknown_method_is_refused_before_anything_runs(workload):
    with pytest.raises(UsageError, match="nosuch"):
        measure_vectors(workload, ["exact", "nosuch"], on_step=pytest.fail)


def test_hits_are_counted_wherever_they_stand():
    found = np.array([[3, 1, 2], [7, -1, -1]])
    truth = np.array([[1, 2, 9], [8, 7, -1]])
    assert count_hits(found, truth) == 3


def test_single_queries_and_batches_are_measured(workload):
    method = make_method("exact")
    index = method.open(workload.rows, workload.folder, "exact", threads=1)
    queries, truth = workload.queries()["text"], workload.truth()["text"]
    measured = measure_search(
        lambda some: method.search(index, workload.rows, some, 10, {}), queries, truth, 10
    )
    assert [(batch, recall) for batch, recall, _ in measured] == [(1, 1.0), (100, 1.0)]


def test_the_fastest_point_that_reaches_a_recall_is_taken():
    result = result_of(point(0.9, 500), point(0.96, 300), point(0.97, 350), point(0.99, 100))
    assert result.fastest("image", 10, 1, 1, 0.95).queries_per_second == 350
    assert result.fastest("image", 10, 1, 1, 0.999).recall == 0.99


def test_a_curve_is_drawn_through_the_points_that_none_beats(tmp_path):
    points = [point(0.9, 500), point(0.96, 300), point(0.97, 350), point(0.99, 100)]
    assert [p.queries_per_second for p in frontier(points)] == [500, 350, 100]
    every = [
        replace(one, modality=modality, batch=batch)
        for one in points
        for modality in ("image", "text")
        for batch in (1, 100)
    ]
    result = VectorResult("some data", 1000, 64, (result_of(*every),))
    files = draw_curves(result, tmp_path / "plots")
    assert sorted(file.name for file in files) == [
        "recall-10-1-thread.png",
        "recall-10-1-thread.svg",
    ]
    assert all(file.stat().st_size > 5000 for file in files)
    table = methods_markdown(result, [1], 0.95)
    assert "| some | IVF8,PQ8 | 10.0 | 16.7 | 100 | 80 | 72 | 1024 |" in table
    assert "| some | 350 | 350 | 350 | 350 |" in table
    assert "100 (0.990)" in methods_markdown(result, [1], 0.999)


def test_growth_is_foreseen_from_the_two_largest():
    results = [
        result_of(
            point(0.96, 1e6 / rows**0.5, modality="text"),
            point(0.96, 4e6 / rows**0.5, modality="text", batch=100),
            rows=rows,
        )
        for rows in (10_000, 100_000, 1_000_000)
    ]
    costs = [cost_of(result, threads=1, recall=0.95) for result in results]
    assert costs[0] == Cost(10_000, 100, 720_000, 10_240_000, 0.1, 0.025)
    without_index = replace(costs[0], build_s=0.0, memory_bytes=0.0)
    fixed = [replace(cost, memory_bytes=cost.memory_bytes + 10**7) for cost in costs[1:]]
    growth = predict([without_index, *fixed], 100_000_000)
    last = growth.costs[-1]
    assert last.predicted
    assert last.memory_bytes == pytest.approx(72e8 + 1e7)
    assert last.mapped_bytes == pytest.approx(1024e8)
    assert last.build_s == pytest.approx(1e6)
    assert last.milliseconds == pytest.approx(10)
    assert growth.exponents["milliseconds"] == pytest.approx(0.5)
    assert "| 100,000,000 (predicted) | 1,000,000.0 |" in growth_markdown(growth)
    with pytest.raises(ValueError, match="at least two"):
        predict(costs[:1], 10)


@pytest.mark.slow
def test_kept_indices_are_not_built_again(workload, tmp_path):
    def measure() -> list[str]:
        steps: list[str] = []
        result = measure_vectors(
            workload,
            ["factory:IVF16,PQ16"],
            threads=(1,),
            ks=(10,),
            indices=tmp_path,
            on_step=steps.append,
        )
        assert result.methods[0].disk_bytes > 2000 * 16
        return steps

    first = measure()
    (kept,) = tmp_path.rglob("index.faiss")
    written = kept.stat().st_mtime_ns
    assert measure()[0] == first[0]
    assert kept.stat().st_mtime_ns == written


def test_a_method_that_builds_for_too_long_is_left_out_and_told(workload):
    result = measure_vectors(
        workload, ["factory:IVF16,PQ16"], threads=(1,), ks=(10,), build_limit_s=0.01
    )
    assert result.methods == ()
    reason = "factory:IVF16,PQ16 did not build within 0.01 s"
    assert result.skipped == {"factory:IVF16,PQ16": reason}
    assert f"- Left out: factory:IVF16,PQ16: {reason}." in methods_markdown(result, (1,), 0.95)

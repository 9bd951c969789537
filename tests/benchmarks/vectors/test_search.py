"""Methods measured in processes of their own, and what is made of their figures."""

import sys

import pytest

from benchmarks.vectors.search import measure_vectors
from benchmarks.vectors.tables import methods_markdown
from retrieval.errors import UsageError


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


def test_the_fastest_point_that_reaches_a_recall_is_taken(point, result_of):
    result = result_of(point(0.9, 500), point(0.96, 300), point(0.97, 350), point(0.99, 100))
    assert result.fastest("image", 10, 1, 1, 0.95).queries_per_second == 350
    assert result.fastest("image", 10, 1, 1, 0.999).recall == 0.99


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

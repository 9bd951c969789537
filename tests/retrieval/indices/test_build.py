import numpy as np
import pytest

from retrieval.errors import UsageError
from retrieval.indices import build as build_module
from retrieval.indices.base import BuildCancelled, Effort
from retrieval.indices.build import BuildOptions, Step, build, is_build_due, plan_build, reasons_for
from retrieval.indices.faiss.ivf import FactoryIndex
from retrieval.indices.generations import (
    Generation,
    Training,
    Tuning,
    generation_numbers,
    load_latest,
)
from retrieval.indices.tuning import TARGET_RECALL, TuningQueries

NO_OPTIONS = BuildOptions()
FORCED = BuildOptions("IVF8,Flat", force=True)


def clustered(count: int, seed: int, offset: float = 0.0) -> np.ndarray:
    """Unit rows around eight directions; an offset moves them away from those."""
    centres = np.random.default_rng(0).normal(size=(8, 16)) + offset
    generator = np.random.default_rng(seed)
    vectors = centres[generator.integers(8, size=count)] + generator.normal(0, 0.2, (count, 16))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)


@pytest.fixture(autouse=True)
def few_rows_are_many(request, monkeypatch):
    """Where something is built; plans are made for as many rows as they say."""
    if "tmp_path" in request.fixturenames:
        monkeypatch.setattr(build_module, "EXACT_UP_TO_ROWS", 500)


def make(directory, rows, options=NO_OPTIONS, **more):
    asked = {
        "text": TuningQueries(clustered(50, 1).astype(np.float32)),
        "image": TuningQueries(rows[:50].astype(np.float32), np.arange(50)),
    }
    return build(
        directory, "image", rows, lambda: asked, memory_bytes=1 << 30, options=options, **more
    )


def test_few_rows_need_no_index(tmp_path):
    def fail():
        pytest.fail("queries were made")

    rows = clustered(500, 0)
    assert build(tmp_path, "image", rows, fail, memory_bytes=1 << 30) is None
    assert make(tmp_path, rows[:0], FORCED) is None
    assert generation_numbers(tmp_path, "image") == []


def test_a_first_build_trains_adds_and_tunes(tmp_path):
    rows = clustered(1200, 0)
    seen = []
    built = make(tmp_path, rows, FORCED, on_progress=lambda *event: seen.append(event))
    assert built.kind == "IVF8,Flat"
    assert built.training.is_forced
    assert built.training.of_rows == built.tuning.of_rows == built.rows == 1200
    assert built.tuning.target_recall == TARGET_RECALL
    assert set(built.tuning.settings) == {"text", "image"}
    assert list(dict.fromkeys(stage for stage, _, _ in seen)) == ["Training", "Adding", "Tuning"]
    assert ("Adding", 1200, 1200) in seen


def test_new_rows_are_added_to_what_was_trained(tmp_path, monkeypatch):
    rows = clustered(1400, 0)
    first = make(tmp_path, rows[:1200], FORCED)
    assert make(tmp_path, rows[:1320]) is None
    monkeypatch.setattr(FactoryIndex, "__init__", lambda *_: pytest.fail("trained"))
    second = make(tmp_path, rows)
    assert second.rows == 1400
    assert (second.training, second.tuning) == (first.training, first.tuning)
    _, index = load_latest(tmp_path, "image", rows)
    assert len(index) == 1400
    everywhere = second.tuning.settings["text"].__class__(breadth=8)
    _, found = index.search(rows[1390:].astype(np.float32), 1, None, everywhere)
    assert found[:, 0].tolist() == list(range(1390, 1400))


def test_rows_that_drifted_call_for_training(tmp_path):
    rows = clustered(1200, 0)
    make(tmp_path, rows, FORCED)
    drifted = np.vstack([rows, clustered(200, 3, offset=3.0)])
    built = make(tmp_path, drifted)
    assert built.training.of_rows == 1400
    assert built.kind == "IVF8,Flat"
    assert built.training.is_forced


def test_fourfold_growth_calls_for_training(tmp_path):
    rows = clustered(4800, 0)
    make(tmp_path, rows[:1200], FORCED)
    assert make(tmp_path, rows).training.of_rows == 4800


def test_settings_are_found_anew_where_the_rows_have_grown(tmp_path):
    rows = clustered(1900, 0)
    make(tmp_path, rows[:1200], FORCED)
    built = make(tmp_path, rows)
    assert (built.training.of_rows, built.tuning.of_rows) == (1200, 1900)


def test_options_are_kept_by_later_builds(tmp_path):
    rows = clustered(5000, 0)
    make(tmp_path, rows[:1200], BuildOptions("IVF4,Flat", target_recall=0.9))
    built = make(tmp_path, rows)
    assert built.kind == "IVF4,Flat"
    assert built.tuning.target_recall == 0.9


def test_a_damaged_index_is_built_anew(tmp_path):
    rows = clustered(1200, 0)
    first = make(tmp_path, rows, FORCED)
    first.index_file(tmp_path).write_bytes(b"")
    built = make(tmp_path, rows, FORCED)
    assert built.number == 2
    assert load_latest(tmp_path, "image", rows, pytest.fail)[0] == built


def test_a_build_that_is_stopped_leaves_what_was_there(tmp_path):
    rows = clustered(1400, 0)
    first = make(tmp_path, rows[:1200], FORCED)
    with pytest.raises(BuildCancelled):
        make(tmp_path, rows, should_stop=lambda: True)
    assert load_latest(tmp_path, "image", rows, pytest.fail)[0] == first


def test_an_unknown_factory_string_is_refused(tmp_path):
    with pytest.raises(UsageError, match="'PQQ'"):
        make(tmp_path, clustered(1200, 0), BuildOptions("PQQ"))


def generation(rows: int, trained_on: int | None = None, tuned_on: int | None = None) -> Generation:
    return Generation(
        modality="image",
        number=1,
        rows=rows,
        dimension=8,
        kind="IVF16,Flat",
        details={"lists": 16, "code_bytes": 32},
        size=1,
        checksum="",
        fingerprint="",
        training=Training(trained_on or rows, 100, 0.5, is_forced=False, reasons=()),
        tuning=Tuning(tuned_on or rows, 0.98, {"text": Effort()}),
        version="",
        created="",
    )


def no_drift() -> float:
    return 1.0


@pytest.mark.parametrize(
    ("rows", "covered", "expected"),
    [
        (0, None, False),
        (50_000, None, False),
        (50_001, None, True),
        (110_000, 100_000, False),
        (110_001, 100_000, True),
        (1_010_000, 1_000_000, False),
        (1_050_000, 1_000_000, False),
        (1_050_001, 1_000_000, True),
        (100_050_001, 100_000_000, True),
    ],
)
def test_a_build_is_called_for_by_rows_past_the_index(rows, covered, expected):
    present = generation(covered) if covered else None
    assert is_build_due(rows, present) is expected
    plan = plan_build(rows, present, no_drift)
    assert (plan.step is not Step.KEEP) is expected


def test_drift_is_measured_only_where_it_matters():
    def fail() -> float:
        pytest.fail("measured")

    assert plan_build(1_010_000, generation(1_000_000), fail).step is Step.KEEP
    assert plan_build(400_000, generation(100_000), fail).step is Step.TRAIN


def test_new_rows_are_added_without_training_unless_they_differ():
    present = generation(100_000)
    assert plan_build(120_000, present, lambda: 1.2).step is Step.EXTEND
    drifted = plan_build(120_000, present, lambda: 1.21)
    assert drifted.step is Step.TRAIN
    assert "1.21 times as far" in drifted.reason


def test_fourfold_growth_since_the_training_calls_for_another():
    present = generation(380_000, trained_on=100_000, tuned_on=300_000)
    assert plan_build(430_000, present, no_drift).step is Step.TRAIN
    present = generation(300_000, trained_on=100_000, tuned_on=300_000)
    assert plan_build(399_999, present, no_drift).step is Step.EXTEND


def test_settings_are_found_anew_after_half_as_much_growth_again():
    assert not plan_build(150_000, generation(100_000), no_drift).retune
    assert plan_build(150_001, generation(100_000), no_drift).retune
    assert plan_build(50_001, None, no_drift).retune


def test_without_faiss_nothing_is_built_and_the_reason_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(build_module, "is_installed", lambda: False)
    assert not is_build_due(1_000_000, None)
    plan = plan_build(1_000_000, None, no_drift)
    assert plan.step is Step.KEEP
    assert "faiss-cpu" in plan.reason
    assert "faiss-cpu" in reasons_for(1_000_000, None)[0]
    with pytest.raises(UsageError, match="faiss-cpu"):
        make(tmp_path, clustered(600, 0))

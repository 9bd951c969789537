import pytest

from retrieval.indices.base import SearchSettings
from retrieval.indices.generations import Generation, Training, Tuning
from retrieval.indices.growth import Step, needs_build, plan_build


def generation(rows: int, trained_on: int | None = None, tuned_on: int | None = None) -> Generation:
    return Generation(
        modality="image",
        number=1,
        rows=rows,
        dimension=8,
        factory="IVF16,Flat",
        lists=16,
        code_bytes=32,
        size=1,
        checksum="",
        fingerprint="",
        training=Training(trained_on or rows, 100, 0.5, is_forced=False, reasons=()),
        tuning=Tuning(tuned_on or rows, 0.98, {"text": SearchSettings()}),
        faiss="",
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
    assert needs_build(rows, present) is expected
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
    assert not plan_build(150_000, generation(100_000), no_drift).is_tuned_anew
    assert plan_build(150_001, generation(100_000), no_drift).is_tuned_anew
    assert plan_build(50_001, None, no_drift).is_tuned_anew

"""Relevance: bounded, monotone, free of the scale of scores, sane for the smallest libraries."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.encoders.base import Space
from retrieval.encoders.trust import trust
from retrieval.errors import UsageError
from retrieval.search import relevance
from retrieval.search.relevance import (
    FEATURES,
    FIRST_FORMAT,
    OWN_FILE,
    SAMPLE_ROWS,
    Calibration,
    CalibrationFile,
    CohortStatistics,
    LogisticCalibration,
    Reference,
    calibration_for,
    is_calibrated,
    sample_rows,
)
from retrieval.search.vocabulary import Known, Vocabulary, Word

OTHER_SPACE = Space("open_clip:other/weights", "sha256:0", "none", 512)

cosines = st.floats(-1, 1, width=32)
anything = st.floats(width=32)
kinds = st.sampled_from(["text", "image"])
texts = st.sampled_from(
    ["", "dog", "a dog on the beach", "zebra", "12", "小明的生日", "dog " * 200]
)


@pytest.fixture(scope="module")
def shipped(starter):
    return {
        "starter": {kind: calibration_for(starter.space, kind) for kind in ("text", "image")},
        "generic": {kind: calibration_for(OTHER_SPACE, kind) for kind in ("text", "image")},
    }


def array(values):
    return np.array(values, np.float32)


def normal_cohort(rows=1000, location=0.2, scale=0.03):
    return np.random.default_rng(0).normal(location, scale, rows).astype(np.float32)


names = pytest.mark.parametrize("name", ["starter", "generic"])
both = pytest.mark.parametrize("kind", ["text", "image"])


@names
@settings(max_examples=40)
@given(
    kind=kinds,
    hits=st.lists(anything, max_size=8),
    sample=st.lists(anything, max_size=40),
    text=texts,
)
def test_any_scores_give_numbers_from_0_to_1(shipped, name, kind, hits, sample, text):
    found = shipped[name][kind].curve(array(sample), text)(array(hits))
    assert found.shape == (len(hits),)
    assert found.dtype == np.float32
    assert ((found >= 0) & (found <= 1)).all()


@names
@settings(max_examples=40)
@given(
    kind=kinds,
    hits=st.lists(cosines, min_size=2, max_size=12),
    sample=st.lists(cosines, min_size=1, max_size=60),
    text=texts,
)
def test_more_similar_is_never_less_relevant(shipped, name, kind, hits, sample, text):
    ascending = shipped[name][kind].curve(array(sample), text)(array(sorted(hits)))
    assert (np.diff(ascending) >= 0).all()


@names
@both
def test_a_hit_that_stands_out_is_more_relevant(shipped, name, kind):
    found = shipped[name][kind].curve(normal_cohort(), "dog")(array([0.2, 0.26, 0.32, 0.38]))
    assert (np.diff(found) > 0).all()


@both
@settings(max_examples=40)
@given(factor=st.floats(0.05, 20), shift=st.floats(-3, 3))
def test_other_encoders_scores_may_have_any_scale_and_zero(shipped, kind, factor, shift):
    hits, sample = np.linspace(0, 0.5, 9), normal_cohort().astype(np.float64)
    generic = shipped["generic"][kind]
    plain = generic.curve(array(sample))(array(hits))
    other = generic.curve(array(factor * sample + shift))(array(factor * hits + shift))
    np.testing.assert_allclose(plain, other, atol=2e-3)


@names
@both
def test_what_is_not_a_number_has_no_relevance_and_harms_no_other(shipped, name, kind):
    sample = normal_cohort()
    calibration = shipped[name][kind]
    [good] = calibration.curve(sample)(array([0.35]))
    spoiled = np.concatenate([sample, array([np.nan, np.inf, -np.inf])])
    found = calibration.curve(spoiled)(array([np.nan, 0.35, np.inf, -np.inf]))
    assert found[0] == 0
    assert found[1] == pytest.approx(good, abs=1e-6)
    assert found[2] >= found[1] >= found[3]


@names
@both
@pytest.mark.parametrize("rows", [0, 1, 2, 3, 5, 10, 30])
def test_tiny_libraries_get_answers_in_order(shipped, name, kind, rows):
    sample = np.linspace(0.1, 0.4, rows).astype(np.float32)
    found = shipped[name][kind].curve(sample)(sample)
    assert np.isfinite(found).all()
    assert (np.diff(found) >= 0).all()


def test_a_library_of_one_is_judged_by_what_is_usual_in_its_space(shipped):
    calibration = shipped["starter"]["text"]
    usual = calibration.reference
    one = array([usual["location"]])
    other = array([usual["location"] + 8 * usual["scale"]])
    assert calibration.curve(one, "dog")(one)[0] < 0.3
    assert calibration.curve(other, "dog")(other)[0] > 0.5


def test_without_a_usual_the_smallest_libraries_are_not_judged(shipped):
    calibration = shipped["generic"]["text"]
    found = [calibration.curve(array([]))(array([value]))[0] for value in (-0.5, 0.0, 0.9)]
    assert found == [found[0]] * 3


def test_many_equal_scores_stand_out_of_nothing(shipped):
    same = np.full(100, 0.25, np.float32)
    found = shipped["generic"]["text"].curve(same)(same)
    assert (found == found[0]).all()
    assert found[0] < 0.15


def test_the_cohort_is_what_lies_below_its_median():
    sample = normal_cohort(5000, location=0.1, scale=0.05)
    plain = CohortStatistics.of(sample)
    assert plain.location == pytest.approx(0.1, abs=0.003)
    assert plain.scale == pytest.approx(0.05, abs=0.003)
    assert plain.rows == 5000
    # A tenth of the library fits the query: the cohort is still that of the others.
    with_answers = CohortStatistics.of(np.concatenate([sample, np.full(500, 0.9, np.float32)]))
    assert with_answers.location == pytest.approx(0.1, abs=0.01)
    assert with_answers.scale == pytest.approx(0.05, abs=0.008)


def test_a_reference_counts_as_much_as_it_is_worth():
    own = CohortStatistics(location=0.2, scale=0.04, rows=10)
    mixed = Reference(location=0.0, scale=0.1).blended_with(own, 10)
    assert mixed.location == pytest.approx(0.1)
    assert mixed.scale == pytest.approx(np.sqrt((0.04**2 + 0.1**2) / 2))
    alone = Reference(location=0.0, scale=0.1).blended_with(CohortStatistics(5, 5, 0), 10)
    assert (alone.location, alone.scale) == (0.0, pytest.approx(0.1))


def test_a_calibration_of_the_first_format_is_the_logistic_model_that_is_written():
    calibration = LogisticCalibration(-3.0, 1.5, -0.25, 0.1, 8, Reference(0.0, 1.0))
    sample = normal_cohort(64, 0.0, 1.0)
    known = calibration.reference.blended_with(CohortStatistics.of(sample), 8)
    logit = -3.0 + 1.5 * (2.0 - known.location) / known.scale - 0.25 * np.log(64)
    [found] = calibration.curve(sample)(array([2.0]))
    assert found == pytest.approx(1 / (1 + np.exp(-logit)), rel=1e-5)


USUAL = {"location": 0.0, "scale": 1.0, "upper": 1.3, "tail": 1.9, "top": 3.0}


def test_the_curve_is_the_one_that_is_written():
    weights = ({"one": -3.0, "share": 0.5}, {"one": 1.0, "single": 2.0}, {"known": 4.0})
    vocabulary = Vocabulary("english", 1000, {"dog": Word(100, 0.25)}, (0.0, 0.0))
    calibration = Calibration(*weights, USUAL, 8.0, vocabulary)
    sample = normal_cohort(64, 0.1, 0.9)
    known = Reference(0.0, 1.0).blended_with(CohortStatistics.of(sample), 8)
    hit = np.linspace(-1, 3, 9, dtype=np.float32)
    for text, single, share, knows, threshold in (
        ("dogs", 1, np.log(100.3 / 1000.3), 1, 0.25),
        ("zebra foal", 0, np.log(0.3 / 1000.3), 0, 0.0),
    ):
        slope, cosine = np.log1p(np.exp(1 + 2 * single)), np.log1p(np.exp(4 * knows))
        logit = -3 + 0.5 * share + slope * (hit - known.location) / known.scale
        logit += cosine * (hit - threshold)
        expected = 1 / (1 + np.exp(-logit))
        np.testing.assert_allclose(calibration.curve(sample, text)(hit), expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        ({"reference_rows": 0.0}, "reference_rows above 0"),
        ({"offset": {"one": float("nan")}}, "finite"),
        ({"spread": {"two": 1.0}}, "no features two"),
    ],
)
def test_a_calibration_without_meaning_is_refused(broken, why):
    fields = {"offset": {}, "spread": {}, "cosine": {}, "reference": USUAL, "reference_rows": 8.0}
    with pytest.raises(UsageError, match=why):
        Calibration(**{**fields, **broken})


@pytest.mark.parametrize("rows", [0, 1, 7, SAMPLE_ROWS, SAMPLE_ROWS + 1, 50_000])
def test_samples_are_of_rows_that_exist_each_once_in_order(rows):
    chosen = sample_rows(rows)
    assert chosen.dtype == np.int64
    assert len(chosen) == min(rows, SAMPLE_ROWS)
    assert (np.diff(chosen) > 0).all()
    assert ((chosen >= 0) & (chosen < rows)).all()
    np.testing.assert_array_equal(chosen, sample_rows(rows))


def test_samples_are_of_live_rows_only():
    live = np.zeros(20_000, np.bool_)
    live[3::7] = True
    chosen = sample_rows(20_000, live)
    assert len(chosen) == SAMPLE_ROWS
    assert live[chosen].all()
    np.testing.assert_array_equal(sample_rows(100, live[:100]), np.flatnonzero(live[:100]))


def test_samples_are_spread_and_change_little_as_a_library_grows():
    before, after = sample_rows(100_000), sample_rows(101_000)
    assert len(np.intersect1d(before, after)) > 0.95 * SAMPLE_ROWS
    tenths = np.bincount(before // 10_000, minlength=10)
    assert tenths.min() > 60  # 102 are expected, with a deviation of 10


def test_every_space_has_a_calibration_and_starter_its_own(starter, shipped):
    generic = shipped["generic"]
    assert not {"location", "threshold"} & {*generic["text"].offset, *generic["text"].reference}
    assert {"location", "threshold"} <= set(shipped["starter"]["text"].offset) <= set(FEATURES)
    of_text = shipped["starter"]["text"]
    assert of_text.known("Dogs on a beach") is Known.ALL
    assert of_text.known("a dog and a quillfeather") is Known.SOME
    assert of_text.known("小明的生日") is Known.NONE
    assert of_text.known("") is Known.SOME
    assert generic["text"].known("dog") is Known.SOME
    assert calibration_for(starter.space, "text") == shipped["starter"]["text"]
    assert calibration_for(starter.space, "text", pictures=False) == generic["text"]
    assert generic["text"] != generic["image"]


def test_a_librarys_own_calibration_goes_first_if_it_is_for_its_space(tmp_path, starter):
    vocabulary = Vocabulary(
        "english", 10, {"dog": Word(3, 0.25, 0.5), "löwe": Word(0)}, (0.1, -0.02)
    )
    own = Calibration({"one": -1.0}, {"one": 2.0}, {"rows": 0.5}, USUAL, 3.0)
    by_kind = {"text": replace(own, vocabulary=vocabulary), "image": own}
    file = CalibrationFile(starter.space.encoder, starter.space.id, by_kind, {"data": "mine"})
    file.write(tmp_path / OWN_FILE)
    assert calibration_for(starter.space, "image", tmp_path) == own
    assert calibration_for(OTHER_SPACE, "image", tmp_path) == calibration_for(OTHER_SPACE, "image")
    assert CalibrationFile.read(tmp_path / OWN_FILE) == file


def test_the_calibration_in_the_folder_of_an_encoder_is_that_of_its_space(tmp_path, starter):
    """But only if the user trusts the folder, and the space's own goes before it."""
    folder = tmp_path / "encoder"
    folder.mkdir()
    space = replace(OTHER_SPACE, encoder=f"local-dir:{folder}")
    shipped = Path(relevance.__file__).parent / "calibrations" / "starter.json"
    file = CalibrationFile.read(shipped)
    replace(file, space_id=space.id).write(folder / OWN_FILE)
    assert not is_calibrated(space)
    trust(folder)
    assert is_calibrated(space)
    assert calibration_for(space, "text") == file.by_kind["text"]
    assert not is_calibrated(replace(space, weights="others"))


def test_a_space_is_calibrated_by_a_file_that_names_it(tmp_path, starter):
    assert is_calibrated(starter.space)
    assert not is_calibrated(OTHER_SPACE, tmp_path)
    calibration = LogisticCalibration(-1.0, 2.0, 0.0, 0.5, 3.0)
    by_kind = {"text": calibration, "image": calibration}
    CalibrationFile("other", OTHER_SPACE.id, by_kind).write(tmp_path / OWN_FILE)
    assert is_calibrated(OTHER_SPACE, tmp_path)


def test_files_of_the_first_format_still_count(tmp_path, starter):
    own = LogisticCalibration(-1.0, 2.0, 0.0, 0.5, 3.0, Reference(0.0, 0.1))
    by_kind = {"text": own, "image": replace(own, reference=None)}
    file = CalibrationFile(starter.space.encoder, starter.space.id, by_kind)
    file.write(tmp_path / OWN_FILE)
    assert json.loads((tmp_path / OWN_FILE).read_text())["format"] == FIRST_FORMAT
    assert calibration_for(starter.space, "text", tmp_path) == own
    assert CalibrationFile.read(tmp_path / OWN_FILE) == file


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"format": "other"}',
        '{"format": "mmsearch-relevance-1", "text": {}}',
        '{"format": "mmsearch-relevance-2", "text": {}, "image": {}}',
        '{"format": "mmsearch-relevance-2", "vocabulary": {"words": {"dog": 3}, "line": [0, 0]}}',
    ],
)
def test_a_damaged_calibration_says_which_file_and_what_to_do(tmp_path, content):
    file = tmp_path / OWN_FILE
    file.write_text(content, encoding="utf-8")
    with pytest.raises(UsageError, match=r"relevance\.json.*mmsearch train relevance"):
        CalibrationFile.read(file)


def test_shipped_files_say_what_they_are_made_of():
    from retrieval.search import relevance

    for file in (relevance._SHIPPED / "starter.json", relevance._GENERIC):
        card = json.loads(file.read_text(encoding="utf-8"))["card"]
        assert set(card) >= {"data", "recipe", "labels", "quality", "limits"}
        for kind in ("text", "image"):
            quality = card["quality"][kind]
            assert quality["brier"] < quality["base"]
            assert quality["ece"] < 0.05

"""A planted world in which fitting photos stand out: what is learned must tell them from others."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retrieval.errors import NotFoundError, UsageError
from retrieval.search.relevance import CalibrationFile
from retrieval.training.captions import CaptionedPhoto
from retrieval.training.relevance import (
    RelevanceTraining,
    best_threshold,
    build_vocabulary,
    fit_calibration,
    is_held_out,
    measure,
    train_relevance,
)
from retrieval.training.simulated_libraries import SimulatedQuery, SimulatedSearch


def planted(seed, count=600, *, shift=0.0, factor=1.0):
    """Searches in which one photo of the library stands four spreads out, or none does."""
    random = np.random.default_rng(seed)
    query = SimulatedQuery("caption", "planted", np.zeros(1, np.float32), np.zeros(1, np.float32))
    searches = []
    for _ in range(count):
        rows = int(np.exp(random.uniform(np.log(30), np.log(2000))))
        scores = random.normal(0, random.uniform(0.8, 1.2), rows)
        fits = np.zeros(rows, np.float32)
        answered = random.random() < 0.5
        if answered:
            fits[0], scores[0] = 1, random.normal(4, 1)
        scores = (factor * scores + shift).astype(np.float32)
        best = np.argsort(-scores)[:20]
        searches.append(
            SimulatedSearch(
                query, scores[best], best, fits[best], np.arange(20), scores[:1024], rows, answered
            )
        )
    return searches


@pytest.fixture(scope="module")
def learned():
    return fit_calibration(planted(0), of_scale=False)


def test_what_is_planted_gets_a_high_relevance_and_absence_a_low_one(learned):
    present, absent = [], []
    for search in planted(1):
        best = learned.curve(search.cohort)(search.similarity).max()
        (present if search.answered else absent).append(best)
    assert np.median(present) > 0.6
    assert np.median(absent) < 0.15
    assert np.mean(np.array(absent) < 0.25) > 0.8


def test_relevances_are_shares_of_what_fits_on_searches_that_were_not_learned_from(learned):
    quality = measure(learned, planted(2, 2000))
    assert quality.ece < 0.01
    assert quality.brier < 0.5 * quality.base
    for predicted, observed, count in zip(
        quality.predicted, quality.observed, quality.counts, strict=True
    ):
        if count > 300:
            assert predicted == pytest.approx(observed, abs=0.1)
    assert sum(quality.counts) == quality.hits


def test_the_scale_and_zero_of_scores_do_not_change_what_is_learned(learned):
    other = fit_calibration(planted(0, shift=0.3, factor=0.02), of_scale=False)
    for search, moved in zip(planted(5, 20), planted(5, 20, shift=0.3, factor=0.02), strict=True):
        np.testing.assert_allclose(
            learned.curve(search.cohort)(search.similarity),
            other.curve(moved.cohort)(moved.similarity),
            atol=0.02,
        )


def test_the_reference_is_the_cohort_of_large_libraries():
    reference = fit_calibration(planted(3, shift=0.25, factor=0.1)).reference
    assert reference["location"] == pytest.approx(0.25, abs=0.01)
    assert reference["scale"] == pytest.approx(0.1, abs=0.01)
    assert 1 < reference["upper"] < reference["tail"] < reference["top"]


def test_scores_that_say_the_opposite_cannot_be_calibrated():
    turned = [
        replace(one, similarity=-one.similarity, cohort=-one.cohort) for one in planted(4, 200)
    ]
    with pytest.raises(UsageError, match="nothing can be learned"):
        fit_calibration(turned)


def test_the_threshold_of_a_word_has_the_best_f1():
    random = np.random.default_rng(0)
    similarity = random.normal(size=60).astype(np.float32)
    counts = (similarity + random.normal(size=60) > 0.5).astype(np.int16) * 2
    counts[:5] = 1
    told, right = counts != 1, counts > 1

    def f1(least):
        shown = told & (similarity >= least)
        return 2 * (shown & right).sum() / (shown.sum() + right.sum())

    found, highest = best_threshold(similarity, counts)
    assert f1(found) == pytest.approx(highest)
    assert highest == pytest.approx(max(f1(least) for least in similarity))


def test_the_vocabulary_is_of_words_that_photos_share():
    captions = ("a dog on grass", "the dogs", "one zebra")
    photos = [CaptionedPhoto(Path(f"{n}.jpg"), captions[: 3 if n < 2 else 2]) for n in range(6)]
    photos += [CaptionedPhoto(Path(f"{n}.jpg"), ("a fox",)) for n in range(6, 20)]
    vectors = np.eye(20, dtype=np.float32)
    falling = np.linspace(1, 0, 20)  # every word finds the first photo best, the last one least
    vocabulary = build_vocabulary(photos, vectors, lambda texts: np.tile(falling, (len(texts), 1)))
    assert vocabulary.photos == 20
    assert vocabulary.words["dog"] == (6, pytest.approx(falling[5], abs=1e-4), 1.0)
    assert vocabulary.words["grass"] == (0, None, None)
    assert "zebra" not in vocabulary.words  # of two photos
    assert vocabulary.look_up("Dog!").well_known


def test_half_of_all_names_is_held_out():
    held = np.mean([is_held_out(f"{number}.jpg") for number in range(2000)])
    assert held == pytest.approx(0.5, abs=0.05)
    assert is_held_out("a") == is_held_out("a")


@pytest.fixture(scope="module")
def small_dataset(tmp_path_factory, photos):
    """Crops of five photos that starter knows, of which nobody could tell two of one apart."""
    folder = tmp_path_factory.mktemp("captioned")
    (folder / "images").mkdir()
    captions = {
        "cat": ("a brown cat looks at the camera", "a brown cat is looking at the camera"),
        "coffee": ("a cup of coffee on a table", "a cup of coffee stands on a table"),
        "astronaut": ("an astronaut in a space suit", "an astronaut wears a space suit"),
        "rocket": ("a rocket on the launch pad", "a rocket at the launch pad"),
        "motorcycle": ("a motorcycle in a garage", "a motorcycle stands in a garage"),
    }
    random = np.random.default_rng(0)
    lines = []
    for number in range(50):
        thing = list(captions)[number % 5]
        with Image.open(photos[thing]) as image:
            small = image.convert("RGB").resize((120, 120))
        left, top = random.integers(0, 25, 2).tolist()
        small.crop((left, top, left + 95, top + 95)).save(folder / "images" / f"{number}.png")
        split = "val" if number < 40 else "train"
        lines.append({"image": f"{number}.png", "split": split, "en": captions[thing]})
    text = "\n".join(json.dumps(line) for line in lines)
    (folder / "captions.jsonl").write_text(text, encoding="utf-8")
    return folder


@pytest.mark.slow
def test_training_writes_what_searches_can_use(tmp_path, small_dataset, starter):
    config = RelevanceTraining(
        small_dataset,
        tmp_path / "relevance.json",
        tmp_path / "cache",
        generic=tmp_path / "generic.json",
        distractors=5,
        outside=20,
        searches=150,
    )
    result = train_relevance(config, starter)
    assert CalibrationFile.read(config.output) == result.calibrations
    assert result.calibrations.space_id == starter.space.id
    assert result.quality["text"].brier < result.quality["text"].base
    generic = CalibrationFile.read(tmp_path / "generic.json")
    assert generic.space_id == ""
    assert generic.by_kind["text"].vocabulary is None
    assert result.calibrations.by_kind["text"].vocabulary.words
    # What is kept of the first run makes the second one the same, and fast.
    again = train_relevance(replace(config, output=tmp_path / "again.json"), starter)
    assert again.calibrations.by_kind == result.calibrations.by_kind


def test_a_missing_dataset_or_folder_is_named(tmp_path, starter):
    with pytest.raises(NotFoundError, match=r"captions\.jsonl"):
        train_relevance(RelevanceTraining(tmp_path, tmp_path / "out.json", tmp_path), starter)
    nowhere = tmp_path / "no" / "out.json"
    with pytest.raises(UsageError, match="no folder"):
        train_relevance(RelevanceTraining(tmp_path, nowhere, tmp_path), starter)

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from retrieval.errors import UsageError
from retrieval.training.features import SentenceFeatures
from retrieval.training.head_data import (
    Captions,
    ClassSentences,
    HeadData,
    HeadsTraining,
    ParallelSentences,
    Teacher,
)

NOTHING = SentenceFeatures(
    np.zeros((0, 384), np.float16), np.zeros((0, 384), np.float16), np.zeros(1, np.int64)
)


def test_captions_are_drawn_of_their_photo_and_half_in_the_first_language() -> None:
    # Photo 0 has rows 0-3, 3-4 and 4-6 in three languages, photo 1 none in the first.
    rows = np.array([[[0, 3], [3, 4], [4, 6]], [[6, 6], [6, 7], [7, 8]]])
    captions = Captions(tuple("abcdefgh"), rows, NOTHING)
    assert captions.present.tolist() == [[True, True, True], [False, True, True]]
    random = np.random.default_rng(0)
    drawn = captions.draw(np.repeat([0, 1], 4000), random)
    shares = np.bincount(drawn[:4000], minlength=8) / 4000
    np.testing.assert_allclose(shares, [1 / 6] * 3 + [1 / 4, 1 / 8, 1 / 8, 0, 0], atol=0.03)
    shares = np.bincount(drawn[4000:], minlength=8) / 4000
    np.testing.assert_allclose(shares, [0] * 6 + [1 / 2, 1 / 2], atol=0.03)


def test_pairs_of_parallel_sentences_are_in_two_languages() -> None:
    rows = np.array([[0, 1, 2], [3, -1, 4]])
    first, second = ParallelSentences(rows, NOTHING).draw(200, np.random.default_rng(0))
    pairs = set(zip(first.tolist(), second.tolist(), strict=True))
    assert pairs == {(0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (2, 1), (3, 4), (4, 3)}


def test_the_best_known_name_of_a_class_is_drawn_most_often() -> None:
    sentences = ClassSentences(np.array([0, 1, 5]), NOTHING)
    drawn = sentences.draw(np.repeat([0, 1], 1000), np.random.default_rng(0))
    assert (drawn[:1000] == 0).all()
    counts = np.bincount(drawn[1000:], minlength=5)
    assert counts[0] == 0
    assert (np.diff(counts[1:]) < 0).all()


def test_a_teacher_compares_captions_with_photos() -> None:
    teacher = Teacher(np.eye(3, dtype=np.float16), np.eye(3, dtype=np.float16)[[2, 0]])
    found = teacher.similarity(np.array([0, 2]), np.array([0, 1]))
    assert found.tolist() == [[0, 1], [1, 0]]


@pytest.mark.slow
def test_photos_without_a_caption_in_another_language_are_not_used(
    heads_config: HeadsTraining, tmp_path: Path
) -> None:
    german = {"image": "red-square-train.png", "de": ["ein rotes Quadrat"]}
    file = tmp_path / "german.jsonl"
    file.write_text(json.dumps(german), encoding="utf-8")
    config = dataclasses.replace(heads_config, languages=("en", "de"), captions=(file,))
    data = HeadData(config, lambda *_: None)
    assert data.usable.tolist() == [0]
    assert data.others is not None
    assert data.others.texts == ("ein rotes Quadrat",)
    assert list(data.validation.captions) == ["en"]
    assert data.digest() != HeadData(heads_config, lambda *_: None).digest()
    with pytest.raises(UsageError, match="fr"):
        HeadData(dataclasses.replace(heads_config, languages=("en", "fr")), lambda *_: None)


@pytest.mark.parametrize(
    "wrong", [{"dropout": 1.0}, {"class_photos": 1001}, {"words": -1}, {"parallel_sentences": 0}]
)
def test_settings_that_cannot_be_meant_are_errors(
    heads_config: HeadsTraining, wrong: dict[str, float]
) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        dataclasses.replace(heads_config, **wrong)  # type: ignore[arg-type]

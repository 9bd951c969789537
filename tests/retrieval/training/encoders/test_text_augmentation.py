import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.errors import UsageError
from retrieval.training.encoders.text_augmentation import (
    _WORD,
    CaptionAugmentation,
    drop_words,
    join_captions,
)


@settings(max_examples=30)
@given(st.text(), st.floats(0, 0.99), st.integers(0, 2**32))
def test_words_are_left_out_and_none_added(text: str, rate: float, seed: int) -> None:
    shorter = iter(text)
    kept = drop_words(text, rate, np.random.default_rng(seed))
    # What is left is a subsequence, but that any white space may have become a space.
    for character in kept:
        assert any(character == c or (character == " " and c.isspace()) for c in shorter)
    assert _WORD.search(kept) or not _WORD.search(text)


def test_as_many_words_are_left_out_as_the_rate_says() -> None:
    text = "one two three four five six seven eight nine ten"
    lengths = [len(drop_words(text, 0.3, np.random.default_rng(n)).split()) for n in range(400)]
    assert np.mean(lengths) == pytest.approx(7, abs=0.25)


def test_chinese_is_left_out_by_characters() -> None:
    lengths = [
        len(drop_words("一个孩子在红房子里", 0.3, np.random.default_rng(n))) for n in range(400)
    ]
    assert np.mean(lengths) == pytest.approx(0.7 * 9, abs=0.25)
    mixed = {drop_words("穿T-shirt的", 0.5, np.random.default_rng(n)) for n in range(100)}
    assert mixed == {"穿T-shirt的", "穿T-shirt", "T-shirt的", "穿的", "穿", "T-shirt", "的"}


def test_spaces_and_punctuation_fit_what_is_left() -> None:
    made = {drop_words("a dog , a cat.", 0.5, np.random.default_rng(n)) for n in range(200)}
    assert "a dog, cat." in made
    assert not any("  " in text or " ." in text for text in made if text != "a dog , a cat.")


def test_one_word_is_left_at_any_rate() -> None:
    made = {drop_words("red square", 0.999, np.random.default_rng(n)) for n in range(20)}
    assert made <= {"red", "square", "red square"}
    assert drop_words("square", 0.999, np.random.default_rng(0)) == "square"


@pytest.mark.parametrize(
    ("first", "second", "joined"),
    [
        ("a dog", "a cat", "a dog. a cat"),
        ("A dog .", "A cat .", "A dog . A cat ."),
        ("一只狗", "一只猫", "一只狗。一只猫"),
        ("一只狗。", "一只猫。", "一只狗。一只猫。"),
    ],
)
def test_captions_are_joined_as_sentences(first: str, second: str, joined: str) -> None:
    assert join_captions(first, second) == joined


def test_another_caption_follows_as_often_as_asked() -> None:
    augment = CaptionAugmentation(joined=0.25)
    made = [augment(["a", "b", "c", "a"], 0, seed) for seed in range(400)]
    assert set(made) == {"a", "a. b", "a. c"}
    assert made.count("a") / 400 == pytest.approx(0.75, abs=0.08)
    assert CaptionAugmentation(joined=1)(["a", "a"], 1, 0) == "a"


def test_the_same_seed_gives_the_same_text() -> None:
    augment = CaptionAugmentation(dropout=0.5, joined=0.5)
    captions = ["a red square on the wall", "one crimson box hangs there"]
    made = [augment(captions, 1, seed) for seed in range(40)]
    assert made == [augment(captions, 1, seed) for seed in range(40)]
    assert len(set(made)) > 20


@pytest.mark.parametrize("rates", [{"dropout": 1.0}, {"dropout": -0.1}, {"joined": 1.1}])
def test_a_setting_out_of_range_is_an_error(rates: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(rates))):
        CaptionAugmentation(**rates)

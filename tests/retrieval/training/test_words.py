import numpy as np
import pytest

from retrieval.errors import UsageError
from retrieval.training import words
from retrieval.training.words import caption_words

pytest.importorskip("stopwordsiso", reason="words of captions need the extra bench")


@pytest.fixture(autouse=True)
def two_photos_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "FEWEST_PHOTOS", 2)
    monkeypatch.setattr(words, "FEWEST_PHOTOS_OF_SINGLE", 2)


ENGLISH = [
    ["A brown dog runs", "The dog is on sand"],
    ["A brown dog", "An animal on grass"],
    ["Two girls", "Grass and girls"],
]


def test_words_and_phrases_are_shown_by_the_photos_whose_captions_say_them() -> None:
    found = caption_words({"en": ENGLISH})
    shown = dict(zip(found.texts, found.shown.tolist(), strict=True))
    assert shown == {
        "brown": [1, 1, 0],
        "dog": [2, 1, 0],
        "grass": [0, 1, 1],
        "brown dog": [1, 1, 0],
    }


def test_a_single_caption_says_all_and_gives_no_phrases() -> None:
    german = [["Ein brauner Hund"], ["Brauner Hund im Gras"], []]
    found = caption_words({"de": german})
    shown = dict(zip(found.texts, found.shown.tolist(), strict=True))
    assert shown == {"brauner": [2, 2, 0], "hund": [2, 2, 0]}


@pytest.mark.slow
def test_chinese_is_divided_into_words() -> None:
    pytest.importorskip("jieba", reason="Chinese needs the extra bench")
    found = caption_words({"zh": [["小狗在草地上"], ["草地上的女孩"]]})
    assert "草地" in found.texts


def test_languages_are_drawn_by_their_shares() -> None:
    found = caption_words({"en": ENGLISH, "de": [["Hund"], ["Hund"], []], "fr": [["chien"]] * 3})
    assert found.chances.sum() == pytest.approx(1)
    chances = dict(zip(found.texts, found.chances, strict=True))
    assert (chances["hund"], chances["chien"]) == pytest.approx((0.25, 0.3))
    assert chances["dog"] == pytest.approx(chances["brown"] * 1.5**0.25)
    drawn = found.draw(100, np.random.default_rng(0))
    assert sorted(drawn) == list(range(len(found.texts)))


def test_captions_without_common_words_are_an_error() -> None:
    with pytest.raises(UsageError, match="--words 0"):
        caption_words({"en": [["a dog"], ["a cat"]]})

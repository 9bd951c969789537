"""Vocabulary: words by their stems, whatever their case, width or number."""

import math

import pytest

from retrieval.search.vocabulary import KnownWords, Vocabulary, Word, stems_in, words


@pytest.fixture
def vocabulary():
    known = {
        "a": Word(900, 0.1, 0.9),
        "dog": Word(200, 0.3, 0.8),
        "beach": Word(50, 0.35, 0.5),
        "violin": Word(1),
    }
    return Vocabulary("english", 1000, known, line=(0.2, -0.02), level_line=(1.0, 0.5))


@pytest.mark.parametrize("text", ["dog", "Dogs", "DOG!", "ｄｏｇ", "a dog", "the... no: dog"[-3:]])
def test_forms_of_a_word_are_one_word(vocabulary, text):
    found = vocabulary.look_up(text)
    assert found.count == 1
    assert found.known == 1
    assert found.shares[0] == pytest.approx(math.log(200.3 / 1000.3))
    assert found.thresholds == (0.3, 0.3)
    assert found.well_known


def test_the_rarest_word_goes_first(vocabulary):
    for text in ("a dog on_beach".replace("_", " a "), "Beaches; dogs"):
        found = vocabulary.look_up(text.replace("on", "a"))
        assert found.count == 2
        assert found.shares == pytest.approx((math.log(50.3 / 1000.3), math.log(200.3 / 1000.3)))
        assert found.thresholds == (0.35, 0.3)
        # Half of the highest F1 is the relevance at the threshold.
        relevances = [1 / (1 + math.exp(-level)) for level in found.levels]
        assert relevances == pytest.approx([0.25, 0.4])


def test_unknown_words_are_rare_and_have_a_usual_threshold_and_level(vocabulary):
    found = vocabulary.look_up("zebra dog")
    assert found.known == 0.5
    assert not found.well_known
    assert found.shares[0] == pytest.approx(math.log(0.3 / 1000.3))
    assert found.thresholds[0] == pytest.approx(0.2 - 0.02 * found.shares[0])
    assert found.levels[0] == pytest.approx(1.0 + 0.5 * found.shares[0])
    rare = vocabulary.look_up("violin")
    assert rare.known == 1
    assert not rare.well_known
    assert rare.shares[0] > found.shares[0]


@pytest.mark.parametrize("text", ["a", "2019 -- !", "a a a"])
def test_words_that_tell_nothing_are_not_well_known(vocabulary, text):
    nothing = (0.0, 0.0)
    found = vocabulary.look_up(text)
    assert found == KnownWords(0, 1.0, nothing, nothing, nothing, well_known=False)


def test_no_text_has_no_words(vocabulary):
    assert vocabulary.look_up("") == KnownWords.none()


def test_a_long_text_is_read_at_its_beginning(vocabulary):
    assert vocabulary.look_up("dog " * 64 + "zebra").count == 1
    assert vocabulary.look_up("zebra " + "dog " * 10_000).count == 2


def test_words_of_any_script_are_words():
    assert words("Ein Löwe, zwei_Hunde 3x 小明的生日") == [
        "ein",
        "löwe",
        "zwei",
        "hunde",
        "x",
        "小明的生日",
    ]
    assert stems_in("running dogs", "english") == ("run", "dog")

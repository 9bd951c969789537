"""The cut: the best of all, by brute force over every k."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.search.cut import FLOOR, UNKNOWN_FLOOR, Outlook
from retrieval.search.vocabulary import Known

chances = st.lists(st.floats(0, 1, width=32), max_size=30)
NOTHING = np.empty(0, np.float32)


def array(values):
    return np.array(values, np.float32)


def expected_f1(relevance, k, total):
    return 2 * sum(relevance[:k]) / (k + total)


@given(chances)
def test_the_cut_is_the_best_of_all(values):
    relevance = sorted(values, reverse=True)
    cut = Outlook.of(array(relevance), NOTHING, 0).best(known=Known.ALL)
    total = sum(relevance)
    assert cut.expected == pytest.approx(total)
    if not total:
        assert cut.least == math.inf
        return
    shown = sum(value >= cut.least for value in relevance)
    best = max(expected_f1(relevance, k, total) for k in range(1, len(relevance) + 1))
    assert expected_f1(relevance, shown, total) == pytest.approx(best)


@given(chances, chances)
def test_a_sample_counts_as_what_it_stands_for(nearest, others):
    """Each of the sample is as three items, which might as well have been listed."""
    sampled = Outlook.of(array(nearest), array(others), 3 * len(others))
    listed = Outlook.of(array([*nearest, *3 * others]), NOTHING, 0)
    for known in Known:
        one, other = (each.best(known=known) for each in (sampled, listed))
        assert one.expected == pytest.approx(other.expected)
        assert one.is_unsure == other.is_unsure
        assert one.least == pytest.approx(other.least) or one.kept == pytest.approx(other.kept)
    assert sampled.at(0.5).kept == pytest.approx(listed.at(0.5).kept)


def test_below_the_floor_only_what_is_well_known_is_shown():
    low = Outlook.of(array([FLOOR - 0.01, 0.01]), NOTHING, 0)
    assert low.best(known=Known.SOME).least > 1
    cut = low.best(known=Known.ALL)
    assert cut.is_unsure
    assert 0.01 < cut.least <= FLOOR
    sure = Outlook.of(array([FLOOR + 0.01, 0.01]), NOTHING, 0).best(known=Known.SOME)
    assert not sure.is_unsure
    assert sure.least < FLOOR + 0.01


def test_what_is_unknown_must_be_likelier():
    some = Outlook.of(array([UNKNOWN_FLOOR - 0.01, 0.2]), NOTHING, 0)
    assert some.best(known=Known.NONE).least > 1
    assert some.best(known=Known.SOME).least < 1
    likely = Outlook.of(array([UNKNOWN_FLOOR + 0.01, 0.2]), NOTHING, 0)
    assert likely.best(known=Known.NONE) == likely.best(known=Known.ALL)


def test_many_that_are_likely_are_all_shown_and_few_of_a_long_tail():
    dogs = Outlook.of(array([0.9] * 50 + [0.02] * 950), NOTHING, 0).best(known=Known.ALL)
    assert 0.02 < dogs.least < 0.9
    assert dogs.kept == 50
    assert dogs.expected == pytest.approx(64)


@pytest.mark.parametrize("others", [0, 5])
def test_an_empty_library_shows_nothing(others):
    cut = Outlook.of(NOTHING, NOTHING, others).best(known=Known.ALL)
    assert (cut.least, cut.expected, cut.kept) == (math.inf, 0, 0)


@pytest.mark.slow
def test_common_words_show_what_photos_have_of_them(shared_data, starter):
    from retrieval.media import Modality
    from retrieval.media.images import read_image
    from retrieval.search.relevance import calibration_for
    from retrieval.training.captions import read_captioned_photos
    from retrieval.training.fitting import named_things

    photos = read_captioned_photos(shared_data / "flickr8k", "val")[:80]
    vectors = np.concatenate(
        [
            starter.encode(Modality.IMAGE, starter.preprocess(read_image(photo.path))[np.newaxis])
            for photo in photos
        ]
    )
    calibration = calibration_for(starter.space, Modality.TEXT)
    fits = named_things(photos).fits(fewest=5)
    words = [word for word in ("dog", "dogs", "water", "snow", "boy", "man") if word in fits]
    assert len(words) >= 4
    for word in words:
        scores = vectors @ starter.encode(Modality.TEXT, [word])[0]
        order = np.argsort(-scores)
        relevance = calibration.curve(scores, word)(scores[order])
        cut = Outlook.of(relevance, NOTHING, 0).best(known=calibration.known(word))
        shown = (fits[word][order] == 1) & (relevance >= cut.least)
        assert shown.sum() >= (fits[word][order[:20]] == 1).sum() / 2, word

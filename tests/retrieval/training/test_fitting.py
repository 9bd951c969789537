"""Which photos fit a text: by the similarity of captions, and by the words that they agree on."""

from pathlib import Path

import numpy as np
import pytest

from retrieval.training.captions import CaptionedPhoto
from retrieval.training.fitting import (
    Gallery,
    caption_similarity,
    chance_of_fit,
    named_pairs,
    named_things,
)
from retrieval.training.relevance import sentence_vectors


def photo(*captions):
    return CaptionedPhoto(Path("x.jpg"), captions)


def unit(vectors):
    vectors = np.array(vectors, np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_the_best_two_captions_count():
    sentences = unit([[1, 0], [0, 1], [1, 1], [0, 1]])
    gallery = Gallery([photo("a", "b", "c"), photo("d")], np.zeros((2, 4), np.float32), sentences)
    similarity = caption_similarity(unit([[1, 0]]), gallery)
    np.testing.assert_allclose(similarity, [[(1 + np.sqrt(0.5)) / 2, 0.0]], atol=1e-6)


def test_vectors_must_belong_to_the_photos():
    with pytest.raises(ValueError, match="every photo"):
        Gallery([photo("a")], np.zeros((2, 4), np.float32), np.zeros((1, 2), np.float32))
    with pytest.raises(ValueError, match="every caption"):
        Gallery([photo("a", "b")], np.zeros((1, 4), np.float32), np.zeros((1, 2), np.float32))


def test_chances_rise_with_similarity_as_the_judged_pairs_did():
    chances = chance_of_fit(np.array([0.3, 0.45, 0.55, 0.65, 0.75, 0.85], np.float32))
    assert (np.diff(chances) > 0).all()
    assert chances[1] < 0.05
    assert chances[-1] > 0.9


def test_paraphrases_fit_and_other_scenes_do_not(tmp_path):
    texts = [
        "A black dog is running through a field of grass .",
        "A black dog runs across the grass .",
        "The dog is running in a green meadow .",
        "A woman in a red dress is singing on a stage .",
        "A singer performs in front of an audience .",
    ]
    vectors = sentence_vectors(texts, tmp_path)
    photos = [photo(*texts[1:3]), photo(*texts[3:])]
    gallery = Gallery(photos, np.zeros((2, 4), np.float32), vectors[1:])
    dog, singer = chance_of_fit(caption_similarity(vectors[:1], gallery))[0]
    assert dog > 0.6
    assert singer < 0.01


def test_things_are_named_by_two_captions_in_any_form():
    photos = [
        photo("A dog runs .", "two dogs in the park", "something brown"),
        photo("the park", "A man sits .", "an old park"),
        photo("a fox", "a red fox", "A dog ?"),
    ]
    named = named_things(photos).fits(fewest=1)
    assert set(named) == {"dog", "park", "fox"}  # two captions of one photo, at least
    nan = np.nan
    np.testing.assert_array_equal(named["dog"], [1, 0, nan])
    np.testing.assert_array_equal(named["park"], [nan, 1, 0])
    np.testing.assert_array_equal(named["fox"], [0, 0, 1])
    assert named_things(photos).fits(fewest=2) == {}


def test_function_words_are_no_things_unless_all_words_are_asked_for():
    photos = [photo("a dog in the park", "the dogs in a park")]
    assert set(named_things(photos).counts) == {"dog", "park"}
    everything = named_things(photos, leave_out=())
    assert {stem: counts.tolist() for stem, counts in everything.counts.items()} == {
        stem: [2] for stem in ("a", "dog", "in", "park", "the")
    }


def test_pairs_are_of_neighbours_without_function_words():
    photos = [
        photo("a brown dog barks", "brown dogs bark loud", "a dog and brown grass"),
        photo("a brown dog", "brown is the dog"),
        photo("a dog digs in brown mud", "a dog digs"),
    ]
    pairs = named_pairs(photos, fewest=1)
    assert {stem: counts.tolist() for stem, counts in pairs.counts.items()} == {
        "brown dog": [2, 1, 1],  # nobody can say where both stand apart
        "dog bark": [2, 0, 0],
        "dog dig": [0, 0, 2],
    }
    assert pairs.texts["dog bark"] == "dog barks"
    assert set(named_pairs(photos, fewest=2).counts) == set()


def test_a_thing_and_its_place_are_said_by_captions_that_have_both():
    photos = [
        photo("a dog on the beach", "a beach where dogs play"),
        photo("the dog is at a red ball", "dog, red ball"),
        photo("a dog", "the beach"),
        photo("the beach and a dog", "a dog digs"),
    ]
    pairs = named_pairs(photos, fewest=1)
    assert pairs.counts["dog beach"].tolist() == [2, 0, 0, 1]
    assert pairs.texts["dog beach"] == "dog beach"
    assert "dog ball" not in pairs.counts  # what stands between belongs to the place
    assert pairs.counts["red ball"].tolist() == [0, 2, 0, 0]


def test_pairs_that_the_same_captions_say_are_one():
    boys = ("a boy on the beach", "the boys on a beach")
    girls = ("a girl on the beach", "the girls on a beach")
    pairs = named_pairs([photo(*boys), photo(*girls)], fewest=1)
    of_both = {stem for stem, counts in pairs.counts.items() if counts.tolist() == [2, 2]}
    assert len(of_both) == 1  # of child, kid, person, people
    assert {"boy beach", "girl beach"} <= set(pairs.counts)
    assert not any("boy child" in stem or "child person" in stem for stem in pairs.counts)

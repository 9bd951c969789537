"""Which photos fit a text: by the similarity of captions, and by the words that they agree on."""

from pathlib import Path

import numpy as np
import pytest

from retrieval.training.captions import CaptionedPhoto
from retrieval.training.fitting import Gallery, caption_similarity, chance_of_fit, naming_words
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


def test_words_that_captions_agree_on_name_what_is_shown():
    photos = [photo("A dog runs .", "two dogs in the park", "something brown")] * 6
    photos += [photo("A man sits .", "somebody rests", "a person on a chair")] * 15
    words = naming_words(photos)
    assert list(words) == ["dog"]  # not "park", which one caption in three names, nor "man"
    np.testing.assert_array_equal(words["dog"], [1] * 6 + [0] * 15)


def test_a_word_of_nearly_all_photos_or_of_few_is_no_query():
    photos = [photo("a dog", "a dog")] * 20 + [photo("a fox", "a fox")] * 4
    assert naming_words(photos) == {}

import numpy as np
import pytest
from PIL import Image

from retrieval.encoders.base import Space
from retrieval.errors import NotFoundError, UsageError
from retrieval.media import Modality
from retrieval.rerankers.cross_attention import CrossAttentionReranker
from retrieval.search.encode import CountedCache, QueryVectors, encode, join_parts
from retrieval.search.query import ImagePart, ItemPart, Query, TextPart


def test_a_cache_makes_what_is_missing_in_one_call():
    calls = []

    def make(keys):
        calls.append(keys)
        return [key * 2 for key in keys]

    cache = CountedCache(100, lambda _: 1)
    assert cache.get_many(["a", "b", "a"], make) == {"a": "aa", "b": "bb"}
    assert cache.get_many(["b", "c"], make) == {"b": "bb", "c": "cc"}
    assert cache.get_many([], make) == {}
    assert calls == [["a", "b"], ["c"]]
    assert (cache.hits, cache.misses) == (1, 3)


def test_a_full_cache_forgets_the_least_recently_used():
    cache = CountedCache(2, lambda _: 1)
    for keys in (["a"], ["b"], ["a"], ["c"]):
        cache.get_many(keys, list)
    before = cache.misses
    assert cache.get_many(["a", "c", "b"], list) == {"a": "a", "c": "c", "b": "b"}
    assert cache.misses == before + 1


def test_what_does_not_fit_is_given_all_the_same():
    assert CountedCache(0, lambda _: 1).get_many(["a"], list) == {"a": "a"}
    cache = CountedCache(5, lambda value: value)
    assert cache.get_many([3, 9], list) == {3: 3, 9: 9}


def test_vectors_and_tokens_are_those_of_the_models(tiny_encoder, tiny_fusion):
    vectors = QueryVectors(lambda: tiny_encoder)
    reranker = CrossAttentionReranker(tiny_fusion, tiny_encoder)
    texts = ["a dog", "two people in the snow", "a dog"]
    expected = tiny_encoder.encode(Modality.TEXT, texts)
    for _ in range(2):
        found = vectors.of_texts(texts)
        for text, vector in zip(texts, expected, strict=True):
            np.testing.assert_allclose(found[text].vector, vector, atol=1e-6)
        assert found["a dog"].token_count == tiny_encoder.token_count("a dog")
        tokens = vectors.text_tokens(reranker, texts)
        for text in texts:
            alone = reranker.text_tokens([text])
            np.testing.assert_allclose(
                tokens[text].values[0], alone.values[0, alone.mask[0]], atol=1e-5
            )
    assert (vectors.texts.hits, vectors.texts.misses) == (2, 2)


def test_images_are_known_by_their_pixels(tiny_encoder):
    vectors = QueryVectors(lambda: tiny_encoder)
    red, blue = (Image.new("RGB", (40, 30), colour) for colour in ("red", "blue"))
    first = vectors.of_images([ImagePart(red), ImagePart(blue), ImagePart(red.copy())])
    np.testing.assert_array_equal(first[0], first[2])
    assert vectors.images.misses == 2
    assert not np.allclose(first[0], first[1])


def test_parts_are_weighted_and_scaled_to_unit_length():
    generator = np.random.default_rng(0)
    one, two = generator.normal(size=(2, 8)).astype(np.float32)
    expected = one - 0.5 * two
    np.testing.assert_allclose(
        join_parts([1, -0.5], [one, two]), expected / np.linalg.norm(expected), atol=1e-6
    )
    with pytest.raises(UsageError, match="cancel each other out"):
        join_parts([1, -1], [one, one])


class Axes:
    """An encoder of two texts, each along an axis; longer texts than one word are cut."""

    modalities = frozenset({Modality.IMAGE, Modality.TEXT})

    context_length = 1
    space = Space("axes", "w", "p", 2)

    def __init__(self):
        self.calls = []

    def encode(self, modality, texts):
        assert modality is Modality.TEXT
        self.calls.append(list(texts))
        return np.array([[1, 0] if text.startswith("x") else [0, 1] for text in texts], np.float32)

    def token_count(self, text):
        return len(text.split())


def test_queries_are_encoded_together_and_what_is_wrong_stands_in_its_place():
    encoder = Axes()
    item_vectors = {7: np.array([0, 1], np.float32)}
    x, y = TextPart("x"), TextPart("y")
    encoded = encode(
        [
            Query((x,)),
            Query((x, y)),
            Query((y, ItemPart(7, -1.0))),
            Query((ItemPart(8),)),
            Query((x, ItemPart(7))),
            Query((TextPart("x x x"),)),
        ],
        QueryVectors(lambda: encoder),
        encoder,
        item_vectors,
    )
    assert encoder.calls == [["x", "y", "x x x"]]
    assert isinstance(encoded[2], UsageError)
    assert isinstance(encoded[3], NotFoundError)
    half = np.sqrt(0.5)
    for place, expected in {0: [1, 0], 1: [half, half], 4: [half, half], 5: [1, 0]}.items():
        np.testing.assert_allclose(encoded[place].vector, expected, atol=1e-6)
    assert encoded[0].warnings == ()
    assert "has 3 tokens, but axes reads only 1" in encoded[5].warnings[0]


def test_what_unwanted_texts_take_off_is_known(tiny_encoder):
    wanted, unwanted = tiny_encoder.encode(Modality.TEXT, ["beach", "people"])
    [plain, signed] = encode(
        [
            Query((TextPart("beach"),)),
            Query((TextPart("beach"), TextPart("people", -1.0))),
        ],
        QueryVectors(lambda: tiny_encoder),
        tiny_encoder,
        {},
    )
    assert (plain.length, plain.unwanted) == (1.0, None)
    # The whole is what is wanted less what is not, where the first has the length 1.
    np.testing.assert_allclose(signed.length * signed.vector, wanted - signed.unwanted, atol=1e-6)
    assert signed.unwanted @ unwanted == pytest.approx(np.linalg.norm(signed.unwanted), abs=1e-6)

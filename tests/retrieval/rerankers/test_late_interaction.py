import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from retrieval.encoders.base import Tokens
from retrieval.rerankers.late_interaction import max_sim, text_max_sim


def draw(n: int, tokens: int, seed: int) -> Tokens:
    generator = np.random.default_rng(seed)
    values = generator.standard_normal((n, tokens, 6)).astype(np.float32)
    mask = generator.random((n, tokens)) < 0.7
    mask[:, 0] = True
    return Tokens(values * mask[..., np.newaxis], mask)


def by_hand(first: np.ndarray, second: np.ndarray) -> float:
    def cosine(a, b):
        return a @ b / np.linalg.norm(a) / np.linalg.norm(b)

    there = np.mean([max(cosine(a, b) for b in second) for a in first])
    back = np.mean([max(cosine(a, b) for a in first) for b in second])
    return (there + back) / 2


@given(st.integers(1, 5), st.integers(1, 7), st.integers(0, 100))
def test_it_is_the_formula_whatever_the_padding(n, tokens, seed):
    image, images = draw(1, 5, seed), draw(n, tokens, seed + 1000)
    centre = np.random.default_rng(seed).standard_normal(6).astype(np.float32) / 10
    expected = [
        by_hand(image.values[0, image.mask[0]] - centre, values[mask] - centre)
        for values, mask in zip(images.values, images.mask, strict=True)
    ]
    np.testing.assert_allclose(max_sim(image, images, centre), expected, atol=1e-5)


def test_an_image_is_most_like_itself():
    images = draw(8, 6, 0)
    for place in range(8):
        image = Tokens(images.values[[place]], images.mask[[place]])
        scores = max_sim(image, images, np.zeros(6, np.float32))
        assert scores.argmax() == place
        assert abs(scores[place] - 1) < 1e-5


def test_max_sim_of_texts_with_images():
    texts = Tokens.padded(
        np.array([[[1, 0], [0, 1]], [[-1, 0], [9, 9]]], np.float32), np.array([2, 1])
    )
    images = Tokens.padded(
        np.array([[[1, 0], [0.6, 0.8]], [[1, 0], [-9, 9]]], np.float32), np.array([2, 1])
    )
    np.testing.assert_allclose(text_max_sim(texts, images), [[1.8, 1.0], [-0.6, -1.0]], atol=1e-6)
    nothing = Tokens(np.empty((0, 0, 2), np.float32), np.empty((0, 0), np.bool_))
    assert text_max_sim(texts, nothing).shape == (2, 0)
    assert text_max_sim(nothing, images).shape == (0, 2)


def test_max_sim_of_more_images_than_fit_at_once():
    random = np.random.default_rng(0)
    texts = Tokens.all_present(random.normal(size=(3, 4, 8)).astype(np.float32))
    images = Tokens.all_present(random.normal(size=(70, 5, 8)).astype(np.float16))
    expected = np.einsum("mtc,nuc->mntu", texts.values, images.values).max(3).sum(2)
    np.testing.assert_allclose(text_max_sim(texts, images), expected, rtol=1e-4)

import numpy as np
import pytest

from benchmarks.quality.embedding_cache import EmbeddingCache
from retrieval.encoders.base import Tokens
from retrieval.media.images import read_image


class PixelReranker:
    """Tokens of an image are its rows of four pixels, the last one masked; of a text its words."""

    name = "pixels"
    identity = "pixels/1"
    match_weight = 1.0
    depth = 2

    def __init__(self) -> None:
        self.counts: list[int] = []

    def preprocess(self, image):
        return np.asarray(image.resize((4, 3)), np.float32)[..., 0] / 256

    def image_tokens(self, pixels):
        self.counts.append(len(pixels))
        mask = np.ones(pixels.shape[:2], np.bool_)
        mask[:, -1] = False
        return Tokens(pixels * mask[..., None], mask)

    def text_tokens(self, texts):
        self.counts.append(len(texts))
        words = [text.split() for text in texts]
        values = np.zeros((len(texts), max(map(len, words)), 2), np.float32)
        mask = np.zeros(values.shape[:2], np.bool_)
        for place, each in enumerate(words):
            values[place, : len(each)] = [[len(word), ord(word[0])] for word in each]
            mask[place, : len(each)] = True
        return Tokens(values, mask)

    def text_query_weight(self, texts):
        return np.ones(len(texts.values), np.float32)

    def image_query_weight(self, images):
        return np.ones(len(images.values), np.float32)

    def match(self, texts, images):
        return np.zeros((len(texts.values), len(images.values)), np.float32)


@pytest.fixture
def reranker():
    return PixelReranker()


def test_image_tokens_are_computed_once_by_content(tmp_path, reranker, picture_folder):
    paths = sorted(picture_folder.rglob("*.png"))
    copy = picture_folder / "copy.png"
    copy.write_bytes(paths[0].read_bytes())
    store = EmbeddingCache(tmp_path / "cache").tokens(reranker)
    steps = []
    store.add_images([*paths[:4], copy], lambda *step: steps.append(step))
    store.add_images(paths)
    assert reranker.counts == [1, 4, 2]  # the first is a blank image that tells the shape
    assert steps == [(4, 4)]

    again = EmbeddingCache(tmp_path / "cache").tokens(reranker)
    again.add_images([copy, *paths])
    assert reranker.counts == [1, 4, 2, 1]
    kept = again.image_tokens([paths[3], copy])
    expected = reranker.image_tokens(
        np.stack([reranker.preprocess(read_image(path)) for path in (paths[3], paths[0])])
    )
    np.testing.assert_array_equal(kept.mask, expected.mask)
    np.testing.assert_allclose(kept.values, expected.values, atol=1e-3)
    assert kept.values.dtype == np.float32
    [file] = (tmp_path / "cache" / "tokens").glob("*.f16")
    assert file.stat().st_size == 6 * 3 * (4 + 1) * 2


def test_rerankers_do_not_share_tokens(tmp_path, reranker, picture_folder):
    cache, path = EmbeddingCache(tmp_path / "cache"), next(picture_folder.rglob("*.png"))
    other = PixelReranker()
    other.identity = "pixels/2"
    for each in (reranker, other):
        cache.tokens(each).add_images([path])
        assert each.counts == [1, 1]
    assert cache.tokens(reranker) is not cache.tokens(other)


def test_text_tokens_are_computed_once_and_padded_to_the_longest_asked_for(tmp_path, reranker):
    store = EmbeddingCache(tmp_path / "cache").tokens(reranker)
    texts = ["a cat", "one two three four", "dog"]
    store.add_texts([*texts, "dog"])
    store.add_texts(texts)
    assert reranker.counts == [1, 3]
    for asked in (["dog", "a cat"], texts, ["dog", "dog"]):
        kept, expected = store.text_tokens(asked), reranker.text_tokens(asked)
        np.testing.assert_array_equal(kept.values, expected.values)
        np.testing.assert_array_equal(kept.mask, expected.mask)

from pathlib import Path

import numpy as np
import pytest

from benchmarks.quality.embedding_cache import EmbeddingCache
from retrieval.media import Modality
from retrieval.media.images import read_image


@pytest.fixture
def cache(tmp_path):
    return EmbeddingCache(tmp_path / "cache")


@pytest.fixture
def encoded_counts(tiny_encoder, monkeypatch):
    """How many things each call of the encoder was given."""
    counts = []

    encode = tiny_encoder.encode

    def counted(modality, inputs):
        counts.append(len(inputs))
        return encode(modality, inputs)

    monkeypatch.setattr(tiny_encoder, "encode", counted)
    return counts


def test_images_are_encoded_once_by_content(cache, tiny_encoder, picture_folder, encoded_counts):
    paths = sorted(picture_folder.rglob("*.png"))
    copy = picture_folder / "copy.png"
    copy.write_bytes(paths[0].read_bytes())
    first = cache.embed_images(tiny_encoder, [*paths, copy])
    assert sum(encoded_counts) == 6
    np.testing.assert_array_equal(first.rows[0], first.rows[6])
    again = EmbeddingCache(cache.folder).embed_images(tiny_encoder, [copy, *paths])
    assert sum(encoded_counts) == 6
    np.testing.assert_array_equal(again.rows[1:], first.rows[:6])
    for path, row in zip(paths, first.rows, strict=False):
        pixels = tiny_encoder.preprocess(read_image(path))[None]
        np.testing.assert_allclose(row, tiny_encoder.encode(Modality.IMAGE, pixels)[0], atol=1e-3)


def test_texts_are_encoded_once(cache, tiny_encoder, encoded_counts):
    first = cache.embed_texts(tiny_encoder, ["a", "b", "a"])
    assert encoded_counts == [2]
    more = cache.embed_texts(tiny_encoder, ["c", "b"])
    assert encoded_counts == [2, 1]
    np.testing.assert_array_equal(more.rows[1], first.rows[1])


def test_unreadable_images_are_told_and_have_no_vector(cache, tiny_encoder, picture_folder):
    bad = picture_folder / "bad.png"
    bad.write_bytes(b"no")
    good = next(picture_folder.rglob("picture*.png"))
    embedded = cache.embed_images(tiny_encoder, [bad, good, Path("nowhere.png")])
    assert embedded.unreadable == {
        0: "not an image of a known format",
        2: "no such file or directory",
    }
    assert not embedded.rows[[0, 2]].any()
    assert embedded.rows[1].any()


def test_a_crash_between_rows_and_keys_loses_only_the_batch(cache, tiny_encoder, encoded_counts):
    first = cache.embed_texts(tiny_encoder, ["a", "b"])
    [keys] = cache.folder.rglob("*.keys")
    keys.write_bytes(keys.read_bytes()[:-10])
    again = cache.embed_texts(tiny_encoder, ["a", "b"])
    assert encoded_counts == [2, 1]
    np.testing.assert_array_equal(again.rows, first.rows)

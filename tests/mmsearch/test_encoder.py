"""Encoding texts and images."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

import mmsearch


@pytest.fixture(scope="module")
def encoder(tiny_encoder):
    return mmsearch.Encoder(tiny_encoder.space.encoder, device="cpu")


@pytest.fixture
def images(tmp_path):
    made = [Image.new("RGB", (40, 30), colour) for colour in ("red", "green", "blue")]
    for number, image in enumerate(made):
        image.save(tmp_path / f"{number}.png")
    return [tmp_path / f"{number}.png" for number in range(3)]


def test_texts_and_images_become_unit_vectors(encoder, images):
    vectors = encoder.encode(["a dog", images[0], images[1].read_bytes(), Image.open(images[2])])
    assert (vectors.shape, vectors.dtype) == ((4, encoder.dimension), np.float32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    pixels = np.asarray(Image.open(images[2]))
    np.testing.assert_allclose(encoder.encode(pixels), vectors[3], atol=1e-6)
    np.testing.assert_allclose(encoder.encode_images([str(images[0])])[0], vectors[1], atol=1e-5)
    stacked = encoder.encode(np.stack([pixels, pixels]))
    np.testing.assert_allclose(stacked, vectors[[3, 3]], atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 2, 5, 100])
def test_the_size_of_batches_changes_nothing(encoder, images, batch_size):
    inputs = ["a", images[0], "b", "c", images[1]]
    expected = np.stack([encoder.encode(one) for one in inputs])
    found = encoder.encode(iter(inputs), batch_size=batch_size)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_one_input_gives_one_vector_and_none_gives_none(encoder, images):
    assert encoder.encode("a dog").shape == (encoder.dimension,)
    assert encoder.encode(images[0]).shape == (encoder.dimension,)
    assert encoder.encode_images(str(images[0])).shape == (encoder.dimension,)
    assert encoder.encode([]).shape == (0, encoder.dimension)


def test_threads_may_share_it(encoder):
    texts = [f"text {n}" for n in range(8)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(encoder.encode, texts))
    np.testing.assert_allclose(np.stack(found), encoder.encode(texts), atol=1e-5)


@pytest.mark.parametrize("inputs", [5, None, {"a": 1}, [{}], [None], ["a", 3], np.zeros((2, 2))])
def test_other_inputs_are_a_type_error(encoder, inputs):
    with pytest.raises(TypeError, match="text"):
        encoder.encode(inputs)


def test_wrong_options_are_refused(encoder, tmp_path):
    with pytest.raises(TypeError, match="batch_size"):
        encoder.encode(["a"], batch_size="2")
    with pytest.raises(mmsearch.UsageError, match="at least 1"):
        encoder.encode(["a"], batch_size=0)
    with pytest.raises(mmsearch.UsageError, match=r"nothing\.png"):
        encoder.encode([tmp_path / "nothing.png"])
    with pytest.raises(TypeError, match="name of an encoder"):
        mmsearch.Encoder(3)
    with pytest.raises(mmsearch.UsageError, match="There is no encoder"):
        mmsearch.Encoder("no-such-encoder")


def test_a_progress_bar_is_shown_when_asked_for(encoder, capsys):
    encoder.encode(["a", "b"])
    assert capsys.readouterr().out == ""
    encoder.encode(["a", "b"], show_progress=True)
    assert "Encoding" in capsys.readouterr().out


def test_it_says_what_it_is(encoder, tiny_encoder):
    assert encoder.space == tiny_encoder.space.id
    assert repr(encoder) == f"Encoder({encoder.name!r}, dimension=32)"

"""Image towers of 8 bits: a space of their own, near the vectors of float32."""

import numpy as np
import onnx
import pytest

from retrieval.encoders.exports.encoder import ExportedEncoder
from retrieval.encoders.exports.quantization import measure_loss, quantise, same_neighbours
from retrieval.media import Modality


@pytest.fixture
def encoders(both):
    return [ExportedEncoder(one) for one in both]


def test_the_space_is_another_one(both):
    exact, quantised = both
    assert quantised.space.encoder == f"{exact.space.encoder}@int8"
    assert quantised.space.weights != exact.space.weights
    assert quantised.space.id != exact.space.id
    assert quantised.original == exact.original


def test_images_are_near_and_texts_are_equal(encoders, noise):
    texts = ["a dog", "two cats"]
    exact, quantised = (each.encode(Modality.TEXT, texts) for each in encoders)
    np.testing.assert_array_equal(exact, quantised)
    exact, quantised = (each.encode(Modality.IMAGE, np.stack(noise)) for each in encoders)
    cosines = (exact * quantised).sum(axis=1)
    assert cosines.min() > 0.99
    assert cosines.max() < 1 - 1e-7


def test_weights_are_integers(both):
    exact, quantised = (one.directory / "image" / "tower.onnx" for one in both)
    assert quantised.stat().st_size < 0.5 * exact.stat().st_size
    kinds = {one.data_type for one in onnx.load(quantised).graph.initializer}
    assert onnx.TensorProto.INT8 in kinds


def test_other_photos_are_other_weights(both, noise):
    exact, quantised = both
    again = quantise(exact, [pixels * 2 for pixels in noise[:4]])
    assert again.space.weights != quantised.space.weights


def test_the_loss_is_measured(encoders, noise):
    exact, quantised = encoders
    loss = measure_loss(exact, quantised, noise)
    vectors = [each.encode(Modality.IMAGE, np.stack(noise)) for each in encoders]
    cosines = (vectors[0] * vectors[1]).sum(axis=1)
    assert loss.photos == 40
    assert loss.cosine_median == pytest.approx(float(np.median(cosines)))
    assert loss.cosine_least == pytest.approx(float(cosines.min()))
    assert loss.neighbours == same_neighbours(*vectors, 10)
    assert measure_loss(exact, exact, noise).neighbours == 1


def test_neighbours_by_brute_force():
    generator = np.random.default_rng(0)
    first, second = generator.normal(size=(2, 30, 4)).astype(np.float32)
    shares = []
    for row in range(30):
        others = [n for n in range(30) if n != row]
        near = [
            set(sorted(others, key=lambda n: -float(m[row] @ m[n]))[:5]) for m in (first, second)
        ]
        shares.append(len(near[0] & near[1]) / 5)
    assert same_neighbours(first, second, 5) == pytest.approx(np.mean(shares))
    assert same_neighbours(first[:1], second[:1], 0) == 1

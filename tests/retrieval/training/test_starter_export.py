"""The networks of `starter` give what PyTorch gives with the same weights."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from retrieval.encoders.heads import ImageHead, TextHead
from retrieval.encoders.runtimes.onnx_runtime import OnnxModel
from retrieval.encoders.starter_inputs import MAP_CHANNELS, TEXT_WIDTH, TOKEN_CHANNELS
from retrieval.encoders.towers import TOKEN_BLOCKS, ImageTower
from retrieval.errors import UsageError
from retrieval.training.starter_export import (
    _averages,
    export_starter,
    float_tower,
    image_head,
    text_head,
    with_tokens,
)


@pytest.fixture(scope="module")
def tower():
    return ImageTower()


def network(model):
    return OnnxModel(model.SerializeToString())


@pytest.mark.parametrize("side", [9, 17, 33, 260])
def test_averages_over_places_are_those_of_adaptive_pooling(side):
    x = torch.randn(2, side, side)
    pooled = _averages(side) @ x @ _averages(side).T
    torch.testing.assert_close(pooled, functional.adaptive_avg_pool2d(x, 9), atol=1e-5, rtol=0)


@pytest.mark.slow
def test_the_image_network_in_float32_gives_the_tokens_of_the_tower(tower, exported_starter):
    exported = network(with_tokens(float_tower(tower)))
    pixels = exported_starter.pixels
    [tokens] = exported({"pixels": pixels})
    expected = tower.tokens(pixels).numpy()
    colours = slice(0, 6)  # the spread of one colour alone is the root of rounding
    np.testing.assert_allclose(tokens[..., 6:], expected[..., 6:], atol=1e-4)
    np.testing.assert_allclose(tokens[..., colours], expected[..., colours], atol=1e-2)


@pytest.mark.slow
def test_the_image_network_in_int8_is_near_to_that(tower, exported_starter):
    exported = OnnxModel(exported_starter.folder / "image.onnx")
    [tokens] = exported({"pixels": exported_starter.pixels})
    count = len(tokens)
    given, expected = tokens.reshape(count, -1), tower.tokens(exported_starter.pixels).numpy()
    expected = expected.reshape(count, -1)
    lengths = np.linalg.norm(given, axis=1) * np.linalg.norm(expected, axis=1)
    cosines = (given * expected).sum(1) / lengths
    assert np.median(cosines) > 0.98
    assert cosines.min() > 0.93


@pytest.mark.slow
@pytest.mark.parametrize("channels", [MAP_CHANNELS, TOKEN_CHANNELS])
def test_an_image_head_gives_the_vectors_of_pytorch(channels, tower):
    torch.manual_seed(0)
    head = ImageHead(channels).eval()
    torch.nn.init.normal_(head.class_vectors)
    for name, value in head.state_dict().items():
        head.state_dict()[name].copy_(value.half())
    tokens = torch.randn(5, 81, TOKEN_CHANNELS)
    map_ = tokens[..., -MAP_CHANNELS:] * TOKEN_BLOCKS[6]
    with torch.no_grad():
        pooled = tower.pool(map_)
        seen = map_ if channels == MAP_CHANNELS else tokens
        expected = head(seen, pooled, tower.classify(pooled)).numpy()
    [vectors] = network(image_head(head, channels, tower))({"tokens": tokens.numpy()})
    # The end of the tower is rounded to float16.
    np.testing.assert_allclose(vectors, expected, atol=3e-4)


@pytest.mark.parametrize("layers", [1, 3])
@torch.no_grad()
def test_a_text_head_gives_the_tokens_and_vectors_of_pytorch(layers):
    torch.manual_seed(0)
    head = TextHead(layers).eval()
    for parameter in head.parameters():
        parameter.copy_(parameter.half())
    exported = network(text_head(head))
    states, pooled = torch.randn(3, 7, TEXT_WIDTH), torch.randn(3, TEXT_WIDTH)
    mask = torch.arange(7) < torch.tensor([[7], [1], [4]])
    tokens = head.tokens(states, mask)
    inputs = {"states": states.numpy(), "pooled": pooled.numpy(), "mask": mask.numpy()}
    found = exported(inputs, ["tokens", "vectors"])
    np.testing.assert_allclose(found[0], (tokens * mask[:, :, None]).numpy(), atol=1e-4)
    np.testing.assert_allclose(found[1], head.project(tokens, pooled, mask).numpy(), atol=1e-4)


def test_an_image_network_is_made_or_taken_over(tmp_path):
    for given in ({}, {"dataset": tmp_path, "tower": tmp_path / "image.onnx"}):
        with pytest.raises(UsageError, match="either photos to calibrate with or a tower"):
            export_starter(tmp_path / "heads", tmp_path, **given)


@pytest.mark.slow
def test_a_taken_over_image_network_is_the_same(exported_starter, tmp_path):
    image = exported_starter.folder / "image.onnx"
    export_starter(exported_starter.heads, tmp_path, tower=image)
    for file in exported_starter.folder.iterdir():
        assert (tmp_path / file.name).read_bytes() == file.read_bytes(), file.name

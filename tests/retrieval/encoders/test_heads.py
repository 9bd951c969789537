"""The projection heads: pooling, what is masked, and what a file keeps."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional

from retrieval.encoders.heads import (
    AttentionPooling,
    ImageHead,
    Refinement,
    TextHead,
    load_heads,
    save_heads,
)
from retrieval.encoders.starter_inputs import MAP_CHANNELS, TEXT_WIDTH
from retrieval.encoders.towers import CLASSES, POOLED_CHANNELS
from retrieval.encoders.weight_files import HEADS_FORMAT, write_weights
from retrieval.errors import EncoderUnavailableError


@pytest.fixture(scope="module")
def heads() -> tuple[ImageHead, TextHead]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ImageHead().eval(), TextHead().eval()


@torch.no_grad()
def test_pooling_is_a_mean_weighted_by_a_softmax_for_each_query() -> None:
    pooling = AttentionPooling(width=3, queries=2)
    x = torch.randn(1, 4, 3)
    expected = [
        sum(w * row for w, row in zip(pooling.score(x)[0, :, q].softmax(0), x[0], strict=True))
        for q in range(2)
    ]
    torch.testing.assert_close(pooling(x)[0], torch.cat(expected))


@torch.no_grad()
def test_masked_tokens_count_for_nothing() -> None:
    pooling = AttentionPooling(width=3, queries=2)
    x = torch.randn(1, 4, 3)
    mask = torch.tensor([[True, True, False, False]])
    torch.testing.assert_close(pooling(x, mask), pooling(x[:, :2]))


def test_a_refinement_begins_as_the_identity() -> None:
    x = torch.randn(2, 512)
    assert torch.equal(Refinement().eval()(x), x)


@torch.no_grad()
def test_vectors_are_of_unit_norm_and_padding_changes_nothing(heads) -> None:
    image, text = heads
    map_, logits = torch.randn(2, 81, MAP_CHANNELS), torch.randn(2, CLASSES)
    vectors = image(map_, torch.randn(2, POOLED_CHANNELS), logits)
    assert vectors.shape == (2, 512)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(2))
    tokens, pooled = torch.randn(1, 5, TEXT_WIDTH), torch.randn(1, TEXT_WIDTH)
    whole = text(tokens, pooled, torch.ones(1, 5, dtype=torch.bool))
    padded = functional.pad(tokens, (0, 0, 0, 3))
    mask = torch.arange(8)[None] < 5
    torch.testing.assert_close(text(padded, pooled, mask), whole, atol=1e-5, rtol=0)


def test_heads_come_back_from_their_file_in_half_precision(heads, tmp_path: Path) -> None:
    save_heads(tmp_path / "heads.safetensors", *heads)
    for saved, loaded in zip(heads, load_heads(tmp_path / "heads.safetensors"), strict=True):
        state = loaded.state_dict()
        for name, value in saved.state_dict().items():
            assert torch.equal(state[name], value.half().float()), name
        assert not loaded.training
        assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_heads_of_another_architecture_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "heads.safetensors"
    write_weights(file, HEADS_FORMAT, {"image.other": torch.zeros(3)})
    with pytest.raises(EncoderUnavailableError, match="another architecture"):
        load_heads(file)


def test_a_file_says_the_sizes_of_its_heads(tmp_path: Path) -> None:
    file = tmp_path / "heads.safetensors"
    save_heads(file, ImageHead(channels=40), TextHead(layers=3))
    image, text = load_heads(file)
    assert image.map_norm.normalized_shape == (40,)
    assert len(text.layers) == 3


@torch.no_grad()
def test_heads_whose_one_layer_has_the_name_of_the_first_version_are_read(heads, tmp_path) -> None:
    image, text = heads
    tensors = {f"image.{name}": value for name, value in image.state_dict().items()}
    for name, value in text.state_dict().items():
        tensors[f"text.{name.replace('layers.0.', 'layer.')}"] = value
    write_weights(tmp_path / "heads.safetensors", HEADS_FORMAT, tensors)
    _, loaded = load_heads(tmp_path / "heads.safetensors")
    state = loaded.state_dict()
    for name, value in text.state_dict().items():
        assert torch.equal(state[name], value.half().float()), name


@torch.no_grad()
def test_packed_tokens_are_the_tokens_without_their_padding() -> None:
    text = TextHead(layers=2).eval()
    states = torch.randn(2, 4, TEXT_WIDTH)
    mask = torch.tensor([[True, True, False, False], [True, True, True, True]])
    torch.testing.assert_close(
        text.packed_tokens(states[mask], mask), text.tokens(states, mask)[mask]
    )

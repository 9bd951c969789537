"""Cross-attention models on disk, and as rerankers of one space."""

import dataclasses
import json
import shutil
import struct
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from retrieval.encoders.base import Tokens
from retrieval.encoders.weight_files import write_weights
from retrieval.errors import EncoderUnavailableError, SpaceMismatchError, UsageError
from retrieval.rerankers import cross_attention as module
from retrieval.rerankers.base import (
    ExplainableReranker,
    ImageSimilarityReranker,
    Reranker,
)
from retrieval.rerankers.cross_attention import (
    FORMAT,
    CrossAttentionCard,
    CrossAttentionReranker,
    load_model,
    save_model,
    shipped_model,
)
from retrieval.rerankers.cross_attention_model import CrossAttentionModel
from retrieval.rerankers.layers import KINDS, CrossAttentionConfig
from retrieval.rerankers.registry import load_reranker

KEPT = Path(__file__).parents[2] / "fixtures" / "fusion_checkpoint.safetensors"
"""A small random model that mmsearch 0.1 saved before the names of classes changed."""

TEXTS = ["a dog", "two cats on a mat, asleep in the warm afternoon sun", "雪", ""]
IMAGES = [
    Image.fromarray(pixels)
    for pixels in np.random.default_rng(0).integers(0, 256, (3, 50, 40, 3), dtype=np.uint8)
]


@pytest.fixture(scope="session")
def model():
    """A random model over the tokens of the tiny encoder, with weights that all matter."""
    config = CrossAttentionConfig(64, 32, image_positions=16, width=16, heads=2, depth=2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = CrossAttentionModel(config).eval().requires_grad_(False)
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="session")
def card(tiny_encoder):
    return CrossAttentionCard(tiny_encoder.space.encoder, tiny_encoder.space.id, 0.125, 30)


@pytest.fixture(scope="session")
def saved(model, card, tmp_path_factory):
    path = tmp_path_factory.mktemp("fusion") / "model.safetensors"
    save_model(path, model, card)
    return path


@pytest.fixture
def reranker(saved, tiny_encoder):
    return CrossAttentionReranker(saved, tiny_encoder)


@pytest.fixture
def images(reranker):
    return reranker.image_tokens(np.stack([reranker.preprocess(image) for image in IMAGES]))


@pytest.fixture
def copy(saved, tmp_path):
    return Path(shutil.copy(saved, tmp_path / "copy.safetensors"))


def rewrite_header(file, change):
    """Change the JSON header of a safetensors file and leave its data as they are."""
    content = file.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    change(header)
    fresh = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(fresh)) + fresh + content[8 + length :])


def test_it_keeps_the_protocol(reranker, saved, card):
    assert isinstance(reranker, Reranker)
    assert isinstance(reranker, ImageSimilarityReranker)
    assert isinstance(reranker, ExplainableReranker)
    assert reranker.name == f"fusion:{saved}"
    assert reranker.match_weight == card.match_weight
    assert reranker.depth == card.depth


def test_short_texts_have_a_weight_of_their_own(model, card, tiny_encoder, tmp_path):
    file = tmp_path / "short.safetensors"
    save_model(file, model, dataclasses.replace(card, short_text_tokens=4, short_text_weight=0.25))
    short = CrossAttentionReranker(file, tiny_encoder)
    width = short.text_tokens(TEXTS).values.shape[2]
    mask = np.arange(6) < np.array([[3], [4], [6]])
    texts = Tokens(np.zeros((3, 6, width), np.float32), mask)
    save_model(tmp_path / "all.safetensors", model, card)
    trusted = CrossAttentionReranker(tmp_path / "all.safetensors", tiny_encoder)
    expected = [0.25, 0.25, trusted.text_query_weight(texts)[2]]
    assert short.text_query_weight(texts).tolist() == pytest.approx(expected)


def test_a_saved_model_scores_as_before_within_half_precision(saved, model, card, tiny_encoder):
    loaded, read, digest = load_model(saved)
    assert read == card
    assert loaded.config == model.config
    assert len(digest) == 64
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    for name, value in loaded.state_dict().items():
        torch.testing.assert_close(value, model.state_dict()[name].half().float(), rtol=0, atol=0)
    texts = tiny_encoder.text_tokens(TEXTS)
    images = tiny_encoder.image_tokens(np.stack([tiny_encoder.preprocess(i) for i in IMAGES]))
    tensors = [torch.from_numpy(x) for x in (texts.values, texts.mask, images.values)]
    before, after = model(*tensors), loaded(*tensors)
    assert before.std() > 0.1
    torch.testing.assert_close(after, before, atol=0.05, rtol=0.01)


def test_a_checkpoint_of_an_earlier_version_loads_and_scores_as_then():
    model, card, _ = load_model(KEPT)
    assert card == CrossAttentionCard("local-dir:tiny", "kept-space", 0.125, 30)
    generator = torch.Generator().manual_seed(2)
    texts = torch.randn(2, 3, 32, generator=generator)
    images = torch.randn(3, 16, 64, generator=generator)
    logits = model(texts, torch.ones(2, 3, dtype=torch.bool), images)
    expected = [[-1.2666, -0.7289], [0.4391, -0.9352], [-0.0664, 0.1973]]
    torch.testing.assert_close(logits, torch.tensor(expected), atol=1e-3, rtol=0)
    axes = torch.nn.functional.one_hot(torch.arange(5), 8)
    states = torch.linspace(3.6, 4.0, 5)[:, None] * axes
    for trust, values in (
        (model.text_trust, [1, 1, 0.0917, 1, 1]),
        (model.image_trust, [1, 1, 0.4965, 0.1318, 1]),
    ):
        torch.testing.assert_close(trust(states), torch.tensor(values), atol=1e-3, rtol=0)


def test_files_keep_the_names_of_earlier_versions(tmp_path):
    model, card, digest = load_model(KEPT)
    save_model(tmp_path / "again.safetensors", model, card)
    again, kept = load_file(tmp_path / "again.safetensors"), load_file(KEPT)
    assert again.keys() == kept.keys()
    assert load_model(tmp_path / "again.safetensors")[2] == digest


def test_the_identity_of_a_model_never_changes():
    """Tokens in the caches of libraries are found by it."""
    encoder = SimpleNamespace(space=SimpleNamespace(id="kept-space"))
    assert CrossAttentionReranker(KEPT, encoder).identity == "fusion-85f13d2f35cbe55d"


def test_the_identity_of_the_shipped_model_never_changes(starter):
    if not module.SHIPPED.exists():
        pytest.skip("this checkout has no trained weights")
    assert load_reranker("auto", starter, "cpu").identity == "fusion-078da758da5510e7"


def test_saving_what_was_loaded_gives_the_same_file(saved, tmp_path):
    model, card, _ = load_model(saved)
    save_model(tmp_path / "again.safetensors", model, card)
    again = load_file(tmp_path / "again.safetensors")
    for name, value in load_file(saved).items():
        torch.testing.assert_close(again[name], value, rtol=0, atol=0)
    assert load_model(tmp_path / "again.safetensors")[2] == load_model(saved)[2]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["again.safetensors"]


def test_scores_are_those_of_the_model(reranker, images):
    texts = reranker.encoder.text_tokens(TEXTS)
    pixels = np.stack([reranker.encoder.preprocess(image) for image in IMAGES])
    expected = reranker.network.model(
        torch.from_numpy(texts.values),
        torch.from_numpy(texts.mask),
        torch.from_numpy(reranker.encoder.image_tokens(pixels).values),
    )
    scores = reranker.match(reranker.text_tokens(TEXTS), images)
    assert scores.shape == (4, 3)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, expected.numpy().T, atol=1e-5)


def test_a_score_depends_on_its_own_pair_alone(reranker, images):
    scores = reranker.match(reranker.text_tokens(TEXTS), images)
    for row, text in enumerate(TEXTS):
        for column in range(len(IMAGES)):
            one = Tokens(images.values[[column]], images.mask[[column]])
            alone = reranker.match(reranker.text_tokens([text]), one)
            np.testing.assert_allclose(alone[0, 0], scores[row, column], atol=1e-5)


def test_image_tokens_may_be_padded_and_masked(reranker, images):
    texts = reranker.text_tokens(TEXTS)
    padded = Tokens(
        np.pad(images.values, ((0, 0), (0, 3), (0, 0)), constant_values=7),
        np.pad(images.mask, ((0, 0), (0, 3))),
    )
    np.testing.assert_allclose(
        reranker.match(texts, padded), reranker.match(texts, images), atol=1e-5
    )


def test_image_tokens_may_be_kept_as_float16(reranker, images):
    texts = reranker.text_tokens(TEXTS)
    kept = Tokens(images.values.astype(np.float16), images.mask)
    scores = reranker.match(texts, kept)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, reranker.match(texts, images), atol=0.02)


def test_nothing_gives_nothing(reranker, images):
    no_texts = reranker.text_tokens([])
    no_images = reranker.image_tokens(np.empty((0, 3, 32, 32), np.float32))
    assert no_texts.values.shape == (0, 16, 16)
    assert no_images.values.shape == (0, 16, 16)
    assert reranker.match(reranker.text_tokens(TEXTS), no_images).shape == (4, 0)
    assert reranker.match(no_texts, images).shape == (0, 3)


def test_tokens_may_be_read_only(reranker, images):
    frozen = Tokens(images.values.copy(), images.mask.copy())
    frozen.values.setflags(write=False)
    frozen.mask.setflags(write=False)
    texts = reranker.text_tokens(TEXTS)
    np.testing.assert_array_equal(reranker.match(texts, frozen), reranker.match(texts, images))


def test_attribution_leaves_out_padding(reranker, images):
    text = "a dog on a mat"
    tokens = reranker.text_tokens([text])
    one = Tokens(images.values[:1], images.mask[:1])
    raised = reranker.attribution(tokens, one)
    length = reranker.encoder.token_count(text)
    assert length < tokens.values.shape[1]
    assert raised.shape == (length, 16)
    assert raised.dtype == np.float32
    assert (raised >= 0).all()
    cut = Tokens(tokens.values[:, :length], tokens.mask[:, :length])
    np.testing.assert_allclose(reranker.attribution(cut, one), raised, atol=1e-6)


def test_the_identity_follows_the_weights(saved, model, card, tiny_encoder, reranker, tmp_path):
    assert CrossAttentionReranker(saved, tiny_encoder).identity == reranker.identity
    other = tmp_path / "other.safetensors"
    save_model(other, model, dataclasses.replace(card, match_weight=0.5))
    assert CrossAttentionReranker(other, tiny_encoder).identity == reranker.identity
    changed, _, _ = load_model(saved)
    changed.scorer.bias.add_(0.5)
    save_model(other, changed, card)
    assert CrossAttentionReranker(other, tiny_encoder).identity != reranker.identity


def test_a_model_of_another_space_is_refused(model, card, tiny_encoder, tmp_path):
    other = tmp_path / "other.safetensors"
    save_model(other, model, dataclasses.replace(card, encoder="frob", space_id="frob-123"))
    with pytest.raises(SpaceMismatchError, match=r"'frob'.*frob-123.*--rerank none"):
        CrossAttentionReranker(other, tiny_encoder)


@pytest.mark.parametrize("keep", [0, 4, 8, 100, -1])
def test_a_cut_file_is_refused(keep, copy, tiny_encoder):
    copy.write_bytes(copy.read_bytes()[:keep])
    with pytest.raises(EncoderUnavailableError, match="--rerank none"):
        CrossAttentionReranker(copy, tiny_encoder)


def test_a_changed_file_is_refused(copy, tiny_encoder):
    content = bytearray(copy.read_bytes())
    content[-100] ^= 1
    copy.write_bytes(content)
    with pytest.raises(EncoderUnavailableError, match="damaged"):
        CrossAttentionReranker(copy, tiny_encoder)


@pytest.mark.parametrize(
    "content", [b"", b"12345678", b"\x02\0\0\0\0\0\0\0{}", b"\x02\0\0\0\0\0\0\0[]", b"x" * 5000]
)
def test_other_files_are_not_taken_for_a_model(content, tmp_path, tiny_encoder):
    (tmp_path / "other").write_bytes(content)
    with pytest.raises(EncoderUnavailableError, match="not a weight file"):
        CrossAttentionReranker(tmp_path / "other", tiny_encoder)


def test_a_missing_file_and_a_folder_are_told(tmp_path, tiny_encoder):
    for path in (tmp_path / "nothing", tmp_path):
        with pytest.raises(EncoderUnavailableError, match="Cannot read"):
            CrossAttentionReranker.by_name(str(path), tiny_encoder)


def test_weights_of_another_kind_are_refused(model, tmp_path, tiny_encoder):
    heads = tmp_path / "heads.safetensors"
    write_weights(heads, "mmsearch-heads-1", model.state_dict())
    with pytest.raises(EncoderUnavailableError, match=f"mmsearch-heads-1; expected is {FORMAT}"):
        CrossAttentionReranker(heads, tiny_encoder)


HEADER_CHANGES = {
    "no configuration": lambda header: header["__metadata__"].pop("config"),
    "no card": lambda header: header["__metadata__"].pop("card"),
    "a list for a card": lambda header: header["__metadata__"].update(card="[]"),
    "no JSON": lambda header: header["__metadata__"].update(config="{"),
    "an unknown setting": lambda header: change_config(header, frob=1),
    "a setting of another type": lambda header: change_config(header, width="wide"),
    "a bad setting": lambda header: change_config(header, depth=0),
    "another shape": lambda header: change_config(header, width=32),
    "another depth": lambda header: change_config(header, depth=3),
    "a tensor too few": lambda header: header.pop("fusion.bias"),
    "a tensor elsewhere": lambda header: header["fusion.bias"].update(data_offsets=[0, 10**9]),
}


def change_config(header, **settings):
    metadata = header["__metadata__"]
    metadata["config"] = json.dumps(json.loads(metadata["config"]) | settings)


@pytest.mark.parametrize("change", HEADER_CHANGES)
def test_an_altered_header_is_refused(change, copy, tiny_encoder):
    rewrite_header(copy, HEADER_CHANGES[change])
    with pytest.raises(EncoderUnavailableError, match="another architecture"):
        CrossAttentionReranker(copy, tiny_encoder)


def test_no_model_is_shipped_for_other_encoders(tiny_encoder):
    assert shipped_model(tiny_encoder.space) is None
    assert load_reranker("auto", tiny_encoder) is None
    with pytest.raises(
        UsageError, match=r"No cross-attention model comes with mmsearch for 'local-dir"
    ):
        CrossAttentionReranker.by_name("", tiny_encoder)
    for name in ("cross-attention", "fusion"):
        with pytest.raises(UsageError, match="No cross-attention model"):
            load_reranker(name, tiny_encoder)


def test_the_shipped_model_serves_its_own_space_only(
    model, card, starter, tiny_encoder, tmp_path, monkeypatch
):
    file = tmp_path / "shipped.safetensors"
    monkeypatch.setattr(module, "SHIPPED", file)
    assert shipped_model(starter.space) is None
    save_model(file, model, dataclasses.replace(card, encoder="starter", space_id="older"))
    assert shipped_model(starter.space) is None
    assert load_reranker("auto", starter) is None
    save_model(file, model, dataclasses.replace(card, encoder="starter", space_id=starter.space.id))
    assert shipped_model(starter.space) == file
    assert shipped_model(tiny_encoder.space) is None
    for name in ("auto", "cross-attention", "fusion"):
        loaded = load_reranker(name, starter, "cpu")
        assert isinstance(loaded, CrossAttentionReranker)
        assert loaded.name == "fusion"


@pytest.mark.parametrize("kind", KINDS)
def test_a_weight_file_says_its_kind(kind, card, tiny_encoder, tmp_path):
    config = CrossAttentionConfig(64, 32, image_positions=16, kind=kind, width=16, heads=2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_model(tmp_path / "model", CrossAttentionModel(config).eval(), card)
    assert load_model(tmp_path / "model")[0].config == config
    reranker = load_reranker(f"cross-attention:{tmp_path / 'model'}", tiny_encoder, "cpu")
    images = reranker.image_tokens(np.stack([reranker.preprocess(image) for image in IMAGES]))
    texts = reranker.text_tokens(TEXTS)
    scores = reranker.match(texts, images)
    assert scores.shape == (4, 3)
    assert scores.std() > 0
    one = Tokens(images.values[2:], images.mask[2:])
    alone = reranker.match(reranker.text_tokens(TEXTS[1:2]), one)
    np.testing.assert_allclose(alone, scores[1:2, 2:], atol=1e-5)


def test_a_weight_file_of_an_unknown_kind_is_refused(copy):
    def change(header):
        config = json.loads(header["__metadata__"]["config"])
        header["__metadata__"]["config"] = json.dumps(config | {"kind": "sum"})

    rewrite_header(copy, change)
    with pytest.raises(EncoderUnavailableError, match=r"another architecture.*'sum'"):
        load_model(copy)

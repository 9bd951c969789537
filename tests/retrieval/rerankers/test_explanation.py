import numpy as np
import pytest
import torch
from PIL import Image

from retrieval.errors import UsageError
from retrieval.media import Modality
from retrieval.rerankers.cross_attention import (
    CrossAttentionCard,
    CrossAttentionReranker,
    save_model,
)
from retrieval.rerankers.cross_attention_model import CrossAttentionModel
from retrieval.rerankers.explanation import explain
from retrieval.rerankers.layers import CrossAttentionConfig
from retrieval.training.reranker_export import export_reranker

IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 40, 3), dtype=np.uint8))


def build(encoder, folder, **settings):
    """A random model over an encoder's tokens, with weights that all matter."""
    pixels = encoder.preprocess(IMAGE)[np.newaxis]
    image, text = encoder.image_tokens(pixels).values, encoder.text_tokens(["a"]).values
    config = CrossAttentionConfig(
        **{
            "image_width": image.shape[2],
            "text_width": text.shape[2],
            "image_positions": image.shape[1],
            "width": 16,
            "heads": 2,
            **settings,
        }
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = CrossAttentionModel(config).requires_grad_(False)
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    path = folder / "model.safetensors"
    save_model(path, model, CrossAttentionCard(encoder.space.encoder, encoder.space.id, 0.1, 50))
    return CrossAttentionReranker(path, encoder)


@pytest.fixture(scope="module")
def reranker(tiny_encoder, tmp_path_factory):
    return build(tiny_encoder, tmp_path_factory.mktemp("tiny"), depth=2)


@pytest.fixture(scope="module")
def starter_reranker(starter, tmp_path_factory):
    return build(starter, tmp_path_factory.mktemp("starter"))


def test_an_exported_model_explains_as_its_weight_file_does(tiny_encoder, tmp_path):
    original = build(tiny_encoder, tmp_path, feed_forward=0)
    export_reranker(tmp_path / "model.safetensors", tmp_path / "networks")
    exported = CrossAttentionReranker(tmp_path / "networks", tiny_encoder)
    by_pytorch, by_onnx = (
        explain(each, tiny_encoder, "a dog on the snow", IMAGE) for each in (original, exported)
    )
    assert by_onnx.match == pytest.approx(by_pytorch.match, abs=1e-4)
    np.testing.assert_allclose(by_onnx.heat, by_pytorch.heat, atol=1e-4)
    for ours, theirs in zip(by_onnx.words, by_pytorch.words, strict=True):
        assert (ours.word, ours.start, ours.end) == (theirs.word, theirs.start, theirs.end)
        assert ours.contribution == pytest.approx(theirs.contribution, abs=1e-4)
        np.testing.assert_allclose(ours.heat, theirs.heat, atol=1e-3)


TEXTS = {
    "a dog on the snow": ["a", "dog", "on", "the", "snow"],
    "Two dogs, don't run!": ["Two", "dogs", "don't", "run"],
    "a well-known T-shirt (blue).": ["a", "well-known", "T-shirt", "blue"],
    "雪の中の犬": ["雪", "の", "中", "の", "犬"],
    "一只狗 and 2 cats": ["一", "只", "狗", "and", "2", "cats"],
    "été à la plage": ["été", "à", "la", "plage"],
    "собака": ["собака"],
    "?!": ["?!"],
    "🐕": ["🐕"],
    "  spaced   out  ": ["spaced", "out"],
    "fish &amp; chips": ["fish", "amp", "chips"],
    "dog " * 40: ["dog"] * 40,
}


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("which", ["reranker", "starter_reranker"])
def test_every_word_of_any_text_is_explained(which, text, request):
    reranker = request.getfixturevalue(which)
    explanation = explain(reranker, reranker.encoder, text, IMAGE)
    assert explanation.text == text
    assert [word.word for word in explanation.words] == TEXTS[text]
    end = 0
    for word in explanation.words:
        assert text[word.start : word.end] == word.word
        assert not any(character.isalnum() for character in text[end : word.start])
        assert np.isfinite(word.contribution)
        end = word.end
    assert not any(character.isalnum() for character in text[end:])
    for heat in (explanation.heat, *(word.heat for word in explanation.words)):
        assert heat.shape == ((4, 4) if which == "reranker" else (9, 9))
        assert heat.dtype == np.float32
        assert (heat >= 0).all()
        assert heat.sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("which", ["reranker", "starter_reranker"])
def test_the_numbers_are_those_of_the_reranker(which, request):
    reranker = request.getfixturevalue(which)
    encoder = reranker.encoder
    explanation = explain(reranker, encoder, "a dog, asleep", IMAGE)
    pixels = encoder.preprocess(IMAGE)[np.newaxis]
    image = reranker.image_tokens(pixels)

    def match(text):
        return float(reranker.match(reranker.text_tokens([text]), image)[0, 0])

    whole = match("a dog, asleep")
    assert explanation.match == pytest.approx(whole, abs=1e-5)
    for word, rest in zip(explanation.words, ["dog, asleep", "a , asleep", "a dog,"], strict=True):
        assert word.contribution == pytest.approx(whole - match(rest), abs=1e-5)
    cosine = (
        encoder.encode(Modality.TEXT, ["a dog, asleep"])[0]
        @ encoder.encode(Modality.IMAGE, pixels)[0]
    )
    assert explanation.similarity == pytest.approx(float(cosine), abs=1e-5)
    assert explanation.view == encoder.view(*IMAGE.size)


@pytest.mark.parametrize("which", ["reranker", "starter_reranker"])
def test_a_words_heat_is_that_of_its_tokens(which, request):
    reranker = request.getfixturevalue(which)
    encoder = reranker.encoder
    text = "a dog on skateboards"
    image = reranker.image_tokens(encoder.preprocess(IMAGE)[np.newaxis])
    raised = reranker.attribution(reranker.text_tokens([text]), image)
    explanation = explain(reranker, encoder, text, IMAGE)
    spans = encoder.token_spans(text)
    assert len(spans) == len(raised)
    dog = raised[2]
    assert text[slice(*spans[2])] == "dog"
    side = len(explanation.heat)
    np.testing.assert_allclose(
        explanation.words[1].heat, (dog / dog.sum()).reshape(side, side), atol=1e-5
    )
    np.testing.assert_allclose(
        explanation.heat, (raised.sum(0) / raised.sum()).reshape(side, side), atol=1e-5
    )


def test_a_word_past_the_context_looks_nowhere_and_carries_little(reranker):
    explanation = explain(reranker, reranker.encoder, "dog " * 40, IMAGE)
    last = explanation.words[-1]
    np.testing.assert_allclose(last.heat, 1 / 16)
    assert last.contribution == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("text", ["", " ", "\n\t", "\u3000"])
def test_a_blank_text_is_refused(text, reranker, tiny_encoder):
    with pytest.raises(UsageError, match="text is empty"):
        explain(reranker, tiny_encoder, text, IMAGE)


def test_without_a_fusion_model_nothing_is_explained(tiny_encoder):
    with pytest.raises(UsageError, match="mmsearch train reranker"):
        explain(None, tiny_encoder, "a dog", IMAGE)


def test_a_single_stream_is_explained(tiny_encoder, tmp_path):
    reranker = build(tiny_encoder, tmp_path, kind="single-stream")
    explanation = explain(reranker, tiny_encoder, "a dog", IMAGE)
    texts = reranker.text_tokens(["a dog"])
    images = reranker.image_tokens(np.stack([reranker.preprocess(IMAGE)]))
    assert explanation.match == pytest.approx(float(reranker.match(texts, images)[0, 0]), abs=1e-5)
    assert explanation.heat.sum() == pytest.approx(1)
    assert explanation.heat.std() > 0


@pytest.mark.parametrize("kind", ["concat", "gated", "bilinear", "cosine"])
def test_pooled_models_explain_nothing(kind, tiny_encoder, tmp_path):
    with pytest.raises(UsageError, match="kind `cross`"):
        explain(build(tiny_encoder, tmp_path, kind=kind), tiny_encoder, "a dog", IMAGE)


@pytest.mark.parametrize("size", [(1, 1), (300, 7), (7, 300)])
def test_images_of_any_size_are_explained(size, reranker, tiny_encoder):
    explanation = explain(reranker, tiny_encoder, "a dog", Image.new("RGB", size, "red"))
    left, top, right, bottom = explanation.view
    assert 0 <= left < right <= size[0]
    assert 0 <= top < bottom <= size[1]

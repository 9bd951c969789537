"""Tiny models of random weights stand in for ColPali and ColQwen2."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from retrieval.encoders.checkpoints import CheckpointKind
from retrieval.encoders.multi_vector import (
    MOST_RATIO,
    MOST_TEXT_TOKENS,
    MultiVectorModel,
    alike_batches,
    padded_to_ratio,
)
from retrieval.errors import EncoderUnavailableError
from tests.tiny_checkpoints import make_colpali, make_colqwen

KIND = CheckpointKind("late-interaction", "--rerank", "someone/model", "`--rerank none`")
SIZES = [(50, 40), (30, 90), (40, 50), (50, 40), (1, 1), (3, 900), (2000, 30)]
TEXTS = ["two cats", "a page of charts about snow", "snow", "", "猫"]
MAKERS = {"colpali": make_colpali, "colqwen": make_colqwen}


def pictures():
    random = np.random.default_rng(0)
    return [
        Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8))
        for width, height in SIZES
    ]


@pytest.fixture(scope="module", params=[*MAKERS])
def folder(request, tmp_path_factory):
    pytest.importorskip("transformers")
    directory = tmp_path_factory.mktemp(request.param)
    MAKERS[request.param](directory)
    return directory


@pytest.fixture(scope="module")
def model(folder):
    return MultiVectorModel(KIND, str(folder))


@pytest.fixture(scope="module")
def pixels(model):
    return np.stack([model.preprocess(picture) for picture in pictures()])


@pytest.fixture(scope="module")
def vectors(model, pixels):
    return model.image_vectors(pixels)


@pytest.mark.slow
def test_vectors_are_those_of_transformers_itself(folder, model, vectors):
    import transformers

    name = type(model._model).__name__
    plain = getattr(transformers, name).from_pretrained(folder).eval()
    processor = getattr(transformers, name.replace("ForRetrieval", "Processor")).from_pretrained(
        folder
    )
    for place, picture in enumerate(pictures()[:5]):
        with torch.inference_mode():
            expected = plain(**processor.process_images(images=[picture])).embeddings[0].numpy()
        np.testing.assert_allclose(vectors.values[place, vectors.mask[place]], expected, atol=1e-6)
    texts = model.text_vectors(TEXTS)
    for place, text in enumerate(TEXTS):
        with torch.inference_mode():
            expected = plain(**processor.process_queries(text=[text])).embeddings[0].numpy()
        np.testing.assert_allclose(texts.values[place, texts.mask[place]], expected, atol=1e-6)


@pytest.mark.slow
def test_vectors_depend_on_their_own_input_alone(model, pixels, vectors):
    norms = np.linalg.norm(vectors.values, axis=2)
    np.testing.assert_allclose(norms, vectors.mask.astype(np.float32), atol=1e-5)
    texts = model.text_vectors(TEXTS)
    for all_of, one in (
        (vectors, lambda place: model.image_vectors(pixels[place : place + 1])),
        (texts, lambda place: model.text_vectors(TEXTS[place : place + 1])),
    ):
        for place in range(len(all_of.values)):
            alone = one(place)
            assert alone.mask.all()
            np.testing.assert_allclose(
                all_of.values[place, all_of.mask[place]], alone.values[0], atol=1e-6
            )
    assert model.image_vectors(np.empty(0, np.object_)).values.shape == (0, 0, 8)
    assert model.text_vectors([]).values.shape == (0, 0, 8)


@pytest.mark.slow
def test_patches_lie_as_on_the_image(model, pixels, vectors):
    assert vectors.mask.sum(1).max() <= model.most_image_tokens
    for place, (width, height) in enumerate(SIZES):
        grid = model.patches(model.preprocess(pictures()[place]))
        assert sorted(grid.ravel()) == grid.ravel().tolist()
        assert grid.max() < vectors.mask[place].sum()
        if type(model._model).__name__ == "ColPaliForRetrieval":
            assert grid.shape == (4, 4)
        else:
            assert (grid.shape[0] > grid.shape[1]) == (height > width)
            assert grid.size <= max(64, (64 * MOST_RATIO) ** 0.5 + 1)


@pytest.mark.slow
def test_texts_are_located_cleaned_and_truncated(model):
    spans = model.token_spans("two cats")
    assert [span for span in spans if span != (0, 0)] == [(0, 3), (3, 8)]
    assert (
        len(spans) == model.text_vectors(["two cats"]).mask.sum() == model.token_count("two cats")
    )
    assert set(model.token_spans("")) == {(0, 0)}
    for mark in ("<image>", "<|image_pad|>", "<|image<|image_pad|>_pad|>"):
        model.text_vectors([mark])
    mark = model._processor.tokenizer.convert_ids_to_tokens(model._processor.image_token_id)
    marked = model.text_vectors([f"two cats{mark}"])
    np.testing.assert_array_equal(marked.values, model.text_vectors(["two cats "]).values)
    longest = model.text_vectors(["snow " * 2000])
    assert MOST_TEXT_TOKENS < longest.mask.sum() <= model.context_length
    assert model.token_count("snow " * 2000) > 2000


@pytest.mark.slow
def test_a_checkpoint_of_another_class_or_without_a_projection_is_refused(folder, tmp_path):
    from safetensors.numpy import load_file, save_file

    copy = shutil.copytree(folder, tmp_path / "copy")
    weights = load_file(copy / "model.safetensors")
    kept = {key: value for key, value in weights.items() if "embedding_proj" not in key}
    save_file(kept, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EncoderUnavailableError, match=r"lacks 2 weights .* such as embedding_proj"):
        MultiVectorModel(KIND, str(copy))
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"model_type": "clip"}))
    with pytest.raises(EncoderUnavailableError, match="model type 'clip', not colpali or colqwen2"):
        MultiVectorModel(KIND, str(copy))


def test_batches_hold_what_is_alike():
    assert list(alike_batches("abaab", 2)) == [[0, 2], [3], [1, 4]]
    assert not list(alike_batches("", 2))


def test_strips_are_padded():
    for size, expected in [
        ((1000, 1), (1000, 10)),
        ((1, 1001), (11, 1001)),
        ((200, 2), (200, 2)),
        ((1, 1), (1, 1)),
    ]:
        padded = padded_to_ratio(Image.new("RGB", size, "red"))
        assert padded.size == expected
        assert padded.getpixel((0, 0)) == (255, 0, 0)

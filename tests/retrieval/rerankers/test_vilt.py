"""A tiny ViLT of random weights stands in for the real one."""

import json
import pickle
import shutil
import socket
import time

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from PIL import Image
from safetensors.numpy import load_file, save_file

from retrieval.encoders.base import Tokens
from retrieval.errors import EncoderUnavailableError, UsageError
from retrieval.rerankers.base import (
    ExplainableReranker,
    ImageSimilarityReranker,
    Reranker,
    image_token_shape,
)
from retrieval.rerankers.registry import load_reranker
from retrieval.rerankers.vilt import load_vilt
from retrieval.search.engine import Engine
from retrieval.search.query import Query, Reranking, TextPart
from tests.tiny_checkpoints import make_vilt

pytestmark = pytest.mark.slow

TEXTS = ["two cats", "a dog on the snow, red", "", "snow"]
SIZES = [(40, 50), (50, 40), (30, 90), (32, 32), (500, 4), (4, 500), (1, 1)]
"""Widths and heights; some are narrower strips than ViLT's image processor takes."""
IMAGES = [
    Image.fromarray(
        np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
    )
    for number, (width, height) in enumerate(SIZES)
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    pytest.importorskip("transformers")
    directory = tmp_path_factory.mktemp("vilt")
    make_vilt(directory)
    return directory


@pytest.fixture(scope="module")
def reranker(folder):
    return load_vilt(str(folder))


@pytest.fixture(scope="module")
def images(reranker):
    return reranker.image_tokens(np.stack([reranker.preprocess(image) for image in IMAGES]))


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


def changed(file, **values):
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_it_keeps_the_protocol(folder, reranker, tiny_encoder):
    assert isinstance(reranker, Reranker)
    assert not isinstance(reranker, ImageSimilarityReranker | ExplainableReranker)
    again = load_reranker(f"vilt:{folder}", tiny_encoder)
    assert (again.name, again.identity) == (f"vilt:{folder}", reranker.identity)
    assert (again.match_weight, again.depth) == (1.0, 10)


def test_scores_are_those_of_transformers_itself(folder, reranker, images):
    import transformers

    model = transformers.ViltForImageAndTextRetrieval.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    processor = transformers.ViltImageProcessorPil.from_pretrained(folder)
    scores = reranker.match(reranker.text_tokens(TEXTS), images)
    assert scores.dtype == np.float32
    assert scores.std(axis=0).min() > 1e-3
    assert scores.std(axis=1).min() > 1e-3
    for column, image in enumerate(IMAGES[:4]):
        seen = processor(image, return_tensors="pt")
        for row, text in enumerate(TEXTS):
            with torch.inference_mode():
                [[expected]] = model(**tokenizer(text, return_tensors="pt"), **seen).logits
            assert scores[row, column] == pytest.approx(expected.item(), abs=1e-5)


def test_patches_follow_the_proportions_of_an_image(reranker, images):
    counts = images.mask.sum(axis=1).tolist()
    assert counts == [1 + 4 * 5, 1 + 5 * 4, 1 + 6 * 2, 1 + 4 * 4, 1 + 6, 1 + 6, 1 + 4 * 4]
    assert max(counts) <= reranker.most_image_tokens == 1 + 4 * 6
    assert image_token_shape(reranker) == (25, 24)


def test_a_score_depends_on_its_own_pair_alone(reranker, images):
    scores = reranker.match(reranker.text_tokens(TEXTS), images)
    state = torch.get_rng_state()
    for row, text in enumerate(TEXTS):
        for column, image in enumerate(IMAGES):
            alone = reranker.image_tokens(reranker.preprocess(image)[np.newaxis])
            [[score]] = reranker.match(reranker.text_tokens([text]), alone)
            assert score == pytest.approx(scores[row, column], abs=1e-5)
    assert torch.equal(torch.get_rng_state(), state)
    kept = Tokens(images.values.astype(np.float16), images.mask)
    halves = reranker.match(reranker.text_tokens(TEXTS), kept)
    np.testing.assert_allclose(halves, scores, atol=0.05)


def test_a_limit_of_patches_draws_none_by_chance(reranker, images, copy):
    changed(copy / "config.json", max_image_length=3)
    limited = load_vilt(str(copy))
    again = limited.image_tokens(np.stack([limited.preprocess(image) for image in IMAGES]))
    np.testing.assert_array_equal(again.values, images.values)


def test_sizes_may_be_written_as_the_published_checkpoints_do(reranker, images, copy):
    changed(copy / "preprocessor_config.json", size=32, feature_extractor_type="X")
    older = load_vilt(str(copy))
    assert older.most_image_tokens == reranker.most_image_tokens
    np.testing.assert_array_equal(
        older.preprocess(IMAGES[0])[()], reranker.preprocess(IMAGES[0])[()]
    )


def test_nothing_gives_nothing(reranker, images):
    assert reranker.match(reranker.text_tokens([]), images).shape == (0, len(IMAGES))
    none = reranker.image_tokens(np.empty(0, np.object_))
    assert none.values.shape == (0, 0, 24)
    assert reranker.match(reranker.text_tokens(TEXTS), none).shape == (4, 0)
    assert reranker.text_tokens(["snow " * 99]).mask.sum() == 24
    marked = reranker.text_tokens(["snow [SEP] red"])
    assert marked.mask.sum() == 4


def test_a_search_is_reranked_within_its_depth(folder, indexed_library):
    query = Query((TextPart("two cats"),), k=6)
    answer = Engine(indexed_library).search(query, Reranking(f"vilt:{folder}", 3))
    assert (answer.reranker, answer.reranked) == (f"vilt:{folder}", 3)
    joined = [hit.match + hit.similarity for hit in answer.hits[:3]]
    assert joined == sorted(joined, reverse=True)


def test_the_identity_follows_weights_and_preprocessing(reranker, copy):
    assert load_vilt(str(copy)).identity == reranker.identity
    changed(copy / "preprocessor_config.json", image_mean=[0.0] * 3)
    assert load_vilt(str(copy)).identity != reranker.identity


def test_what_is_no_reranker_is_refused(folder, tiny_encoder):
    with pytest.raises(UsageError, match="There is no reranker 'vilt:'"):
        load_reranker("vilt:", tiny_encoder)
    with pytest.raises(UsageError, match="vilt:nowhere: there is no folder"):
        load_vilt("nowhere")


def damage(copy, kind):
    if kind == "weights":
        file = copy / "model.safetensors"
        file.write_bytes(file.read_bytes()[:1000])
    elif kind == "model type":
        changed(copy / "config.json", model_type="blip")
    elif kind == "small images":
        changed(copy / "preprocessor_config.json", size_divisor=4)
    elif kind == "no resizing":
        changed(copy / "preprocessor_config.json", do_resize=False)
    elif kind == "head":
        weights = load_file(copy / "model.safetensors")
        kept = {key: each for key, each in weights.items() if not key.startswith("rank_output")}
        save_file(kept, copy / "model.safetensors", metadata={"format": "pt"})
    else:
        (copy / "vocab.txt").unlink(missing_ok=True)
        (copy / "tokenizer.json").unlink()


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("weights", "cannot be loaded: "),
        ("model type", "'blip', not 'vilt'"),
        ("small images", "smaller than a patch: .*size_divisor 4, patch_size 8"),
        ("no resizing", "do_resize False"),
        ("head", r"lacks 2 weights .*rank_output.*dandelin/vilt-b32-finetuned-coco"),
        ("tokenizer", "has no tokenizer"),
    ],
)
def test_a_damaged_checkpoint_is_refused(kind, message, copy):
    damage(copy, kind)
    with pytest.raises(EncoderUnavailableError, match=message) as caught:
        load_vilt(str(copy))
    assert "\n" not in str(caught.value)


def test_pickled_weights_are_never_read(copy):
    class Attack:
        def __reduce__(self):
            return (shutil.rmtree, (str(copy),))

    (copy / "model.safetensors").unlink()
    (copy / "pytorch_model.bin").write_bytes(pickle.dumps(Attack()))
    with pytest.raises(EncoderUnavailableError, match="has no weights in safetensors format"):
        load_vilt(str(copy))
    assert copy.is_dir()


def test_the_hub_is_asked_for_seconds_and_its_cache_is_used(
    folder, reranker, monkeypatch, tmp_path
):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
    start = time.monotonic()
    with pytest.raises(
        EncoderUnavailableError, match=r"hub does not answer.*--rerank vilt:DIR.*--rerank none"
    ):
        load_vilt("someone/vilt")
    assert time.monotonic() - start < 5
    repository = tmp_path / "cache" / "models--someone--vilt"
    shutil.copytree(folder, repository / "snapshots" / ("0" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    cached = load_vilt("someone/vilt")
    assert (cached.name, cached.identity) == ("vilt:someone/vilt", reranker.identity)

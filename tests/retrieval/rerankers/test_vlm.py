"""A tiny BLIP-2 of random weights stands in for the real one."""

import json
import shutil
import socket
import time

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from PIL import Image

from retrieval.errors import EncoderUnavailableError, UsageError
from retrieval.rerankers.base import ExplainableReranker, ImageSimilarityReranker, Reranker
from retrieval.rerankers.registry import load_reranker
from retrieval.rerankers.vlm import load_vlm
from retrieval.search.engine import Engine
from retrieval.search.query import Query, Reranking, TextPart
from tests.tiny_checkpoints import make_blip2

pytestmark = pytest.mark.slow

TEXTS = ["two cats", "a dog on the snow, red", "", "snow"]
IMAGES = [
    Image.fromarray(pixels)
    for pixels in np.random.default_rng(0).integers(0, 256, (5, 50, 40, 3), dtype=np.uint8)
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    pytest.importorskip("transformers")
    directory = tmp_path_factory.mktemp("blip2")
    make_blip2(directory)
    return directory


@pytest.fixture(scope="module")
def reranker(folder):
    return load_vlm(str(folder))


@pytest.fixture(scope="module")
def images(reranker):
    return reranker.image_tokens(np.stack([reranker.preprocess(image) for image in IMAGES]))


def test_it_keeps_the_protocol(folder, reranker, tiny_encoder):
    assert isinstance(reranker, Reranker)
    assert not isinstance(reranker, ImageSimilarityReranker | ExplainableReranker)
    again = load_reranker(f"vlm:{folder}", tiny_encoder)
    assert (again.name, again.identity) == (f"vlm:{folder}", reranker.identity)
    assert (again.match_weight, again.depth) == (0.5, 20)


def test_scores_of_blip2_are_those_of_transformers_itself(folder, reranker, images):
    import transformers

    model = transformers.Blip2ForImageTextRetrieval.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    scores = reranker.match(reranker.text_tokens(TEXTS), images)
    assert scores.dtype == np.float32
    assert scores.std(axis=0).min() > 1e-3
    assert scores.std(axis=1).min() > 1e-3
    for row, text in enumerate(TEXTS):
        inputs = tokenizer(text, return_tensors="pt")
        for column, image in enumerate(IMAGES):
            pixels = torch.from_numpy(reranker.preprocess(image))[None]
            with torch.inference_mode():
                [[no_match, match]] = model(
                    pixel_values=pixels,
                    input_ids=inputs["input_ids"],
                    attention_mask=inputs["attention_mask"],
                    use_image_text_matching_head=True,
                ).logits_per_image
            assert scores[row, column] == pytest.approx((match - no_match).item(), abs=1e-5)


def test_nothing_gives_nothing(reranker, images):
    assert reranker.match(reranker.text_tokens([]), images).shape == (0, 5)
    none = reranker.image_tokens(np.empty((0, 3, 32, 32), np.float32))
    assert none.values.shape == (0, 17, 24)
    assert reranker.match(reranker.text_tokens(TEXTS), none).shape == (4, 0)
    assert reranker.text_tokens(["snow " * 99]).mask.sum() == 24


def test_a_search_is_reranked_within_its_depth_and_budget(folder, indexed_library):
    name = f"vlm:{folder}"
    query = Query((TextPart("two cats"),), k=6)
    whole = Engine(indexed_library).search(query, Reranking(name))
    assert (whole.reranker, whole.reranked) == (name, 6)
    joined = [0.5 * hit.match + hit.similarity for hit in whole.hits]
    assert joined == sorted(joined, reverse=True)
    some = Engine(indexed_library).search(query, Reranking(name, 2))
    assert some.reranked == 2
    indexed_library.tokens.folder.rename(indexed_library.path / "old tokens")
    hurried = Engine(indexed_library).search(query, Reranking(name, None, 0.0))
    assert hurried.reranked == 1  # an image a step, since none has tokens
    assert any("Only the first 1 of 6 candidates" in text for text in hurried.warnings)


def test_what_is_no_reranker_is_refused(folder, tiny_encoder, tmp_path):
    with pytest.raises(UsageError, match="There is no reranker 'vlm:'"):
        load_reranker("vlm:", tiny_encoder)
    with pytest.raises(UsageError, match="vlm:nowhere: there is no folder"):
        load_vlm("nowhere")
    copy = shutil.copytree(folder, tmp_path / "copy")
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"model_type": "clip"}))
    with pytest.raises(EncoderUnavailableError, match="'clip', not one of blip-2, qwen3_vl"):
        load_vlm(str(copy))


@pytest.mark.parametrize("kind", ["vlm", "late-interaction"])
def test_a_hub_that_does_not_answer_is_said_within_seconds(
    kind, tiny_encoder, monkeypatch, tmp_path
):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
    start = time.monotonic()
    with pytest.raises(
        EncoderUnavailableError, match=rf"hub does not answer.*--rerank {kind}:DIR.*--rerank none"
    ):
        load_reranker(f"{kind}:someone/model", tiny_encoder)
    assert time.monotonic() - start < 5


def test_the_cache_of_the_hub_is_used_without_the_network(folder, reranker, monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    repository = tmp_path / "cache" / "models--someone--blip2"
    shutil.copytree(folder, repository / "snapshots" / ("0" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    cached = load_vlm("someone/blip2")
    assert cached.name == "vlm:someone/blip2"
    assert cached.identity == reranker.identity

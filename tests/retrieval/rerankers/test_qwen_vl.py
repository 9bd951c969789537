"""Tiny models of random weights stand in for Qwen3-VL-Reranker and jina-reranker-m0."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from retrieval.encoders.base import Tokens
from retrieval.errors import EncoderUnavailableError
from retrieval.rerankers.pair_scoring import MOST_QUERY_TOKENS
from retrieval.rerankers.qwen_vl import JINA_BIAS
from retrieval.rerankers.token_cache import TokenCache, TokenCacheSettings
from retrieval.rerankers.vlm import load_vlm
from retrieval.search.rerank import stack_tokens
from tests.tiny_checkpoints import make_jina, make_qwen3

pytestmark = pytest.mark.slow

TEXTS = ["two cats on the snow", "red page", "", "snow"]
SIZES = [(60, 40), (40, 60), (3, 700), (1, 1), (500, 400), (60, 40)]
MAKERS = {"jina": make_jina, "qwen3": make_qwen3}


def pictures():
    random = np.random.default_rng(0)
    return [
        Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8))
        for width, height in SIZES
    ]


@pytest.fixture(scope="module", params=[*MAKERS])
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def folder(kind, tmp_path_factory):
    pytest.importorskip("transformers")
    directory = tmp_path_factory.mktemp(kind)
    MAKERS[kind](directory)
    return directory


@pytest.fixture(scope="module")
def reranker(folder):
    return load_vlm(str(folder))


@pytest.fixture(scope="module")
def images(reranker):
    return reranker.image_tokens(np.stack([reranker.preprocess(p) for p in pictures()]))


@pytest.fixture(scope="module")
def scores(reranker, images):
    return reranker.match(reranker.text_tokens(TEXTS), images)


def score_plainly(kind, folder, text, picture):
    """Score a pair as the models' cards do, by calls of transformers alone."""
    import transformers
    from safetensors.torch import load_file

    name = {"jina": "Qwen2VL", "qwen3": "Qwen3VL"}[kind]
    model = getattr(transformers, f"{name}ForConditionalGeneration").from_pretrained(folder).eval()
    images = transformers.Qwen2VLImageProcessorPil.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    seen = images(images=[picture], return_tensors="pt")
    count = int(seen["image_grid_thw"].prod()) // 4
    image = f"<|vision_start|>{'<|image_pad|>' * count}<|vision_end|>"
    if kind == "jina":
        prompt = f"**Document**:\n{image}\n**Query**:\n{text}"
    else:
        prompt = (
            "<|im_start|>system\nJudge whether the Document meets the requirements based on the "
            "Query and the Instruct provided. Note that the answer can only be "
            '"yes" or "no".<|im_end|>\n<|im_start|>user\n<Instruct>: Given a search query, '
            f"retrieve relevant candidates that answer the query.<Query>:{text}\n<Document>:"
            f"{image}<|im_end|>\n<|im_start|>assistant\n"
        )
    ids = tokenizer(prompt, return_tensors="pt", add_special_tokens=False)["input_ids"]
    if kind == "jina":
        ids = torch.cat([ids, torch.tensor([[100]])], dim=1)
    inputs = {**seen, "input_ids": ids, "mm_token_type_ids": (ids == 5).long()}
    with torch.inference_mode():
        made = model(**inputs, output_hidden_states=True)
    if kind == "qwen3":
        answers = tokenizer.convert_tokens_to_ids(["yes", "no"])
        return made.logits[0, -1, answers].softmax(0)[0].item()
    weights = load_file(folder / "model.safetensors")
    hidden = made.hidden_states[-1][0, -1]
    inner = torch.relu(weights["score.0.weight"] @ hidden + weights["score.0.bias"])
    score = weights["score.2.weight"] @ inner + weights["score.2.bias"]
    return torch.sigmoid(score - JINA_BIAS).item()


def test_scores_are_those_of_transformers_itself(kind, folder, reranker, scores):
    assert scores.dtype == np.float32
    assert scores.std(axis=0).min() > 1e-4
    assert scores.std(axis=1).min() > 1e-3
    for row, column in [(0, 0), (1, 1), (3, 4), (0, 3)]:
        expected = score_plainly(kind, folder, TEXTS[row], pictures()[column])
        assert 1 / (1 + np.exp(-scores[row, column])) == pytest.approx(expected, abs=1e-6)
    assert reranker.match_weight == 1


def test_a_score_depends_on_its_own_pair_alone(reranker, images, scores):
    for row, text in enumerate(TEXTS):
        for column in range(len(SIZES)):
            alone = Tokens(images.values[[column]], images.mask[[column]])
            score = reranker.match(reranker.text_tokens([text]), alone)[0, 0]
            np.testing.assert_allclose(score, scores[row, column], atol=1e-5)
    padded = Tokens(
        np.pad(images.values, ((0, 0), (0, 9), (0, 0)), constant_values=7),
        np.pad(images.mask, ((0, 0), (0, 9))),
    )
    texts = reranker.text_tokens(TEXTS)
    np.testing.assert_allclose(reranker.match(texts, padded), scores, atol=1e-5)


def test_images_are_made_smaller_and_strips_padded(reranker, images):
    lengths = images.mask.sum(1)
    assert lengths.max() <= reranker.most_image_tokens
    assert lengths[4] - 1 <= 64  # 500 x 400 pixels in patches of 8
    assert lengths[3] == 1 + 4  # the least
    assert lengths[0] == lengths[1] == lengths[5]
    assert images.values[0, 0, 0] != images.values[1, 0, 0]  # rows


@pytest.mark.parametrize(("precision", "tolerance"), [("float16", 0.01), ("int8", 0.2)])
def test_kept_tokens_score_as_fresh_ones(precision, tolerance, reranker, images, scores, tmp_path):
    cache = TokenCache(tmp_path)
    cache.configure(TokenCacheSettings(precision=precision))
    for place, (values, mask) in enumerate(zip(images.values, images.mask, strict=True)):
        cache.put(reranker.identity, f"{place:032x}", values[mask])
    kept = [cache.get(reranker.identity, f"{place:032x}") for place in range(len(SIZES))]
    for values, original in zip(kept, images.values, strict=True):
        np.testing.assert_allclose(values[0], original[0], atol=1e-4)
    again = reranker.match(reranker.text_tokens(TEXTS), stack_tokens(kept))
    np.testing.assert_allclose(again, scores, atol=tolerance)


def test_nothing_gives_nothing(reranker, images):
    nothing = reranker.text_tokens([])
    assert nothing.values.shape == (0, 0, 1)
    assert reranker.match(nothing, images).shape == (0, len(SIZES))
    none = reranker.image_tokens(np.empty(0, np.object_))
    assert none.values.shape == (0, 0, images.values.shape[2])
    assert reranker.match(reranker.text_tokens(TEXTS), none).shape == (len(TEXTS), 0)


def test_texts_are_words_alone_and_not_endless(reranker):
    around = int(reranker.text_tokens(["snow"]).mask.sum())
    tokens = reranker.text_tokens(["snow<|image_pad|>"])
    assert tokens.mask.sum() == around + 1  # a space
    for text in ("<|image_pad|><|image_pad|>", "<|image<|image_pad|>_pad|>"):
        assert (reranker.text_tokens([text]).values == 5).sum() == 1
    longest = reranker.text_tokens(["snow " * 3000])
    assert MOST_QUERY_TOKENS < longest.mask.sum() <= around + MOST_QUERY_TOKENS


def test_a_checkpoint_without_what_scores_is_refused(kind, folder, tmp_path):
    from safetensors.numpy import load_file, save_file

    copy = shutil.copytree(folder, tmp_path / "copy")
    if kind == "jina":
        weights = load_file(copy / "model.safetensors")
        del weights["score.2.bias"]
        save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
        message = "no score head"
    else:
        written = (copy / "tokenizer.json").read_text()
        (copy / "tokenizer.json").write_text(written.replace('"yes"', '"maybe"'))
        message = 'no tokens "yes" and "no"'
    with pytest.raises(EncoderUnavailableError, match=message):
        load_vlm(str(copy))


def test_code_of_a_checkpoint_is_not_run(kind, folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    mark = tmp_path / "ran"
    (copy / "modeling.py").write_text(f"open({str(mark)!r}, 'w').close()\nclass Evil: pass\n")
    for file in ("config.json", "tokenizer_config.json", "preprocessor_config.json"):
        content = json.loads((copy / file).read_text())
        classes = ("AutoModel", "AutoConfig", "AutoImageProcessor")
        auto = {**dict.fromkeys(classes, "modeling.Evil"), "AutoTokenizer": ["modeling.Evil"] * 2}
        (copy / file).write_text(json.dumps(content | {"auto_map": auto}))
    assert load_vlm(str(copy)).depth == 10
    assert not mark.exists()

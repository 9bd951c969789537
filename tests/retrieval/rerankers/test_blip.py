"""A tiny BLIP of random weights stands in for the real one: right sums, no knowledge."""

import json
import logging
import pickle
import shutil
import socket
import sys
import time

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from PIL import Image

from retrieval.encoders.base import Tokens
from retrieval.errors import EncoderUnavailableError, UsageError
from retrieval.rerankers.base import ExplainableReranker, ImageSimilarityReranker, Reranker
from retrieval.rerankers.blip import BlipItmReranker
from retrieval.rerankers.registry import load_reranker
from tests.tiny_blip import image_tower, processors, text_tower

pytestmark = pytest.mark.slow

WORDS = ["a", "the", "of", "on", "in", "dog", "dogs", "two", "cats", "mat", "snow", "red", ",", "."]
TEXTS = ["a dog", "two cats on the mat, asleep, and a red ball in the snow", "snow", ""]
IMAGES = [
    Image.fromarray(pixels)
    for pixels in np.random.default_rng(0).integers(0, 256, (5, 50, 40, 3), dtype=np.uint8)
]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """A folder as `save_pretrained` writes it."""
    transformers = pytest.importorskip("transformers")
    directory = tmp_path_factory.mktemp("tiny-blip")
    config = transformers.BlipConfig(
        text_config=text_tower(32, 24, bos_token_id=30, sep_token_id=3, initializer_range=0.2),
        vision_config=image_tower(24),
        image_text_hidden_size=16,
        initializer_range=0.2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.BlipForImageTextRetrieval(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(directory, safe_serialization=True)
    for part in processors(directory, WORDS):
        part.save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def reranker(checkpoint):
    return BlipItmReranker(str(checkpoint))


@pytest.fixture(scope="session")
def images(reranker):
    return reranker.image_tokens(np.stack([reranker.preprocess(image) for image in IMAGES]))


@pytest.fixture
def no_hub(monkeypatch, tmp_path):
    """An empty cache and a hub that refuses connections."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")


@pytest.fixture
def copy(checkpoint, tmp_path):
    return shutil.copytree(checkpoint, tmp_path / "copy")


def pick(tokens, rows):
    return Tokens(tokens.values[rows], tokens.mask[rows])


def test_it_keeps_the_protocol(reranker, checkpoint):
    assert isinstance(reranker, Reranker)
    assert not isinstance(reranker, ImageSimilarityReranker | ExplainableReranker)
    assert reranker.name == f"blip-itm:{checkpoint}"


def test_scores_are_those_of_transformers_itself(reranker, checkpoint, images):
    import transformers

    model = transformers.BlipForImageTextRetrieval.from_pretrained(checkpoint).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
    expected = np.empty((len(TEXTS), len(IMAGES)), np.float32)
    for row, text in enumerate(TEXTS):
        ids = tokenizer(text, return_tensors="pt")
        for column, image in enumerate(IMAGES):
            pixels = torch.from_numpy(reranker.preprocess(image))[None]
            with torch.inference_mode():
                no_match, match = model(
                    input_ids=ids["input_ids"],
                    attention_mask=ids["attention_mask"],
                    pixel_values=pixels,
                    use_itm_head=True,
                ).itm_score[0]
            expected[row, column] = match - no_match
    scores = reranker.match(reranker.text_tokens(TEXTS), images)
    assert scores.dtype == np.float32
    assert expected.std(axis=0).min() > 0.01
    assert expected.std(axis=1).min() > 0.01
    np.testing.assert_allclose(scores, expected, atol=1e-5, rtol=1e-5)


def test_images_are_resized_and_normalized_as_blip_was_trained(reranker):
    pixels = reranker.preprocess(IMAGES[0])
    resized = np.asarray(IMAGES[0].resize((32, 32), Image.Resampling.BICUBIC), np.float32) / 255
    mean = [0.48145466, 0.4578275, 0.40821073]
    deviation = [0.26862954, 0.26130258, 0.27577711]
    assert pixels.dtype == np.float32
    np.testing.assert_allclose(pixels, ((resized - mean) / deviation).transpose(2, 0, 1), atol=1e-5)


def test_tokens_of_both_sides(reranker, images):
    assert images.values.shape == (5, 17, 24)
    assert images.values.dtype == np.float32
    assert images.mask.all()
    texts = reranker.text_tokens([*TEXTS, "dog " * 100])
    assert texts.values.dtype == np.float32
    assert texts.values.shape == (5, 24, 1)
    assert texts.mask.sum(axis=1).tolist() == [4, 17, 3, 2, 24]
    assert texts.values[0, :5, 0].tolist() == [2, 5, 10, 3, 0]
    assert texts.values[4, -1, 0] == 3
    assert (texts.values[~texts.mask] == 0).all()


def test_a_score_depends_on_its_own_pair_alone(reranker, images):
    texts = reranker.text_tokens(TEXTS)
    scores = reranker.match(texts, images)
    for row, text in enumerate(TEXTS):
        for column in range(len(IMAGES)):
            alone = reranker.match(reranker.text_tokens([text]), pick(images, [column]))
            np.testing.assert_allclose(scores[row, column], alone[0, 0], atol=1e-5)
    rows, columns = [2, 0, 3, 1], [4, 1, 3, 0, 2]
    permuted = reranker.match(pick(texts, rows), pick(images, columns))
    np.testing.assert_allclose(permuted, scores[np.ix_(rows, columns)], atol=1e-5)


@pytest.mark.parametrize("filler", [0, 7])
def test_padding_changes_no_score(filler, reranker, images):
    texts = reranker.text_tokens(TEXTS)
    padded = Tokens(
        np.pad(texts.values, ((0, 0), (0, 4), (0, 0))), np.pad(texts.mask, ((0, 0), (0, 4)))
    )
    padded.values[~padded.mask] = filler
    np.testing.assert_allclose(
        reranker.match(padded, images), reranker.match(texts, images), atol=1e-5
    )


def test_masked_image_tokens_are_refused(reranker, images):
    mask = images.mask.copy()
    mask[1, -1] = False
    with pytest.raises(ValueError, match="must be all True"):
        reranker.match(reranker.text_tokens(TEXTS), Tokens(images.values, mask))


def test_image_tokens_may_be_kept_as_float16(reranker, images):
    texts = reranker.text_tokens(TEXTS)
    kept = Tokens(images.values.astype(np.float16), images.mask)
    scores = reranker.match(texts, kept)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, reranker.match(texts, images), atol=0.05)


def test_nothing_gives_nothing(reranker, images):
    nothing = reranker.text_tokens([])
    assert nothing.values.shape == (0, 0, 1)
    assert reranker.match(nothing, images).shape == (0, 5)
    no_images = reranker.image_tokens(np.empty((0, 3, 32, 32), np.float32))
    assert no_images.values.shape == (0, 17, 24)
    assert reranker.match(reranker.text_tokens(TEXTS), no_images).shape == (4, 0)


@pytest.mark.parametrize("change", ["weights", "preprocessing", "vocabulary"])
def test_the_identity_is_stable_and_follows_what_tokens_depend_on(change, reranker, copy):
    assert BlipItmReranker(str(copy)).identity == reranker.identity
    if change == "weights":
        from safetensors.numpy import load_file, save_file

        weights = load_file(copy / "model.safetensors")
        weights["itm_head.bias"] = weights["itm_head.bias"] + 1e-3
        save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    elif change == "preprocessing":
        config = json.loads((copy / "preprocessor_config.json").read_text())
        (copy / "preprocessor_config.json").write_text(json.dumps(config | {"image_mean": [0] * 3}))
    else:
        for file in ("vocab.txt", "tokenizer.json"):
            content = (copy / file).read_text()
            (copy / file).write_text(content.replace("snow", "rain"))
    assert BlipItmReranker(str(copy)).identity != reranker.identity


def test_loading_is_quiet_and_leaves_no_trace(checkpoint, capfd, caplog):
    import transformers
    from huggingface_hub.utils import are_progress_bars_disabled

    before = transformers.utils.logging.get_verbosity(), are_progress_bars_disabled()
    with caplog.at_level(logging.INFO):
        BlipItmReranker(str(checkpoint))
    assert capfd.readouterr() == ("", "")
    assert not caplog.records
    assert (transformers.utils.logging.get_verbosity(), are_progress_bars_disabled()) == before
    assert transformers.utils.logging.is_progress_bar_enabled()


def test_the_registry_knows_it(checkpoint, tiny_encoder):
    reranker = load_reranker(f"blip-itm:{checkpoint}", tiny_encoder)
    assert isinstance(reranker, BlipItmReranker)


@pytest.mark.parametrize("name", ["/nowhere/blip", "./nowhere", "nowhere", "a/b/c", "../blip"])
def test_a_folder_that_is_not_there(name):
    with pytest.raises(UsageError, match="there is no folder"):
        BlipItmReranker(name)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["config.json"], r"has no configuration \(config.json\)"),
        (["model.safetensors"], r"has no weights .*model\.safetensors"),
        (["preprocessor_config.json"], "has no image preprocessing"),
        (["tokenizer.json", "vocab.txt"], "has no tokenizer"),
    ],
)
def test_a_folder_that_is_not_complete(files, message, copy):
    for file in files:
        (copy / file).unlink(missing_ok=True)
    with pytest.raises(EncoderUnavailableError, match=message):
        BlipItmReranker(str(copy))


def test_pickled_weights_are_never_read(copy):
    class Attack:
        def __reduce__(self):
            return (shutil.rmtree, (str(copy),))

    (copy / "model.safetensors").unlink()
    (copy / "pytorch_model.bin").write_bytes(pickle.dumps(Attack()))
    with pytest.raises(EncoderUnavailableError, match="has no weights in safetensors format"):
        BlipItmReranker(str(copy))
    assert copy.is_dir()


def damage(copy, kind):
    if kind == "weights":
        file = copy / "model.safetensors"
        file.write_bytes(file.read_bytes()[:1000])
    elif kind == "config":
        (copy / "config.json").write_text('{"model_type": "blip", ')
    elif kind == "model type":
        (copy / "config.json").write_text('{"model_type": "clip"}')
    elif kind == "shape":
        config = json.loads((copy / "config.json").read_text())
        config["text_config"]["hidden_size"] = 48
        (copy / "config.json").write_text(json.dumps(config))
    else:
        (copy / "tokenizer.json").write_text("[]")


@pytest.mark.parametrize("kind", ["weights", "config", "model type", "shape", "tokenizer"])
def test_a_damaged_checkpoint_is_refused(kind, copy):
    damage(copy, kind)
    with pytest.raises(
        EncoderUnavailableError, match=r"cannot be loaded: .*--rerank none"
    ) as caught:
        BlipItmReranker(str(copy))
    assert "\n" not in str(caught.value)


def test_a_checkpoint_without_a_matching_head_is_refused(copy):
    from safetensors.numpy import load_file, save_file

    weights = load_file(copy / "model.safetensors")
    kept = {key: value for key, value in weights.items() if not key.startswith("itm_head")}
    save_file(kept, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EncoderUnavailableError, match=r"lacks 2 weights .* such as itm_head"):
        BlipItmReranker(str(copy))


@pytest.mark.parametrize("name", [None, "someone/blip"])
def test_a_hub_that_does_not_answer_is_said_within_seconds(name, no_hub):
    start = time.monotonic()
    with pytest.raises(
        EncoderUnavailableError, match=r"hub does not answer.*--rerank blip-itm:DIR.*--rerank none"
    ):
        BlipItmReranker(name)
    assert time.monotonic() - start < 5


def test_the_cache_of_the_hub_is_used_without_the_network(no_hub, checkpoint, reranker, tmp_path):
    repository = tmp_path / "cache" / "models--someone--blip"
    commit = "0" * 40
    shutil.copytree(checkpoint, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    cached = BlipItmReranker("someone/blip")
    assert cached.name == "blip-itm:someone/blip"
    assert cached.identity == reranker.identity
    (repository / "snapshots" / commit / "model.safetensors").unlink()
    with pytest.raises(EncoderUnavailableError, match="hub does not answer"):
        BlipItmReranker("someone/blip")


def test_without_transformers_the_remedy_is_named(checkpoint, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(EncoderUnavailableError, match="pip install --force-reinstall transformers"):
        BlipItmReranker(str(checkpoint))

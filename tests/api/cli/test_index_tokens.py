"""`mmsearch index --with-tokens` and what `mmsearch status` says of the token cache."""

import json
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from api import cli
from retrieval.errors import UsageError
from retrieval.library import open_library
from retrieval.rerankers import cross_attention as reranker
from retrieval.rerankers.cross_attention_model import CrossAttentionModel
from retrieval.rerankers.layers import CrossAttentionConfig
from retrieval.rerankers.token_cache import TokenCacheSettings

pytestmark = pytest.mark.slow


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run a command line in this process: gives the exit code, the output, the error output."""
    monkeypatch.setenv("MMSEARCH_LIBRARY", str(tmp_path / "library"))
    monkeypatch.setenv("COLUMNS", "300")

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mmsearch", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def index(run, picture_folder, tiny_checkpoint):
    return lambda *options: run(
        "index", picture_folder, "--encoder", f"local-dir:{tiny_checkpoint}", *options
    )


def save_random_model(file: Path, config: CrossAttentionConfig, space) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = CrossAttentionModel(config)
    reranker.save_model(file, model, reranker.CrossAttentionCard(space.encoder, space.id, 0.1, 10))


@pytest.fixture
def has_reranker(monkeypatch, tmp_path, tiny_encoder):
    """Ship a cross-attention model for the small encoder."""
    pixels = tiny_encoder.preprocess(Image.new("RGB", (32, 32)))[np.newaxis]
    _, positions, image_width = tiny_encoder.image_tokens(pixels).values.shape
    text_width = tiny_encoder.text_tokens(["a"]).values.shape[2]
    file = tmp_path / "tiny.safetensors"
    config = CrossAttentionConfig(image_width, text_width, positions, width=16, heads=2)
    save_random_model(file, config, tiny_encoder.space)
    monkeypatch.setattr(reranker, "SHIPPED", file)
    monkeypatch.setattr(reranker, "SHIPPED_FOR", tiny_encoder.space.encoder)


def test_the_size_is_told_before_the_tokens_are_made(index, has_reranker):
    code, out, err = index("--with-tokens")
    assert code == 0, err
    assert "Precomputing reranker tokens of 6 images: " in err
    assert "kB per image" in err
    assert "besides 0.0 MB in the token cache (maximum 2,000.0 MB, float16)" in err
    assert "6 added" in out
    assert "Reranker tokens of 6 images precomputed." in out
    _, out, err = index("--with-tokens")
    assert "Precomputing reranker tokens of 0 images" in err
    assert "0 images precomputed" in out


def test_json_has_the_sizes_and_the_counts(index, run, has_reranker):
    code, out, err = index("--with-tokens", "--token-precision", "int8", "--json")
    assert code == 0, err
    assert "Precomputing reranker tokens of 6 images" in err
    tokens = json.loads(out)["tokens"]
    assert tokens.pop("seconds") > 0
    assert tokens["bytes"] == 6 * tokens["bytes_per_image"]
    assert tokens == {
        "images": 6,
        "bytes_per_image": tokens["bytes_per_image"],
        "bytes": tokens["bytes"],
        "held_bytes": 0,
        "limit_bytes": 2_000_000_000,
        "precision": "int8",
        "made": 6,
        "present": 0,
        "failed": 0,
        "interrupted": False,
    }
    cache = json.loads(run("status", "--json")[1])["token_cache"]
    assert cache == {
        "images": 6,
        "bytes": tokens["bytes"],
        "limit_bytes": 2_000_000_000,
        "precision": "int8",
    }


def test_without_the_option_nothing_is_prepared(index, run, has_reranker):
    _, out, _ = index("--json")
    assert "tokens" not in json.loads(out)
    assert "Tokens    0 images, 0.0 MB of at most 2,000.0 MB, float16" in run("status")[1]


def test_settings_stay_in_the_library(index, run, tmp_path):
    code, _, err = index("--token-cache", "1.5MB", "--token-precision", "int8")
    assert code == 0, err
    assert "of at most 1.5 MB, int8" in run("status")[1]
    index("--token-cache", "3MB")
    index()
    chosen = TokenCacheSettings(limit_bytes=3_000_000, precision="int8")
    assert open_library(tmp_path / "library").tokens.settings == chosen


def test_a_smaller_cache_drops_tokens_at_once(index, run, has_reranker):
    index("--with-tokens")
    assert "Tokens    6 images" in run("status")[1]
    index("--token-cache", "0")
    assert "Tokens    0 images" in run("status")[1]


def test_files_that_are_gone_are_told(index, has_reranker, picture_folder, monkeypatch):
    from indexer import pipeline

    commit = pipeline.commit

    def lose_one(*args):
        to_read_again = commit(*args)
        next(picture_folder.rglob("*.png")).unlink(missing_ok=True)
        return to_read_again

    monkeypatch.setattr(pipeline, "commit", lose_one)
    _, out, _ = index("--with-tokens")
    assert "5 images precomputed, 1 failed" in out


def test_a_cache_that_is_too_small_is_an_error_after_indexing_where_it_was_not_known(
    index, run, has_reranker
):
    code, out, err = index("--with-tokens", "--token-cache", "2kB")
    assert code == 2
    assert "6 added" in out
    assert "Raise it with `--token-cache 1MB`" in err
    assert "Tokens    0 images" in run("status")[1]
    code, out, err = index("--with-tokens", "--token-cache", "1MB")
    assert code == 0, err
    assert "6 images precomputed" in out


def test_a_cache_that_is_too_small_is_an_error_before_indexing_where_it_is_known(
    index, run, has_reranker, picture_folder, tmp_path
):
    index()
    Image.new("RGB", (9, 9)).save(picture_folder / "new.png")
    code, out, err = index("--with-tokens", "--token-cache", "2kB")
    assert code == 2
    assert out == ""
    assert "No tokens were computed" in err
    assert json.loads(run("status", "--json")[1])["images"] == 6
    assert open_library(tmp_path / "library").tokens.settings == TokenCacheSettings()


def test_a_space_without_a_reranker_is_an_error(index):
    code, out, err = index("--with-tokens")
    assert code == 2
    assert out == ""
    assert "There is no reranker for local-dir:" in err
    assert "Leave out `--with-tokens`" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--token-cache", "8GiB"], "'8GiB' is not a size"),
        (["--token-cache", "-1"], "'-1' is not a size"),
        (["--token-precision", "float64"], "float16 or int8, not as 'float64'"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_made(index, tmp_path, options, message):
    code, _, err = index(*options)
    assert code == 2
    assert message in err
    assert not (tmp_path / "library").exists()


def test_a_token_folder_that_cannot_be_written_is_an_error(index, tmp_path):
    index()
    (tmp_path / "library" / "tokens").write_text("a file where the folder should be")
    code, _, err = index("--token-cache", "1GB")
    assert code == 1
    assert "tokens cannot be written" in err


def test_ctrl_c_finishes_the_batch_and_the_next_run_goes_on(index, has_reranker, monkeypatch):
    index()
    compute, calls = reranker.CrossAttentionReranker.image_tokens, []

    def press_ctrl_c(self, pixels):
        calls.append(len(pixels))
        if len(calls) == 4:  # after two plans, in the second batch
            signal.raise_signal(signal.SIGINT)
        return compute(self, pixels)

    monkeypatch.setattr(reranker.CrossAttentionReranker, "image_tokens", press_ctrl_c)
    code, out, err = index("--with-tokens", "--batch-size", 2, "--json")
    assert code == 130
    assert "run the same command again to continue" in err
    assert json.loads(out)["tokens"]["made"] == 4
    assert json.loads(out)["tokens"]["interrupted"] is True
    monkeypatch.setattr(reranker.CrossAttentionReranker, "image_tokens", compute)
    _, out, _ = index("--with-tokens", "--json")
    assert (json.loads(out)["tokens"]["present"], json.loads(out)["tokens"]["made"]) == (4, 2)


def test_after_a_stopped_indexing_no_tokens_are_made(index, has_reranker, monkeypatch):
    from retrieval.encoders.open_clip import OpenClipEncoder

    encode = OpenClipEncoder.encode

    def press_ctrl_c(self, modality, inputs):
        signal.raise_signal(signal.SIGINT)
        return encode(self, modality, inputs)

    monkeypatch.setattr(OpenClipEncoder, "encode", press_ctrl_c)
    code, out, _ = index("--with-tokens", "--batch-size", 2, "--json")
    assert code == 130
    assert json.loads(out)["interrupted"] is True
    assert json.loads(out)["tokens"] is None


def test_starter_is_prepared_and_then_searched(run, picture_folder, starter, monkeypatch, tmp_path):
    file = tmp_path / "starter.safetensors"
    config = CrossAttentionConfig(734, 384, image_positions=81, width=32, heads=4)
    save_random_model(file, config, starter.space)
    monkeypatch.setattr(reranker, "SHIPPED", file)
    code, out, err = run("index", picture_folder, "--encoder", "starter", "--with-tokens")
    assert code == 0, err
    assert "6 images precomputed" in out

    def refuse(*_):
        raise UsageError("computed again")

    monkeypatch.setattr(reranker.CrossAttentionReranker, "image_tokens", refuse)
    code, out, err = run("search", "a dog", "--json")
    assert code == 0, err
    assert all(hit["match"] is not None for hit in json.loads(out)["hits"])

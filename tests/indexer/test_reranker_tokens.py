import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from indexer.pipeline import index_sources, remove_paths
from indexer.progress import Progress
from indexer.reranker_tokens import plan_tokens, prepare_tokens
from retrieval.encoders.base import Tokens
from retrieval.errors import LibraryError, UsageError
from retrieval.media.images import read_image
from retrieval.rerankers.cross_attention import (
    CrossAttentionCard,
    CrossAttentionReranker,
    save_model,
)
from retrieval.rerankers.cross_attention_model import CrossAttentionModel
from retrieval.rerankers.layers import CrossAttentionConfig
from retrieval.rerankers.token_cache import TokenCacheSettings
from retrieval.search.rerank import rerank, text_scorer

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def fusion_file(tmp_path_factory, tiny_encoder):
    pixels = tiny_encoder.preprocess(Image.new("RGB", (32, 32)))[np.newaxis]
    _, positions, image_width = tiny_encoder.image_tokens(pixels).values.shape
    text_width = tiny_encoder.text_tokens(["a"]).values.shape[2]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = CrossAttentionConfig(image_width, text_width, positions, width=16, heads=2)
        model = CrossAttentionModel(config)
    file = tmp_path_factory.mktemp("fusion") / "tiny.safetensors"
    save_model(file, model, CrossAttentionCard("tiny", tiny_encoder.space.id, 0.1, 10))
    return file


@pytest.fixture
def reranker(fusion_file, tiny_encoder):
    """Loaded anew for each test, so that a test may change it."""
    return CrossAttentionReranker(fusion_file, tiny_encoder)


@pytest.fixture
def library(indexed_library):
    return indexed_library


@pytest.fixture
def prepare(library, tiny_encoder, reranker):
    return lambda **options: prepare_tokens(library, tiny_encoder, reranker, **options)


def contents(library) -> dict[str, str]:
    """Content hashes of a library's images by path."""
    space = library.space()
    with library.catalog.snapshot() as snapshot:
        return {item.path: item.content_hash for item in snapshot.pictures(space.id)}


def kept(library, reranker) -> set[str]:
    return {
        path
        for path, content_hash in contents(library).items()
        if (reranker.identity, content_hash) in library.tokens
    }


def test_every_image_gets_the_tokens_that_a_search_needs(library, reranker, prepare):
    summary = prepare()
    assert (summary.made, summary.present, summary.failed, summary.interrupted) == (6, 0, 0, False)
    for path, content_hash in contents(library).items():
        pixels = reranker.preprocess(read_image(path))[np.newaxis]
        [expected] = reranker.image_tokens(pixels).values
        found = library.tokens.get(reranker.identity, content_hash)
        np.testing.assert_allclose(found, expected, atol=2e-3)


def test_what_is_there_is_not_computed_again(library, tiny_encoder, reranker, prepare):
    prepare()
    before = {file: file.stat().st_mtime_ns for file in library.tokens.folder.rglob("*.tokens")}
    summary = prepare()
    assert (summary.made, summary.present) == (0, 6)
    assert before == {file: file.stat().st_mtime_ns for file in before}
    assert plan_tokens(library, tiny_encoder, reranker).missing == {}


def test_a_search_computes_no_tokens_any_more(library, reranker, prepare, monkeypatch):
    prepare()
    space = library.space()
    with library.catalog.snapshot() as snapshot:
        items = [found[0] for found in snapshot.items_at(space.id, "image", range(6)).values()]
    monkeypatch.setattr(reranker, "image_tokens", None)
    scorer = text_scorer(reranker, reranker.text_tokens(["a dog"]), [1.0])
    outcome = rerank(items, scorer, reranker, library.tokens)
    assert np.isfinite(outcome.match).tolist() == [True] * 6
    assert outcome.warnings == ()


def test_the_same_content_is_computed_once(library, tiny_encoder, picture_folder, prepare):
    original = next(picture_folder.rglob("*.png"))
    shutil.copy(original, picture_folder / "copy.png")
    index_sources(library, tiny_encoder)
    summary = prepare()
    assert (summary.made, summary.present) == (6, 0)


def test_a_copy_stands_in_for_a_file_that_is_gone(
    library, tiny_encoder, picture_folder, reranker, prepare
):
    original = next(picture_folder.rglob("*.png"))
    shutil.copy(original, picture_folder / "copy.png")
    index_sources(library, tiny_encoder)
    original.unlink()
    assert prepare().failed == 0
    assert len(kept(library, reranker)) == 7


def test_files_that_are_gone_changed_or_unreadable_are_counted(
    library, picture_folder, reranker, prepare
):
    gone, changed, broken, *fine = sorted(map(str, picture_folder.rglob("*.png")))
    Path(gone).unlink()
    Image.new("RGB", (9, 9)).save(changed)
    Path(broken).write_bytes(b"no picture")
    summary = prepare(batch_size=1)
    assert (summary.made, summary.failed, summary.interrupted) == (3, 3, False)
    assert kept(library, reranker) == set(fine)


def test_a_picture_that_cannot_be_decoded_is_counted(prepare, monkeypatch):
    monkeypatch.setattr("retrieval.media.images.default_max_pixels", lambda: 100)
    assert (summary := prepare()).failed == 6
    assert summary.made == 0


def test_removed_images_are_left_out(library, picture_folder, prepare):
    remove_paths(library, [picture_folder / "folder 0"])
    assert prepare().made == 3


def test_a_run_can_be_stopped_and_the_next_one_completes_it(library, reranker, prepare):
    summary = prepare(batch_size=2, should_stop=lambda: True)
    assert (summary.made, summary.interrupted) == (2, True)
    assert len(kept(library, reranker)) == 2
    summary = prepare(batch_size=2)
    assert (summary.made, summary.present, summary.interrupted) == (4, 2, False)


def test_stopping_after_the_last_batch_leaves_nothing_to_do(prepare):
    assert prepare(should_stop=lambda: True).interrupted is False


def test_an_exception_in_a_batch_loses_no_other_batch(reranker, prepare, monkeypatch):
    compute = reranker.image_tokens
    calls = []

    def fail_at_the_fourth(pixels):
        calls.append(len(pixels))  # the first is that of the plan
        if len(calls) == 4:
            raise RuntimeError("out of memory")
        return compute(pixels)

    monkeypatch.setattr(reranker, "image_tokens", fail_at_the_fourth)
    with pytest.raises(RuntimeError, match="out of memory"):
        prepare(batch_size=2)
    monkeypatch.undo()
    summary = prepare(batch_size=2)
    assert (summary.present, summary.made) == (4, 2)


def test_tokens_that_are_not_finite_cost_their_image_only(reranker, prepare, monkeypatch):
    compute = reranker.image_tokens

    def break_one(pixels):
        tokens = compute(pixels)
        values = tokens.values.copy()
        values[len(values) - 1] = np.nan
        return Tokens(values, tokens.mask)

    monkeypatch.setattr(reranker, "image_tokens", break_one)
    summary = prepare()
    assert (summary.made, summary.failed) == (5, 1)


def test_progress_counts_up_to_the_total(prepare):
    events: list[Progress] = []
    prepare(batch_size=4, on_progress=events.append)
    assert [(event.done, event.total) for event in events] == [(0, 6), (4, 6), (6, 6)]


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_the_plan_says_what_the_run_will_take(library, prepare, precision):
    library.tokens.configure(TokenCacheSettings(precision=precision))
    plans = []
    prepare(on_plan=plans.append, batch_size=2, should_stop=lambda: True)
    assert len(plans[0].missing) == 6
    assert plans[0].held_bytes == 0
    held = library.tokens.usage().bytes
    assert held == 2 * plans[0].bytes_per_image
    prepare(on_plan=plans.append)
    assert (len(plans[1].missing), plans[1].present, plans[1].held_bytes) == (4, 2, held)
    assert library.tokens.usage().bytes == plans[0].new_bytes == plans[1].new_bytes + held


def test_tokens_kept_in_another_precision_are_there(library, prepare):
    prepare()
    library.tokens.configure(TokenCacheSettings(precision="int8"))
    assert prepare().present == 6


def test_a_limit_that_is_too_small_is_refused_before_anything_is_computed(library, prepare):
    plans = []
    prepare(on_plan=plans.append, batch_size=2, should_stop=lambda: True)
    enough = plans[0].new_bytes
    library.tokens.configure(TokenCacheSettings(limit_bytes=enough - 1))
    with pytest.raises(UsageError, match="--token-cache 1MB`, or try `--token-precision int8`"):
        prepare()
    assert library.tokens.usage().images == 2
    library.tokens.configure(TokenCacheSettings(limit_bytes=enough))
    assert prepare().made == 4
    library.tokens.configure(TokenCacheSettings(limit_bytes=enough))
    assert prepare().present == 6


def test_a_cache_that_cannot_be_written_is_an_error(library, prepare):
    library.tokens.folder.write_text("a file where the folder should be")
    with pytest.raises(LibraryError, match="cannot be cached in"):
        prepare()


def test_an_empty_library_needs_no_tokens(library, picture_folder, prepare):
    remove_paths(library, [picture_folder])
    assert (summary := prepare()).made == 0
    assert summary.interrupted is False


def test_no_right_to_write_to_the_library_is_needed(library, prepare):
    with library.writer():
        assert prepare().made == 6


def test_names_that_are_not_utf8_are_read(library, tiny_encoder, picture_folder, prepare):
    try:
        Image.new("RGB", (9, 9)).save(picture_folder / os.fsdecode(b"caf\xe9.png"))
    except OSError:
        pytest.skip("this file system wants valid UTF-8")
    index_sources(library, tiny_encoder)
    assert prepare().made == 7


def test_the_limit_of_indexing_holds_for_tokens(
    library, picture_folder, tiny_encoder, prepare, monkeypatch
):
    index_sources(library, tiny_encoder, [picture_folder], max_pixels=10_000_000)
    monkeypatch.setattr("retrieval.media.images.default_max_pixels", lambda: 100)
    summary = prepare()
    assert (summary.made, summary.failed) == (6, 0)

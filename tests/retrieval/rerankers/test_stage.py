import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retrieval.catalog import Modality
from retrieval.rerankers.base import join
from retrieval.rerankers.cross_attention import CrossAttentionReranker
from retrieval.rerankers.stage import ImageReranking
from retrieval.rerankers.token_cache import TokenCache, TokenCacheSettings

TEXT = [("a dog in the snow", 1.0)]


@pytest.fixture
def reranker(tiny_fusion, tiny_encoder):
    return CrossAttentionReranker(tiny_fusion, tiny_encoder)


@pytest.fixture
def items(indexed_library):
    with indexed_library.catalog.snapshot() as snapshot:
        space = indexed_library.space().id
        rows = snapshot.items_at(space, Modality.IMAGE, range(6))
    return [item for row in range(6) for item in rows[row]]


@pytest.fixture
def cache(tmp_path):
    return TokenCache(tmp_path / "tokens")


def similarities(n: int) -> np.ndarray:
    return np.linspace(0.3, 0.1, n, dtype=np.float32)


def match_by_hand(reranker, items, text):
    images = [reranker.preprocess(Image.open(item.path).convert("RGB")) for item in items]
    return reranker.match(reranker.text_tokens([text]), reranker.image_tokens(np.stack(images)))[0]


def test_candidates_are_ordered_by_the_joined_score(reranker, items, cache):
    outcome = ImageReranking(reranker, cache).rank(TEXT, items, similarities(6))
    match = match_by_hand(reranker, items, TEXT[0][0])
    joined = join(similarities(6), match, reranker.match_weight)
    assert outcome.order == tuple(np.argsort(-joined))
    np.testing.assert_allclose(outcome.matches, match[list(outcome.order)], atol=2e-3)
    assert outcome.warnings == ()


def test_kept_tokens_give_the_same_matches_without_the_files(reranker, items, cache):
    first = ImageReranking(reranker, cache).rank(TEXT, items, similarities(6))
    for item in items:
        Path(item.path).unlink()
    assert ImageReranking(reranker, cache).rank(TEXT, items, similarities(6)) == first


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_the_first_answer_is_the_same_as_the_next(reranker, items, cache, precision):
    cache.configure(TokenCacheSettings(precision=precision))
    first, second = (
        ImageReranking(reranker, cache).rank(TEXT, items, similarities(6)) for _ in range(2)
    )
    assert first == second


def test_several_texts_give_their_weighted_mean(reranker, items, cache):
    texts = [("a dog", 1.0), ("people", -0.5)]
    outcome = ImageReranking(reranker, cache).rank(texts, items, similarities(6))
    parts = [match_by_hand(reranker, items, text) for text, _ in texts]
    mean = (parts[0] - 0.5 * parts[1]) / 1.5
    np.testing.assert_allclose(outcome.matches, mean[list(outcome.order)], atol=2e-3)


@pytest.mark.parametrize("what", ["gone", "changed", "damaged", "a pipe"])
def test_what_cannot_be_read_is_left_out_and_said(reranker, items, cache, what):
    path = Path(items[2].path)
    content = path.read_bytes()
    path.unlink()
    if what == "changed":
        Image.new("RGB", (9, 9)).save(path)
    elif what == "damaged":
        path.write_bytes(content[:50])
    elif what == "a pipe":
        os.mkfifo(path)
    outcome = ImageReranking(reranker, cache).rank(TEXT, items, similarities(6))
    assert sorted(outcome.order) == [0, 1, 3, 4, 5]
    [warning] = outcome.warnings
    assert "1 of 6 candidates could not be reranked" in warning


def test_nothing_readable_reranks_nothing(reranker, items, cache):
    missing = [replace(item, path=item.path + "x") for item in items]
    outcome = ImageReranking(reranker, cache).rank(TEXT, missing, similarities(6))
    assert outcome.order == outcome.matches == ()


def test_a_spent_budget_ends_after_the_first_step(reranker, items, cache):
    many = [replace(items[i % 6], content_hash=f"{i:032x}") for i in range(20)]
    for place in range(16):  # tokens that are there take no time: a step takes up as many
        cache.put(reranker.identity, many[place].content_hash, np.ones((16, 32), np.float32))
    outcome = ImageReranking(reranker, cache, budget_ms=0).rank(
        TEXT, [*many[16:], *many[:16]] * 4, similarities(80)
    )
    assert max(outcome.order) < 64
    assert any("Only the first" in warning for warning in outcome.warnings)


def test_no_budget_takes_up_all(reranker, items, cache):
    many = (items * 20)[:100]
    outcome = ImageReranking(reranker, cache).rank(TEXT, many, similarities(100))
    assert sorted(outcome.order) == list(range(100))


def test_a_cache_that_keeps_nothing_changes_nothing(reranker, items, cache):
    kept = ImageReranking(reranker, cache).rank(TEXT, items, similarities(6))
    nothing = TokenCache(cache.folder.with_name("nothing"))
    nothing.configure(TokenCacheSettings(limit_bytes=0))
    assert ImageReranking(reranker, nothing).rank(TEXT, items, similarities(6)) == kept

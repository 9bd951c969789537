import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retrieval.encoders.base import Tokens
from retrieval.media import Modality
from retrieval.rerankers.blip import BlipItmReranker
from retrieval.rerankers.cross_attention import CrossAttentionReranker
from retrieval.rerankers.token_cache import TokenCache, TokenCacheSettings
from retrieval.search.query import ImagePart, Mode, Query, TextPart
from retrieval.search.rerank import (
    Scorer,
    can_rerank,
    image_scorer,
    item_tokens,
    rerank,
    stack_tokens,
    text_scorer,
)

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


def match_texts(reranker, texts, items, cache, **options):
    """Rerank for weighted texts."""
    tokens = reranker.text_tokens([text for text, _ in texts])
    scorer = text_scorer(reranker, tokens, [weight for _, weight in texts])
    return rerank(items, scorer, reranker, cache, **options)


def match_by_hand(reranker, items, text):
    images = [reranker.preprocess(Image.open(item.path).convert("RGB")) for item in items]
    return reranker.match(reranker.text_tokens([text]), reranker.image_tokens(np.stack(images)))[0]


def test_candidates_are_matched_as_by_hand(reranker, items, cache):
    outcome = match_texts(reranker, TEXT, items, cache)
    match = match_by_hand(reranker, items, TEXT[0][0])
    np.testing.assert_allclose(outcome.match, match, atol=2e-3)
    assert outcome.weight == pytest.approx(reranker.match_weight)
    assert outcome.warnings == ()


def test_kept_tokens_give_the_same_matches_without_the_files(reranker, items, cache):
    first = match_texts(reranker, TEXT, items, cache)
    for item in items:
        Path(item.path).unlink()
    again = match_texts(reranker, TEXT, items, cache)
    np.testing.assert_array_equal(again.match, first.match)
    assert again.warnings == ()


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_the_first_answer_is_the_same_as_the_next(reranker, items, cache, precision):
    cache.configure(TokenCacheSettings(precision=precision))
    first, second = (match_texts(reranker, TEXT, items, cache) for _ in range(2))
    np.testing.assert_array_equal(first.match, second.match)


def test_several_texts_give_their_weighted_mean(reranker, items, cache):
    texts = [("a dog", 1.0), ("people", -0.5)]
    outcome = match_texts(reranker, texts, items, cache)
    parts = [match_by_hand(reranker, items, text) for text, _ in texts]
    mean = (parts[0] - 0.5 * parts[1]) / 1.5
    np.testing.assert_allclose(outcome.match, mean, atol=2e-3)


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
    outcome = match_texts(reranker, TEXT, items, cache)
    assert np.flatnonzero(np.isfinite(outcome.match)).tolist() == [0, 1, 3, 4, 5]
    [warning] = outcome.warnings
    assert "1 of 6 candidates could not be reranked" in warning


def test_nothing_readable_reranks_nothing(reranker, items, cache):
    missing = [replace(item, path=item.path + "x") for item in items]
    outcome = match_texts(reranker, TEXT, missing, cache)
    assert np.isnan(outcome.match).tolist() == [True] * 6


def test_a_spent_budget_ends_after_the_first_step(reranker, items, cache):
    many = [replace(items[i % 6], content_hash=f"{i:032x}") for i in range(20)]
    for place in range(16):  # tokens that are there take no time: a step takes up as many
        cache.put(reranker.identity, many[place].content_hash, np.ones((16, 32), np.float32))
    outcome = match_texts(reranker, TEXT, [*many[16:], *many[:16]] * 4, cache, budget_ms=0)
    assert 0 < len(outcome.match) <= 64
    assert any("Only the first" in warning for warning in outcome.warnings)


def test_no_budget_takes_up_all(reranker, items, cache):
    many = (items * 20)[:100]
    outcome = match_texts(reranker, TEXT, many, cache)
    assert np.isfinite(outcome.match).tolist() == [True] * 100


def test_a_cache_that_keeps_nothing_changes_nothing(reranker, items, cache):
    kept = match_texts(reranker, TEXT, items, cache)
    nothing = TokenCache(cache.folder.with_name("nothing"))
    nothing.configure(TokenCacheSettings(limit_bytes=0))
    np.testing.assert_array_equal(match_texts(reranker, TEXT, items, nothing).match, kept.match)


def test_images_are_compared_by_the_mean_of_their_weights(reranker, items, cache):
    queries = [item_tokens(item, reranker, cache) for item in items[:2]]
    scorer = image_scorer(reranker, queries, [1.0, -0.5])
    found = stack_tokens([item_tokens(item, reranker, cache).values[0] for item in items])
    one, other = (reranker.image_similarity(query, found) for query in queries)
    np.testing.assert_allclose(scorer.score(found), (one - 0.5 * other) / 1.5, atol=1e-5)
    assert scorer.weight == reranker.image_similarity_weight


class HeldTokens:
    """A store of tokens in memory: each image has one, its number."""

    identity = "numbers"

    def get(self, identity, content_hash):
        assert identity == self.identity
        return np.full((1, 1), float(content_hash), np.float32)


@dataclass
class Numbered:
    picture_key: str


def number_of(images: Tokens) -> np.ndarray:
    return images.values[:, 0, 0]


def test_a_stage_needs_no_library():
    held = HeldTokens()
    outcome = rerank([Numbered("3"), Numbered("1")], Scorer(number_of, 0.5), held, held)
    assert outcome.match.tolist() == [3.0, 1.0]
    assert outcome.weight == 0.5


def test_a_budget_that_others_have_spent_leaves_no_step():
    held = HeldTokens()
    items = [Numbered(str(n)) for n in range(70)]
    spent = rerank(items, Scorer(number_of, 1.0), held, held, budget_ms=5, since=0.0)
    assert spent.match.tolist() == []
    assert spent.warnings == (
        "Only the first 0 of 70 candidates were reranked in the 5 ms that were allowed.",
    )
    unlimited = rerank(items, Scorer(number_of, 1.0), held, held, since=0.0)
    assert unlimited.match.tolist() == list(range(70))


def test_tokens_of_different_lengths_are_masked():
    short, long = np.ones((1, 2), np.float16), np.full((3, 2), 2, np.float16)
    stacked = stack_tokens([short, long])
    assert stacked.values.dtype == np.float16
    assert stacked.mask.tolist() == [[True, False, False], [True, True, True]]
    assert stacked.values[0].tolist() == [[1, 1], [0, 0], [0, 0]]


def test_what_can_be_reranked(reranker):
    without = BlipItmReranker.__new__(BlipItmReranker)  # BLIP compares no images
    text = Query((TextPart("a"),))
    image = Query((ImagePart(Image.new("RGB", (2, 2))),))
    assert can_rerank(without, text, Mode.HYBRID, Modality.TEXT)
    assert not can_rerank(reranker, text, Mode.TEXT, Modality.TEXT)
    assert not can_rerank(
        reranker, replace(text, modality=Modality.TEXT), Mode.VECTOR, Modality.TEXT
    )
    assert can_rerank(reranker, image, Mode.VECTOR, Modality.IMAGE)
    assert not can_rerank(without, image, Mode.VECTOR, Modality.IMAGE)
    assert not can_rerank(
        reranker, image, Mode.VECTOR, Modality.TEXT
    )  # like an item that is a text

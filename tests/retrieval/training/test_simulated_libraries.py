"""Simulated searches: every kind of query, with and without an answer in the library."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from retrieval.training.captions import CaptionedPhoto
from retrieval.training.fitting import Gallery
from retrieval.training.simulated_libraries import (
    HITS,
    KIND_SHARES,
    WITHOUT_SHARE,
    caption_queries,
    image_queries,
    outside_queries,
    simulate_searches,
    word_queries,
)

PHOTOS = 120


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def gallery():
    random = np.random.default_rng(0)
    photos = [CaptionedPhoto(Path(f"{n}.jpg"), (f"{n} a", f"{n} b")) for n in range(PHOTOS)]
    sentences = unit(random.normal(size=(2 * PHOTOS, 384)))
    return Gallery(photos, unit(random.normal(size=(PHOTOS, 32))), sentences)


@pytest.fixture(scope="module")
def queries(gallery):
    random = np.random.default_rng(1)
    asked = np.arange(40)
    word = np.zeros(PHOTOS, np.float32)
    word[:30] = 1
    vectors = unit(random.normal(size=(42, 32)))
    return [
        *caption_queries(gallery, vectors[:40], asked),
        *word_queries({"word": word}, vectors[40:41]),
        *outside_queries(["nothing"], vectors[41:], PHOTOS),
    ]


def test_hits_are_the_most_similar_of_the_library(gallery, queries):
    for search in simulate_searches(gallery, queries, 200):
        expected = gallery.vectors[search.photos] @ search.query.vector
        np.testing.assert_allclose(search.similarity, expected, rtol=1e-4, atol=1e-6)
        assert (np.diff(search.similarity) <= 0).all()
        assert len(search.similarity) >= min(HITS, search.rows)
        assert search.ranks[:HITS].tolist() == [*range(min(HITS, search.rows))]
        assert (np.diff(search.ranks) > 0).all()
        assert search.ranks[-1] < search.rows
        assert len(set(search.photos.tolist())) == len(search.photos)
        np.testing.assert_array_equal(search.fits, search.query.fits[search.photos])
        assert len(search.cohort) == search.rows


def test_every_kind_is_asked_with_and_without_an_answer(gallery, queries):
    searches = simulate_searches(gallery, queries, 1500)
    kinds = Counter(search.query.kind for search in searches)
    shares = {kind: KIND_SHARES[kind] for kind in ("caption", "word", "outside")}
    for kind, share in shares.items():
        assert kinds[kind] / 1500 == pytest.approx(share / sum(shares.values()), abs=0.05)
    for search in searches:
        if search.query.kind == "outside":
            assert not search.answered
        if not search.answered:
            assert (search.fits < 0.5).all()
        elif search.rows <= HITS:  # all of the library is among the hits
            assert (search.fits == 1).any()
    for kind in ("caption", "word"):
        answered = np.mean([s.answered for s in searches if s.query.kind == kind])
        assert 0.5 < answered <= 1 - WITHOUT_SHARE + 0.05


def test_some_libraries_are_mostly_of_what_is_asked_for(gallery, queries):
    words = [query for query in queries if query.kind == "word"]
    shares = [
        search.fits.mean()
        for search in simulate_searches(gallery, words, 600)
        if 6 <= search.rows <= HITS
    ]
    assert np.mean(np.array(shares) > 0.7) > 0.03
    assert np.mean(np.array(shares) < 0.4) > 0.5


def test_libraries_are_of_all_sizes(gallery, queries):
    rows = [search.rows for search in simulate_searches(gallery, queries, 600)]
    assert min(rows) <= 5
    assert max(rows) > 100
    assert np.median(rows) == pytest.approx(np.sqrt(4 * PHOTOS), rel=0.3)


def test_only_photos_with_labels_are_searched(gallery):
    word = np.zeros(50, np.float32)
    word[::3] = 1
    queries = word_queries({"word": word}, gallery.vectors[:1])
    searches = simulate_searches(gallery, queries, 100)
    assert 40 < max(search.rows for search in searches) <= 50
    assert max(search.photos.max() for search in searches) < 50


def test_a_photo_is_never_found_by_itself(gallery):
    images = image_queries(gallery, np.arange(10))
    for search in simulate_searches(gallery, images, 200):
        assert search.query.source_photo not in search.photos


def test_single_captions_leave_only_the_own_photo(gallery):
    photos = [CaptionedPhoto(one.path, one.captions[:1]) for one in gallery.photos]
    alone = Gallery(photos, gallery.vectors, gallery.sentences[::2])
    assert not alone.tells_what_fits
    [query] = caption_queries(alone, gallery.vectors[:1], np.array([7]))
    assert query.fits.sum() == query.fits[7] == 1


def test_the_same_seed_asks_the_same(gallery, queries):
    first, second = (simulate_searches(gallery, queries, 50, seed=3) for _ in range(2))
    assert [s.photos.tolist() for s in first] == [s.photos.tolist() for s in second]
    other = simulate_searches(gallery, queries, 50, seed=4)
    assert [s.photos.tolist() for s in first] != [s.photos.tolist() for s in other]

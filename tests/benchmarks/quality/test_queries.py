"""Figures of queries: by hand, against brute force, and of a real engine on a real library."""

import json
import math
from dataclasses import replace
from itertools import count

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from benchmarks.datasets import load_dataset
from benchmarks.quality.graded_queries import GradedQuery, QuerySet, Sizes, make_queries
from benchmarks.quality.queries import (
    Ranking,
    best_f1,
    build_library,
    calibration_error,
    chance_error,
    f1,
    measure_queries,
    queries_markdown,
)
from benchmarks.quality.query_words import Kind, QueryWords
from benchmarks.quality.relevance import captioned
from retrieval.errors import UsageError
from retrieval.search.engine import Engine
from retrieval.search.query import Query, Reranking, TextPart

pytestmark = pytest.mark.slow

gains = st.lists(st.integers(0, 3), max_size=12)


@given(ranked=gains, unseen=st.integers(0, 3))
def test_the_best_cut_is_that_of_all_cuts(ranked, unseen):
    right = sum(gain > 0 for gain in ranked) + unseen
    if not right:
        return

    def brute(length):
        found = sum(gain > 0 for gain in ranked[:length])
        if not found:
            return 0.0
        precision, recall = found / length, found / right
        return 2 * precision * recall / (precision + recall)

    array = np.array(ranked, np.int64)
    assert best_f1(array, right) == pytest.approx(max(map(brute, range(len(ranked) + 1))))
    assert f1(array, right) == pytest.approx(brute(len(ranked)))


@given(hits=st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=30))
def test_the_calibration_error_is_that_of_its_bins(hits):
    bins = {}
    for relevance, is_right in hits:
        bins.setdefault(min(int(relevance * 10), 9), []).append((relevance, is_right))
    expected = sum(
        abs(sum(r for r, _ in each) / len(each) - sum(y for _, y in each) / len(each)) * len(each)
        for each in bins.values()
    ) / len(hits)
    relevance = np.array([relevance for relevance, _ in hits])
    labels = np.array([3 * is_right for _, is_right in hits])
    halves = [(labels[::2], relevance[::2]), (labels[1::2], relevance[1::2])]
    assert calibration_error(halves) == pytest.approx(expected)


def test_exact_relevances_have_the_error_of_chance():
    random = np.random.default_rng(1)
    relevance = random.random(300)
    errors = [
        calibration_error([((random.random(300) < relevance).astype(np.int64), relevance)])
        for _ in range(100)
    ]
    labels = np.zeros(300, np.int64)  # they do not matter
    assert chance_error([(labels, relevance)]) == pytest.approx(np.mean(errors), rel=0.1)
    assert chance_error([(labels, relevance.round())]) == 0
    assert chance_error([]) is None


def test_hits_without_relevance_are_in_no_calibration_error():
    hits = (np.array([1, 0]), np.array([math.nan, 0.25]))
    assert calibration_error([hits]) == 0.25
    assert calibration_error([(hits[0][:1], hits[1][:1])]) is None
    assert calibration_error([]) is None


def test_unsure_photos_and_other_items_are_left_out_of_a_ranking():
    ranking = Ranking(np.array([2, -1, 0, 1, 3]), np.array([0.9, 0.8, 0.7, 0.6, 0.5]))
    judgement = np.array([-1, 0, 4, 2])
    for found, expected in (
        (ranking.judged(judgement), ([4, 0, 2], [0.9, 0.6, 0.5])),
        # The first hits are counted before the unsure ones are left out.
        (ranking.first_judged(judgement, 4), ([4, 0], [0.9, 0.6])),
    ):
        assert [part.tolist() for part in found] == list(expected)


COLOURS = {"red": (220, 20, 20), "green": (20, 220, 20), "blue": (20, 20, 220)}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Twelve pictures of one colour with some noise; every other one has a dog, by its captions."""
    folder = tmp_path_factory.mktemp("coloured")
    (folder / "images").mkdir()
    generator = np.random.default_rng(0)
    lines, number = [], count()
    for name, colour in COLOURS.items():
        for thing in ("dog", "ball", "dog", "ball and a dog"):
            noise = generator.integers(-20, 20, (36, 36, 3))
            pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
            file = f"{next(number)}.png"
            Image.fromarray(pixels).save(folder / "images" / file)
            captions = [f"a {name} {thing}", f"the {name} {thing} there", f"one {name} picture"]
            lines.append(json.dumps({"image": file, "split": "val", "en": captions}))
    (folder / "captions.jsonl").write_text("\n".join(lines))
    return captioned(load_dataset(f"jsonl:{folder}", split="val"))


@pytest.fixture(scope="module")
def engine(photos, tiny_encoder, tmp_path_factory):
    library = build_library(photos, tiny_encoder, tmp_path_factory.mktemp("cache"))
    return Engine(library, device="cpu")


@pytest.fixture(scope="module")
def asked(photos, tmp_path_factory):
    sizes = Sizes(least=2, captions=0)
    absent = ["a zebra", "the moon"]
    made = make_queries(
        photos, QueryWords("en"), absent, tmp_path_factory.mktemp("none"), sizes=sizes
    )
    assert {query.text for query in made.queries} == {
        *("dog", "ball", *COLOURS, *absent),
        *(f"{colour} {thing}" for colour in COLOURS for thing in ("dog", "ball")),
    }
    assert {(pair.plus.text, pair.minus.text) for pair in made.pairs} == {
        ("dog", "ball"),
        ("ball", "dog"),
    }
    return made


@pytest.fixture(scope="module")
def measured(engine, asked):
    return measure_queries(engine, asked, ["none"], min_relevance=0.05)


def hits_of(engine, photos, parts, least=0.0):
    """The numbers of photos that a search finds."""
    number_of = {str(photo.path): n for n, photo in enumerate(photos)}
    query = Query(parts, k=100, min_relevance=least)
    return [number_of[hit.path] for hit in engine.search(query, Reranking("none"))]


def test_figures_are_of_what_the_engine_finds_and_shows(measured, engine, asked, photos):
    [run] = measured.runs
    assert (measured.photos, measured.items) == (12, 12)
    assert len(run.queries) == 11
    for query in asked.queries[:-2]:
        [row] = [row for row in run.queries if row.text == query.text]
        judged = [query.gains[n] for n in hits_of(engine, photos, (TextPart(query.text),))]
        judged = [gain for gain in judged if gain >= 0]
        ranks = [rank for rank, gain in enumerate(judged, 1) if gain > 0]
        assert row.right == len(ranks)
        assert row.precision_at_10 == pytest.approx(sum(rank <= 10 for rank in ranks) / 10)
        precisions = [place / rank for place, rank in enumerate(ranks, 1)]
        assert row.ap == pytest.approx(sum(precisions) / len(ranks))
        hits = hits_of(engine, photos, (TextPart(query.text),), 0.05)
        shown = [query.gains[n] for n in hits if query.gains[n] >= 0]
        found = sum(gain > 0 for gain in shown)
        assert row.shown == len(hits)
        assert row.shown_recall == pytest.approx(found / len(ranks))
        assert row.shown_precision == (pytest.approx(found / len(shown)) if shown else None)
        assert row.shown_f1 <= row.best_f1 + 1e-12
        assert row.first_rank == ranks[0]
        first = hits_of(engine, photos, (TextPart(query.text),))[:3]
        assert [(each.path, each.gain) for each in row.found] == [
            (str(photos[n].path), query.gains[n]) for n in first
        ]
        right = {str(photo.path) for n, photo in enumerate(photos) if query.gains[n] > 0}
        assert set(row.wanted) <= right
        assert len(row.wanted) == min(3, len(right))
    for query in asked.queries[-2:]:
        [absent] = [each for each in run.absent if each.text == query.text]
        assert absent.shown == len(hits_of(engine, photos, (TextPart(query.text),), 0.05))


def test_figures_of_a_kind_are_means_of_its_queries(measured):
    [run] = measured.runs
    rows = {(row.kind, row.band): row for row in run.kinds}
    words = [row for row in run.queries if row.kind in {"noun", "adjective"}]
    assert rows["words", None].queries == len(words) == 5
    assert rows["words", None].map == pytest.approx(np.mean([row.ap for row in words]))
    assert {band for _, band in rows} == {None}  # all have three to nine right photos, or two
    f1s, best = (np.mean([getattr(row, name) for row in words]) for name in ("shown_f1", "best_f1"))
    assert rows["words", None].f1_ratio == pytest.approx(f1s / best)
    assert rows["all", None].queries == 11
    absent = rows["absent", None]
    assert (absent.queries, absent.map, absent.f1_ratio) == (2, None, None)
    assert absent.nothing_shown + absent.something_shown == 1


@pytest.mark.parametrize(("least", "nothing", "recall"), [(0.0, 0, 1), (1.0, 1, 0)])
def test_a_cut_of_nothing_shows_all_and_one_of_certainty_nothing(
    engine, asked, least, nothing, recall
):
    [run] = measure_queries(engine, asked, ["none"], min_relevance=least).runs
    rows = {row.kind: row for row in run.kinds if row.band is None}
    for row in rows.values():
        assert row.nothing_shown == nothing
        assert row.shown_recall in {recall, None}
    assert rows["words"].shown_f1 == 0 or not nothing
    assert (rows["words"].shown_precision is None) == bool(nothing)
    assert [signed.nothing_shown for signed in run.signed] == [nothing] * 2


def test_signed_figures_are_of_signed_searches(measured, engine, asked, photos):
    for row, minus in zip(measured.runs[0].signed, (False, True), strict=True):
        unwanted, wanted = [], []
        for pair in asked.pairs:
            parts = (TextPart(pair.plus.text), TextPart(pair.minus.text, -1.0))
            hits = hits_of(engine, photos, parts if minus else parts[:1])
            judged = [pair.minus.gains[n] > 0 for n in hits if pair.minus.gains[n] >= 0]
            unwanted.append(sum(judged[:10]) / 10)
            judged = [pair.plus.gains[n] > 0 for n in hits if pair.plus.gains[n] >= 0]
            wanted.append(sum(judged[:10]) / 10)
        assert (row.with_minus, row.pairs) == (minus, 2)
        assert row.minus_first == pytest.approx(np.mean(unwanted))
        assert row.precision_at_10 == pytest.approx(np.mean(wanted))


def test_a_second_run_indexes_nothing_and_says_the_same(
    photos, asked, engine, tiny_encoder, measured
):
    library = build_library(photos, tiny_encoder, engine.library.path.parent)
    assert library.path == engine.library.path
    assert measure_queries(engine, asked, ["none"], min_relevance=0.05) == measured


def test_photos_that_the_library_lacks_are_in_no_figure(photos, asked, tiny_encoder, tmp_path):
    library = build_library(photos[:8], tiny_encoder, tmp_path)
    result = measure_queries(Engine(library, device="cpu"), asked, ["none"])
    assert (result.photos, result.items) == (8, 8)
    assert {row.text for row in result.runs[0].queries} == {
        *("dog", "ball", "red", "green", "red dog", "green dog", "red ball", "green ball")
    }
    elsewhere = [replace(photo, path=photo.path.with_name("no.png")) for photo in photos]
    with pytest.raises(UsageError, match="none of the 12 photos"):
        measure_queries(Engine(library, device="cpu"), replace(asked, photos=elsewhere), ["none"])


def test_queries_without_right_photos_are_refused(engine, photos):
    nothing = GradedQuery("a", Kind.NOUN, np.zeros(12, np.int64))
    with pytest.raises(UsageError, match="--least"):
        measure_queries(engine, QuerySet(photos, (nothing,), ()), ["none"])


def test_photos_of_which_none_can_be_read_are_refused(photos, tiny_encoder, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    with pytest.raises(UsageError, match="can be read"):
        build_library([replace(photos[0], path=broken)], tiny_encoder, tmp_path / "cache")


def test_queries_with_few_and_many_right_photos_have_rows_of_their_own(engine, photos, asked):
    many, few = np.ones(12, np.int64), np.zeros(12, np.int64)
    few[:3] = 2
    queries = [GradedQuery("many", Kind.NOUN, many), GradedQuery("few", Kind.NOUN, few)]
    [run] = measure_queries(engine, QuerySet(photos, tuple(queries), ()), ["none"]).runs
    rows = {(row.kind, row.band): row for row in run.kinds}
    assert rows["noun", "10-29"].map == 1
    assert rows["noun", "3-9"].right == 3
    assert rows["noun", None].queries == 2
    assert run.signed == ()


def test_the_tables_have_a_line_for_each_row(measured):
    lines = queries_markdown(measured).splitlines()
    [run] = measured.runs
    tables = [line for line in lines if line.startswith("|")]
    assert len(tables) == len(run.kinds) + len(run.signed) + 4
    assert len({line.count("|") for line in tables}) == 2
    assert any(line.startswith("| **words** |") for line in lines)
    assert "Not reranked:" in lines

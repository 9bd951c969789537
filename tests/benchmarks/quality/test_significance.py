"""Intervals and tests: against formulas, exhaustive enumeration and simulated experiments."""

import itertools
import math

import numpy as np
import pytest

from benchmarks.metrics import Judgments
from benchmarks.quality.significance import (
    confidence_interval,
    paired_test,
    paired_test_of_means,
)
from retrieval.errors import UsageError


def first_ranks(ranks) -> Judgments:
    """Queries with one relevant item each, at the ranks given."""
    ranks = np.asarray(ranks, dtype=np.float64)
    return Judgments(
        query_ids=tuple(f"q{number}" for number in range(len(ranks))),
        offsets=np.arange(len(ranks) + 1),
        ranks=ranks,
        gains=np.ones(len(ranks)),
        ranked=np.full(len(ranks), 100),
    )


def random_ranks(seed, queries, highest=6):
    return np.random.default_rng(seed).integers(1, highest, queries).astype(float)


def test_the_interval_of_a_proportion_is_near_the_normal_one():
    judgments = first_ranks(np.where(np.arange(2000) % 10 < 3, 1, 2))
    low, high = confidence_interval(judgments, "hit_recall@1")
    half = 1.96 * math.sqrt(0.3 * 0.7 / 2000)
    assert (low, high) == pytest.approx((0.3 - half, 0.3 + half), abs=0.002)


def test_the_interval_narrows_with_the_level_and_holds_the_figure():
    judgments = first_ranks(random_ranks(0, 200))
    wide = confidence_interval(judgments, "mrr", level=0.99)
    narrow = confidence_interval(judgments, "mrr", level=0.5)
    figure = (1 / judgments.ranks).mean()
    assert wide.low < narrow.low < figure < narrow.high < wide.high


def test_the_same_seed_gives_the_same_interval():
    judgments = first_ranks(random_ranks(0, 500, highest=50))
    one = confidence_interval(judgments, "mean_rank", seed=3)
    assert one == confidence_interval(judgments, "mean_rank", seed=3)
    assert one != confidence_interval(judgments, "mean_rank", seed=4)


def test_five_equal_captions_of_a_photo_tell_no_more_than_one():
    ranks = random_ranks(1, 150)
    once = confidence_interval(first_ranks(ranks), "hit_recall@1")
    copies = first_ranks(np.repeat(ranks, 5))
    photos = np.repeat(np.arange(150), 5).tolist()
    assert confidence_interval(copies, "hit_recall@1", groups=photos) == pytest.approx(once)
    naive = confidence_interval(copies, "hit_recall@1")
    assert (once.high - once.low) / (naive.high - naive.low) == pytest.approx(5**0.5, rel=0.1)


def test_groups_may_be_of_any_size_and_stand_in_any_order():
    judgments = first_ranks([1, 2, 2, 1, 2])
    groups = ["x", "y", "x", "x", "x"]
    # The draws xx, xy, yx, yy, and their means over all the queries drawn.
    low, high = confidence_interval(judgments, "hit_recall@1", groups=groups, level=0.9)
    assert (low, high) == (0, 0.5)
    low, high = confidence_interval(judgments, "hit_recall@1", groups=groups, level=0.4)
    assert (low, high) == (0.4, 0.4)


@pytest.mark.parametrize("groups", [None, [0, 0, 1, 2, 2, 3]])
def test_resampled_medians_are_those_of_all_drawn_queries(groups):
    ranks = [1, 9, 4, 3, 8, math.inf]
    numbers = np.array(groups or range(6))
    medians = []
    count = numbers.max() + 1
    for draw in itertools.product(range(count), repeat=int(count)):
        drawn = [rank for group in draw for rank in np.array(ranks)[numbers == group]]
        medians.append(np.median(drawn))
    interval = confidence_interval(
        first_ranks(ranks), "median_rank", groups=groups, level=0.8, resamples=20_000
    )
    low, high = np.quantile(medians, 0.1, method="lower"), np.quantile(medians, 0.9, method="lower")
    assert interval == (low, high)


def test_the_mean_rank_is_bounded_by_infinity_where_items_were_not_found():
    judgments = first_ranks([1, 2, 3] * 20 + [math.inf])
    assert confidence_interval(judgments, "mean_rank").high == math.inf
    assert confidence_interval(judgments, "mean_rank").low == pytest.approx(1.8, abs=0.2)
    assert confidence_interval(judgments, "median_rank").high < math.inf


def test_the_interval_holds_the_true_value_as_often_as_it_says():
    """Captions of a photo succeed together; intervals that know it are right 95 times in 100."""
    generator = np.random.default_rng(5)
    photos = np.repeat(np.arange(80), 5).tolist()
    held = {"grouped": 0, "naive": 0}
    for _ in range(300):
        ease = generator.beta(0.5, 0.5, 80)  # of mean 1/2
        judgments = first_ranks(2 - (generator.random(400) < np.repeat(ease, 5)))
        for name, groups in (("grouped", photos), ("naive", None)):
            low, high = confidence_interval(
                judgments, "hit_recall@1", groups=groups, resamples=300, seed=1
            )
            held[name] += low <= 0.5 <= high
    assert 0.91 <= held["grouped"] / 300 <= 0.98
    assert held["naive"] / 300 < 0.85


@pytest.mark.parametrize("name", ["mrr", "mean_rank", "median_rank"])
def test_the_p_value_is_that_of_all_exchanges(name):
    one, other = random_ranks(2, 10, 9), random_ranks(3, 10, 5)
    figure = {"mrr": lambda r: (1 / r).mean(), "mean_rank": np.mean, "median_rank": np.median}[name]
    observed = figure(one) - figure(other)
    extreme = 0
    for swap in itertools.product([False, True], repeat=10):
        change = figure(np.where(swap, other, one)) - figure(np.where(swap, one, other))
        extreme += abs(change) >= abs(observed) - 1e-12
    test = paired_test(first_ranks(one), first_ranks(other), name)
    assert test.difference == pytest.approx(observed)
    assert test.low <= observed <= test.high
    assert test.p_value == pytest.approx(extreme / 1024, abs=0.02)


def test_exchanges_keep_groups_together():
    one, other = random_ranks(4, 12), random_ranks(5, 12)
    once = paired_test(first_ranks(one), first_ranks(other), "mrr")
    photos = [photo for photo in range(12) for _ in range(5)]
    copies = first_ranks(np.repeat(one, 5)), first_ranks(np.repeat(other, 5))
    assert paired_test(*copies, "mrr", groups=photos) == pytest.approx(once)
    assert paired_test(*copies, "mrr").p_value < once.p_value


def test_a_run_does_not_differ_from_itself():
    judgments = first_ranks(random_ranks(0, 50))
    assert paired_test(judgments, judgments, "mrr") == (0, 0, 0, 1)
    assert paired_test(judgments, judgments, "median_rank") == (0, 0, 0, 1)


def test_the_p_value_is_never_zero():
    test = paired_test(first_ranks(np.ones(100)), first_ranks(np.full(100, 2)), "hit_recall@1")
    assert test.difference == 1
    assert test.p_value == 1 / 10_001


def test_the_difference_changes_its_sign_with_the_order():
    one, other = first_ranks(random_ranks(6, 40)), first_ranks(random_ranks(7, 40, 4))
    forth, back = paired_test(one, other, "mrr"), paired_test(other, one, "mrr")
    assert (forth.difference, forth.low, forth.high) == pytest.approx(
        (-back.difference, -back.high, -back.low)
    )
    assert forth.p_value == back.p_value


def test_chance_alone_is_called_significant_as_rarely_as_it_should():
    generator = np.random.default_rng(8)
    photos = np.repeat(np.arange(40), 5).tolist()
    false_alarms = 0
    for _ in range(300):
        one, other = (np.repeat(generator.integers(1, 3, 40), 5) for _ in range(2))
        pair = first_ranks(one), first_ranks(other)
        test = paired_test(*pair, "hit_recall@1", groups=photos, resamples=300)
        false_alarms += test.p_value <= 0.05
    assert false_alarms / 300 <= 0.08


def test_infinite_figures_have_no_difference():
    found, cut = first_ranks([1.0, 2.0, 3.0]), first_ranks([1.0, 2.0, math.inf])
    for pair in ((found, cut), (cut, found), (cut, cut)):
        assert all(map(math.isnan, paired_test(*pair, "mean_rank")))
    test = paired_test(found, cut, "median_rank")
    assert test.difference == 0
    assert 0 < test.p_value <= 1
    nowhere = first_ranks([math.inf] * 3)
    assert all(map(math.isnan, paired_test(nowhere, found, "median_rank")))


def test_runs_on_other_queries_are_not_compared():
    with pytest.raises(UsageError, match="different queries, 3 and 2"):
        paired_test(first_ranks([1, 2, 3]), first_ranks([1, 2]), "mrr")


def test_groups_must_name_every_query():
    with pytest.raises(UsageError, match="3 queries and 2 group labels"):
        confidence_interval(first_ranks([1, 2, 3]), "mrr", groups=["a", "b"])


def test_an_unknown_metric_is_refused():
    with pytest.raises(UsageError, match="Unknown metric 'mpr'"):
        confidence_interval(first_ranks([1]), "mpr")


def test_means_are_tested_as_judgments_are():
    ranks = np.random.default_rng(3).integers(1, 9, (2, 60)).astype(float)
    expected = paired_test(first_ranks(ranks[0]), first_ranks(ranks[1]), "mrr", seed=5)
    found = paired_test_of_means(1 / ranks[0], 1 / ranks[1], seed=5)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    with pytest.raises(UsageError, match="60 and 59 values"):
        paired_test_of_means(ranks[0], ranks[1, :59])
    with pytest.raises(UsageError, match="0 and 0 values"):
        paired_test_of_means(ranks[0, :0], ranks[1, :0])

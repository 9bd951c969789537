"""Merging the parts of any partition gives the order of the whole."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from retrieval.catalog import Item
from retrieval.media import MediaKind, Modality
from retrieval.search.facet_values import FacetQuestion, FacetValues, NestedValue
from retrieval.search.facets import Facets, FacetValue
from retrieval.shards.merging import best_first, merge_facets, merge_values
from retrieval.shards.shard import FoundRows


def _item(row: int) -> Item:
    return Item(row + 1, f"/{row}.jpg", MediaKind.IMAGE, Modality.IMAGE, f"{row:032x}", 1, 1)


def _part(rows: list[int], scores: list[float]) -> FoundRows:
    """Rows in the order of one shard: by score, equals by row."""
    order = sorted(rows, key=lambda row: (-np.float32(scores[row]), row))
    similarity = np.array([scores[row] for row in order], np.float32)
    return FoundRows(np.array(order, np.int64), similarity, [(_item(row),) for row in order])


@given(
    scores=st.lists(st.sampled_from([0.1, 0.2, 0.25, 0.9]), min_size=1, max_size=40),
    homes=st.lists(st.integers(0, 4), min_size=40, max_size=40),
)
def test_any_partition_merges_to_the_whole(scores: list[float], homes: list[int]) -> None:
    rows = list(range(len(scores)))
    parts = [_part([row for row in rows if homes[row] == shard], scores) for shard in range(5)]
    found, similarity, items = best_first(parts)
    whole = _part(rows, scores)
    np.testing.assert_array_equal(found, whole.rows)
    np.testing.assert_array_equal(similarity, whole.similarity)
    assert [items[row] for row in found.tolist()] == whole.items


@given(
    words=st.lists(st.sampled_from([1.0, 2.0, 3.5]), min_size=1, max_size=30),
    scores=st.lists(st.sampled_from([0.1, 0.4]), min_size=30, max_size=30),
    homes=st.lists(st.integers(0, 2), min_size=30, max_size=30),
    count=st.integers(1, 8),
)
def test_words_come_first_and_so_many_of_each_score(
    words: list[float], scores: list[float], homes: list[int], count: int
) -> None:
    rows = list(range(len(words)))
    parts = [_part([row for row in rows if homes[row] == shard], scores) for shard in range(3)]
    found, _, items = best_first(parts, dict(enumerate(words)), count)
    expected: list[int] = []
    for word in sorted(set(words), reverse=True):
        alike = [row for row in rows if words[row] == word]
        expected += sorted(alike, key=lambda row: (-scores[row], row))[:count]
    assert found.tolist() == expected
    assert set(items) == set(expected)


def test_counts_add_up_in_the_order_of_their_facet() -> None:
    parts = [
        Facets(
            3,
            years=(FacetValue("2020", 1), FacetValue("2018", 2)),
            cameras=(FacetValue("A", 2), FacetValue("B", 1)),
            columns={"rating": (FacetValue(1, 1), FacetValue(True, 1))},
        ),
        Facets(4, years=(FacetValue("2019", 4),), cameras=(FacetValue("B", 4),)),
    ]
    merged = merge_facets(parts, 2)
    assert merged.total == 7
    assert merged.years == (FacetValue("2019", 4), FacetValue("2018", 2))
    assert merged.cameras == (FacetValue("B", 5), FacetValue("A", 2))
    assert merged.columns["rating"] == (FacetValue(1, 1), FacetValue(True, 1))
    assert type(merged.columns["rating"][0].value) is int


def test_values_within_others_are_told_apart() -> None:
    parts = [
        FacetValues(2, (NestedValue("Springfield", 2, ("US", "Ohio")), NestedValue("Rome", 1))),
        FacetValues(
            3,
            (
                NestedValue("Springfield", 1, ("US", "Maine")),
                NestedValue("Rome", 2, has_more=True),
            ),
        ),
    ]
    merged = merge_values(FacetQuestion("places", limit=2), parts)
    assert merged.total == 5
    assert merged.left_out == 1
    assert merged.values == (
        NestedValue("Rome", 3, has_more=True),
        NestedValue("Springfield", 2, ("US", "Ohio")),
    )

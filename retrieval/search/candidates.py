"""Finding candidates: rows that an index proposes, scored exactly, and the items at them.

The engine and `bench retrieval` call these. They add spare rows for removed files; over-fetch and
exact refine are those of `retrieval.indices.refine`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from retrieval.catalog import Item
from retrieval.embeddings import Rows
from retrieval.indices.base import AllowedRows
from retrieval.indices.refine import refine
from retrieval.indices.searcher import Searcher
from retrieval.media import Modality

_SPARE_ROWS = 8
"""Rows beyond those wanted, for removed files may have taken the place of some."""

FOUND_BY_WORDS = 0.6
"""Least relevance by words alone of what no other relevance can leave out: that of a name beside
one other word that no file has, or of a word that about a fifth of the library holds."""

Vector = NDArray[np.float32]
RowNumbers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Candidates:
    """Items that may be hits of one query, best first: arrays of one entry an item.

    ids: of the items, (c,) int64. rows: of their vectors, (c,) int64; copies of a file share one.
    similarity: exact cosines, (c,) float32. match: a reranker's score, (c,) float32, NaN where
    there is none. text_score: lexical, (c,) float64, NaN where the text search found nothing.
    word_relevance: (c,) float32 in 0..1, what the telling words say by themselves. score: what they
    are ordered by, (c,) float64, comparable within one order. relevance: calibrated probabilities,
    (c,) float32, NaN until `calibrate`.
    """

    ids: RowNumbers
    rows: RowNumbers
    similarity: Vector
    match: Vector
    text_score: NDArray[np.float64]
    word_relevance: Vector
    score: NDArray[np.float64]
    relevance: Vector

    @classmethod
    def of(
        cls,
        ids: RowNumbers,
        rows: RowNumbers,
        similarity: Vector,
        text_score: NDArray[np.float64] | None = None,
    ) -> Self:
        """Candidates that neither a reranker nor a calibration has seen."""
        unknown = np.full(len(ids), np.nan, np.float32)
        if text_score is None:
            text_score = unknown.astype(np.float64)
        nothing = np.zeros(len(ids), np.float32)
        score = similarity.astype(np.float64)
        return cls(ids, rows, similarity, unknown, text_score, nothing, score, unknown)

    @classmethod
    def none(cls) -> Self:
        """No candidates."""
        nothing = np.empty(0, np.int64)
        return cls.of(nothing, nothing, np.empty(0, np.float32))

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def found_by_words(self) -> NDArray[np.bool_]:
        """Tell which are found by telling words, whatever they look like, (c,) bool."""
        found: NDArray[np.bool_] = self.word_relevance >= FOUND_BY_WORDS
        return found

    def take(self, places: Any) -> Self:
        """Those at some places, as NumPy indexes: numbers, a mask or a slice."""
        return type(self)(*(values[places] for values in vars(self).values()))


def with_spare(count: int) -> int:
    """Return the number of rows to fetch for a number of items."""
    return count + max(_SPARE_ROWS, count // 4)


def propose(
    searcher: Searcher,
    vectors: Sequence[Vector],
    counts: Sequence[int],
    allowed: Sequence[AllowedRows | None],
    query_kinds: Sequence[Modality],
) -> list[RowNumbers]:
    """Propose rows for each of q queries; those searched alike go through the index together.

    vectors: (d,) float32, unit. counts: how many items are wanted. allowed: the only rows to be
    found; None: all. query_kinds: modalities of the queries, as the index is tuned for each.
    Returns distinct rows in no order, for each query at least `with_spare(count)` unless there are
    fewer.
    """
    alike: dict[tuple[Modality, int, int | None], list[int]] = {}
    bitmaps = [None if rows is None else id(rows.bitmap) for rows in allowed]
    for place, key in enumerate(zip(query_kinds, counts, bitmaps, strict=True)):
        alike.setdefault(key, []).append(place)
    proposed: dict[int, RowNumbers] = {}
    for (query_kind, count, _), places in alike.items():
        found = searcher.candidates(
            np.stack([vectors[place] for place in places]),
            with_spare(count),
            allowed[places[0]],
            query_kind,
        )
        proposed.update(zip(places, found, strict=True))
    return [proposed[place][proposed[place] >= 0] for place in range(len(vectors))]


def at_rows(
    rows: RowNumbers, similarity: Vector, items: Mapping[int, Sequence[Item]]
) -> Candidates:
    """Find the items at rows, in their order; copies share a row, some rows hold none."""
    numbers = rows.tolist()
    ids = np.array([item.id for row in numbers for item in items[row]], np.int64)
    copies = [len(items[row]) for row in numbers]
    return Candidates.of(ids, np.repeat(rows, copies), np.repeat(similarity, copies))


@dataclass(frozen=True)
class TextMatches:
    """What a text search found, by row.

    scores: lexical. relevance: by telling words alone, 0..1, of those that hold any. exhausted:
    whether there are no others.
    """

    scores: Mapping[int, float]
    relevance: Mapping[int, float]
    exhausted: bool = True


NO_TEXT_MATCHES = TextMatches({}, {})


def best_text_matches(
    vector: Vector, found: TextMatches, embeddings: Rows, count: int
) -> tuple[RowNumbers, Vector]:
    """Order the rows of a text search by score, those of one score by similarity.

    Returns rows and exact cosines; at most `count` rows of each score, since no others can be among
    the first `count` whatever the similarity adds to the score.
    """
    rows = np.fromiter(found.scores, np.int64, len(found.scores))
    if not len(rows):
        return rows, np.empty(0, np.float32)
    nearest, similarity = refine(vector, np.sort(rows), embeddings)
    scores = np.array([found.scores[row] for row in nearest.tolist()])
    order = np.argsort(-scores, kind="stable")
    _, first, place = np.unique(-scores[order], return_index=True, return_inverse=True)
    order = order[np.arange(len(order)) - first[place] < count]
    return nearest[order], similarity[order]


def with_words(candidates: Candidates, found: TextMatches) -> Candidates:
    """Add what a text search found of the rows of candidates."""
    rows = candidates.rows.tolist()
    return replace(
        candidates,
        text_score=np.array([found.scores.get(row, np.nan) for row in rows], np.float64),
        word_relevance=np.array([found.relevance.get(row, 0.0) for row in rows], np.float32),
    )


def first_rows(
    allowed: NDArray[np.bool_] | None, limit: int, row_count: int
) -> NDArray[np.bool_] | None:
    """Leave only the first `limit` of `row_count` rows; None stands for all of them."""
    if limit >= row_count:
        return allowed
    return np.ones(limit, np.bool_) if allowed is None else allowed[:limit]

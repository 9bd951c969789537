"""In what order candidates become hits: by meaning, by words, by file, and spread out.

Each order is the same whatever number of hits is wanted of it, so that pages fit together: what
looks at more than one candidate looks at a pool of a fixed size.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from retrieval.catalog import Item
from retrieval.rerankers.stage import RerankOutcome
from retrieval.search.answer import Hit
from retrieval.search.candidates import Candidate
from retrieval.search.rank_fusion import maximal_marginal_relevance, reciprocal_rank_fusion

FUSED_POOL = 200
"""How many of the best by meaning and by words are joined; more, where more are reranked."""

DIVERSE_POOL = 200
"""How many of the best are spread out; the others follow as they are."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """A candidate in its place. score: what it was put there by, comparable within one order.

    The other scores are as in `Hit`.
    """

    candidate: Candidate
    score: float
    match: float | None = None
    words: float | None = None
    relevance: float | None = None
    group: tuple[int, ...] = ()

    @property
    def item(self) -> Item:
        """What was found."""
        return self.candidate.item

    def hit(self, rank: int) -> Hit:
        """What it is in an answer."""
        return Hit(
            rank,
            self.item,
            self.candidate.similarity,
            self.match,
            self.relevance,
            self.words,
            self.group,
        )


def by_meaning(
    candidates: Sequence[Candidate], outcome: RerankOutcome | None = None
) -> list[Ranked]:
    """Put what was reranked into the order of its joined scores, and before all others.

    candidates: the most similar first; outcome: of the first of them.
    """
    if outcome is None:
        return [Ranked(candidate, candidate.similarity) for candidate in candidates]
    reranked = [
        Ranked(candidates[place], joined, match)
        for place, match, joined in zip(outcome.order, outcome.matches, outcome.joined, strict=True)
    ]
    done = set(outcome.order)
    rest = (candidate for place, candidate in enumerate(candidates) if place not in done)
    return [*reranked, *(Ranked(candidate, candidate.similarity) for candidate in rest)]


def with_words(
    ranked: Sequence[Ranked], found: Sequence[Candidate], words: Mapping[int, float], pool: int
) -> list[Ranked]:
    """Join the first `pool` by meaning with what the words found, by reciprocal ranks.

    found: by words, the best first. words: their scores by row. The rest by meaning follows.
    """
    first = {one.item.id: one for one in ranked[:pool]}
    found_by_id = {candidate.item.id: candidate for candidate in found}
    fused = []
    for item_id, score in reciprocal_rank_fusion([list(first), list(found_by_id)]):
        one = first.get(item_id) or Ranked(found_by_id[item_id], score)
        found_here = words.get(one.candidate.row) if item_id in found_by_id else None
        fused.append(replace(one, score=score, words=found_here))
    rest = (one for one in ranked[pool:] if one.item.id not in found_by_id)
    # Below any fused score, so that all are on one scale.
    return [*fused, *(replace(one, score=0.0) for one in rest)]


def by_words(found: Sequence[Candidate], words: Mapping[int, float]) -> list[Ranked]:
    """What the words found, the best first."""
    return [Ranked(candidate, score := words[candidate.row], words=score) for candidate in found]


def relevant(
    ranked: Sequence[Ranked],
    relevance: Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]],
    least: float,
) -> list[Ranked]:
    """Give each its relevance, and leave out those below the least that words did not find.

    relevance: of (n,) similarities and (n,) matches, NaN where there is none.
    """
    if not ranked:
        return []
    similarity = np.array([one.candidate.similarity for one in ranked], np.float32)
    match = np.array([np.nan if one.match is None else one.match for one in ranked], np.float32)
    return [
        replace(one, relevance=chance)
        for one, chance in zip(ranked, relevance(similarity, match).tolist(), strict=True)
        if chance >= least or one.words is not None
    ]


def one_of_each_file(ranked: Iterable[Ranked]) -> list[Ranked]:
    """Keep the first of each file: frames of a video, pages and passages of a document.

    The ids of the others, in their order, are its group.
    """
    files: dict[str, list[Ranked]] = {}
    for one in ranked:
        files.setdefault(one.item.path, []).append(one)
    return [
        replace(best, group=tuple(other.item.id for other in others)) if others else best
        for best, *others in files.values()
    ]


def spread_out(
    ranked: Sequence[Ranked], vectors: NDArray[np.float32], diversity: float
) -> list[Ranked]:
    """Order the first by maximal marginal relevance. vectors: (pool, d) float32, unit, of these."""
    # What was not reranked stands below, though its score may be on another scale.
    scores = np.minimum.accumulate(
        np.array([one.score for one in ranked[: len(vectors)]], np.float32)
    )
    order = maximal_marginal_relevance(scores, vectors, diversity)
    return [*(ranked[place] for place in order), *ranked[len(vectors) :]]


def without(ranked: Iterable[Ranked], item_ids: frozenset[int]) -> list[Ranked]:
    """Leave out some items, and groups that hold any of them."""
    if not item_ids:
        return list(ranked)
    return [one for one in ranked if one.item.id not in item_ids and item_ids.isdisjoint(one.group)]

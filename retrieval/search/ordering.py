"""In what order candidates become hits: by vector, by text, by file, and diverse.

Each order is the same whatever number of hits is wanted of it, so that pages fit together: what
looks at more than one candidate looks at a pool of a fixed size.
"""

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from retrieval.catalog import Item
from retrieval.rerankers.base import join
from retrieval.search.candidates import Candidates, Vector
from retrieval.search.query import Sort
from retrieval.search.rank_fusion import maximal_marginal_relevance
from retrieval.search.relevance import Curve

DIVERSE_POOL = 200
"""How many of the best are diversified; the others follow as they are."""

Groups = Mapping[int, tuple[int, ...]]
"""Ids of other items of the same file, the best first, by the id of the one that stands for it."""

_File = TypeVar("_File")


def rank_by_vector(
    candidates: Candidates, match: Vector | None = None, weight: float = 0.0
) -> Candidates:
    """Put what was reranked into the order of its joined scores, and before all others.

    candidates: the most similar first. match: (r,) scores of a reranker for the first r of them,
    NaN for what it could not score. weight: of the match in the joined score. Of equals, the more
    similar comes first.
    """
    if match is None:
        return candidates
    joined = join(candidates.similarity[: len(match)], match, weight)
    scored = np.flatnonzero(~np.isnan(match))
    best = scored[np.argsort(-joined[scored], kind="stable")]
    is_rest = np.ones(len(candidates), np.bool_)
    is_rest[best] = False
    all_match, score = candidates.match.copy(), candidates.score.copy()
    all_match[: len(match)] = match
    score[best] = joined[best]
    return replace(candidates, match=all_match, score=score).take(
        np.concatenate([best, np.flatnonzero(is_rest)])
    )


def rank_by_text(found: Candidates) -> Candidates:
    """Take what the text search found as it stands, in the order of its text score."""
    return replace(found, score=found.text_score)


def join_lexical(ranked: Candidates, found: Candidates) -> Candidates:
    """Add what only the text search found to what was ranked by vector.

    What was reranked stays first; all others follow by similarity, of equals the older row first.
    """
    joined = _concatenate([ranked, found.take(~np.isin(found.ids, ranked.ids))])
    is_rest = np.isnan(joined.match)
    rest = np.flatnonzero(is_rest)
    by_similarity = np.lexsort((joined.rows[rest], -joined.similarity[rest]))
    return joined.take(np.concatenate([np.flatnonzero(~is_rest), rest[by_similarity]]))


def calibrate(
    candidates: Candidates, curve: Curve, least: float, *, is_hybrid: bool = False
) -> Candidates:
    """Give each its relevance, and leave out those below the least that words did not find.

    is_hybrid: order them by their relevance, too.
    """
    candidates = replace(candidates, relevance=curve(candidates.similarity))
    candidates = fuse_lexical(candidates) if is_hybrid else _with_relevance_of_words(candidates)
    if not least:
        return candidates
    return candidates.take((candidates.relevance >= least) | candidates.found_by_words)


def fuse_lexical(candidates: Candidates) -> Candidates:
    """Order candidates by their relevance, to which their words add.

    candidates: with a relevance by vector; reranked ones in the order of their joined scores, in
    which they share out their relevances. Of equals, the earlier stays first.
    """
    relevance = candidates.relevance.copy()
    reranked = np.flatnonzero(~np.isnan(candidates.match))
    relevance[reranked] = -np.sort(-relevance[reranked])
    fused = _with_relevance_of_words(replace(candidates, relevance=relevance))
    fused = fused.take(np.argsort(-fused.relevance, kind="stable"))
    return replace(fused, score=fused.relevance.astype(np.float64))


def _with_relevance_of_words(candidates: Candidates) -> Candidates:
    """Join relevances as independent evidence: 1 - (1 - p)(1 - p of the words)."""
    meaning = candidates.relevance.astype(np.float64)  # so that rounding changes no order
    joined = meaning + (1 - meaning) * candidates.word_relevance
    return replace(candidates, relevance=joined.astype(np.float32))


def exclude(
    candidates: Candidates, ids: Collection[int], groups: Groups = MappingProxyType({})
) -> Candidates:
    """Leave out some items, and those that stand for any of them."""
    if not ids:
        return candidates
    excluded = set(ids)
    return candidates.take(
        [
            place
            for place, item_id in enumerate(candidates.ids.tolist())
            if item_id not in excluded and excluded.isdisjoint(groups.get(item_id, ()))
        ]
    )


def collapse_by_file(
    candidates: Candidates, files: Sequence[_File]
) -> tuple[Candidates, dict[int, tuple[int, ...]]]:
    """Keep the first of each file: frames of a video, pages and chunks of a document.

    files: of each candidate. Returns those left, and the ids of the others by that of the first.
    """
    places: dict[_File, list[int]] = {}
    for place, file in enumerate(files):
        places.setdefault(file, []).append(place)
    ids = candidates.ids.tolist()
    groups = {
        ids[first]: tuple(ids[place] for place in others)
        for first, *others in places.values()
        if others
    }
    return candidates.take([first for first, *_ in places.values()]), groups


def places_in_order(items: Sequence[Item], sort: Sort) -> list[int]:
    """List the places of items in an order by date or by name."""
    if sort is Sort.NAME:
        # As the catalog lists them: by the bytes of the path.
        return sorted(
            range(len(items)), key=lambda place: (os.fsencode(items[place].path), items[place].id)
        )
    dates = [item.taken_local for item in items]
    return _places_by_date(dates, oldest_first=sort is Sort.DATE_ASC)


def _places_by_date(dates: Sequence[datetime | None], *, oldest_first: bool) -> list[int]:
    """List the places of dates in their order, those of None last. Of equals, the first first."""
    known = [place for place, date in enumerate(dates) if date is not None]
    # Reversed twice, so that equals keep their order where the newest come first.
    order = sorted(
        known if oldest_first else reversed(known), key=lambda place: dates[place] or datetime.min
    )
    if not oldest_first:
        order.reverse()
    return [*order, *(place for place, date in enumerate(dates) if date is None)]


def diversify(candidates: Candidates, vectors: NDArray[np.float32], diversity: float) -> Candidates:
    """Order the first by maximal marginal relevance. vectors: (pool, d) float32, unit, of these."""
    pool = len(vectors)
    # What was not reranked stands below, though its score may be on another scale.
    scores = np.minimum.accumulate(candidates.score[:pool].astype(np.float32))
    order = maximal_marginal_relevance(scores, vectors, diversity)
    return candidates.take([*order, *range(pool, len(candidates))])


def _concatenate(parts: Sequence[Candidates]) -> Candidates:
    arrays = zip(*(vars(part).values() for part in parts), strict=True)
    return Candidates(*(np.concatenate(values) for values in arrays))

"""In what order candidates become hits: by vector, by text, by file, and diverse.

Each order is the same whatever number of hits is wanted of it, so that pages fit together: what
looks at more than one candidate looks at a pool of a fixed size.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from retrieval.rerankers.base import join
from retrieval.search.candidates import Candidates, Vector
from retrieval.search.rank_fusion import maximal_marginal_relevance, reciprocal_rank_fusion
from retrieval.search.relevance import Curve

FUSED_POOL = 200
"""How many of the best by vector and by text are fused; more, where more are reranked."""

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
    """Order what the text search found by its text score alone, as it stands."""
    return replace(found, score=found.text_score)


def fuse_lexical(ranked: Candidates, found: Candidates, pool: int) -> Candidates:
    """Fuse the first `pool` by vector with what the text search found, by reciprocal ranks.

    ranked: by vector, best first. found: by text, best first. The rest by vector follows.
    """
    first, rest = ranked.take(slice(pool)), ranked.take(slice(pool, None))
    fused = reciprocal_rank_fusion([first.ids.tolist(), found.ids.tolist()])
    rest = rest.take(~np.isin(rest.ids, found.ids))
    both = _concatenate([first, found.take(~np.isin(found.ids, first.ids)), rest])
    place_of = {item_id: place for place, item_id in enumerate(both.ids.tolist())}
    text_score = np.full(len(both), np.nan)
    text_score[[place_of[item_id] for item_id in found.ids.tolist()]] = found.text_score
    places = [place_of[item_id] for item_id, _ in fused]
    score = np.zeros(len(both))  # of the rest: below any fused score, so that all are on one scale
    score[places] = [score for _, score in fused]
    order = [*places, *range(len(places), len(both))]
    return replace(both, text_score=text_score, score=score).take(order)


def calibrate(
    candidates: Candidates,
    curve: Curve,
    least: float,
    telling: NDArray[np.bool_] | None = None,
) -> Candidates:
    """Give each its relevance, and leave out those below the least.

    telling: (c,), which stay whatever their relevance, as words that tell files apart have found
    them; None: none of them.
    """
    relevance = curve(candidates.similarity)
    candidates = replace(candidates, relevance=relevance)
    if not least:
        return candidates
    kept = relevance >= least
    return candidates.take(kept if telling is None else kept | telling)


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

"""Reranking: the match of a query's texts or images with its candidates, within a time budget."""

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from retrieval.catalog import Item
from retrieval.encoders.base import Pixels, Tokens
from retrieval.media import Modality
from retrieval.media.items import read_item_image_if_unchanged
from retrieval.rerankers.base import ImageSimilarityReranker, Reranker, Scores
from retrieval.search.query import AudioPart, Mode, Query, VectorPart
from retrieval.search.relevance import QueryKind

_LOOKS_AT_MOST = 64
_DECODES_AT_MOST = 8
"""Candidates a step: the clock is read between steps, and reading images is what takes time.

Where scoring takes longer, rerankers have smaller steps: `images_per_step` without tokens in the
store, `pairs_per_step` of all.
"""

TokenValues = NDArray[np.floating]


PixelLimit = Callable[[], int | None]
"""Tells the limit of an image's pixels; None: the default."""


class TokenStore(Protocol):
    """Where tokens of images are kept; see `TokenCache`."""

    def get(self, identity: str, content_hash: str) -> TokenValues | None:
        """Tokens of an image, (t, c), or None when they are not here."""
        ...

    def put(self, identity: str, content_hash: str, values: NDArray[np.float32]) -> TokenValues:
        """Keep tokens of an image, (t, c); returns the values that `get` will give."""
        ...


@dataclass(frozen=True)
class Scorer:
    """How one query scores items by their tokens, (n,), and how much that counts (`join`)."""

    score: Callable[[Tokens], Scores]
    weight: float


@dataclass(frozen=True, eq=False)
class RerankOutcome:
    """What a reranker says of the first candidates of a query.

    match: (r,) float32 of those that there was time for, NaN for what could not be read; None where
    the query itself could not be read. weight: of the match in the joined score.
    """

    match: Scores | None
    weight: float = 0.0
    warnings: tuple[str, ...] = ()


def can_rerank(reranker: Reranker, query: Query, mode: Mode, kind: QueryKind) -> bool:
    """Return whether a reranker can score what a query asks for and is to find."""
    if query.modality is not Modality.IMAGE or mode is Mode.TEXT:
        return False
    return bool(query.text_parts) or (
        kind is Modality.IMAGE
        and isinstance(reranker, ImageSimilarityReranker)
        and not any(isinstance(part, VectorPart | AudioPart) for part in query.parts)
    )


def text_scorer(reranker: Reranker, texts: Tokens, weights: Sequence[float]) -> Scorer:
    """Match m texts with images; several give a mean by their signed weights."""
    shares = _shares(weights)
    trust = float(np.abs(shares) @ reranker.text_query_weight(texts))
    return Scorer(
        lambda images: shares @ reranker.match(texts, images), trust * reranker.match_weight
    )


def image_text_scorer(reranker: Reranker, image: Tokens) -> Scorer:
    """Match an image, (1, t, c), with texts."""
    trust = float(reranker.image_query_weight(image)[0])
    return Scorer(lambda texts: reranker.match(texts, image)[:, 0], trust * reranker.match_weight)


def image_scorer(reranker: Reranker, images: Sequence[Tokens], weights: Sequence[float]) -> Scorer:
    """Compare images, (1, t, c) each, with others: the scores are image similarities, -1 to 1."""
    assert isinstance(reranker, ImageSimilarityReranker)
    shares = _shares(weights)
    return Scorer(
        lambda found: shares @ np.stack([reranker.image_similarity(q, found) for q in images]),
        reranker.image_similarity_weight,
    )


def rerank(
    items: Sequence[Item],
    scorer: Scorer,
    reranker: Reranker,
    store: TokenStore,
    *,
    budget_ms: float | None = None,
    since: float | None = None,
    max_pixels: PixelLimit = lambda: None,
) -> RerankOutcome:
    """Score the first candidates of a query, in their order, while there is time.

    One whose file is gone, changed or unreadable, and whose tokens are not in the store, is not
    scored.

    Args:
        items: the candidates to rerank, the most similar first.
        scorer: of the query.
        reranker: whose tokens the scorer needs.
        store: where tokens of images are kept.
        budget_ms: wall time after which no further candidates are taken up; None: no limit. It
            counts from the end of the first step, which is always done and may load a model.
        since: it counts from this instant of `time.monotonic` instead, and there may be no step.
        max_pixels: asked for the limit of images that have to be read, as `read_item_image` takes
            it.
    """
    budget_s = np.inf if budget_ms is None else budget_ms / 1000
    deadline = np.inf if since is None else since + budget_s
    match = np.full(len(items), np.nan, np.float32)
    start = 0
    while start < len(items) and time.monotonic() < deadline:
        tokens, end = _next_tokens(items, start, reranker, store, max_pixels)
        if readable := {place: values for place, values in tokens.items() if values is not None}:
            match[[*readable]] = scorer.score(stack_tokens([*readable.values()]))
        if not start and since is None:
            deadline = time.monotonic() + budget_s
        start = end
    return RerankOutcome(match[:start], scorer.weight, warnings_of(match, start, budget_s))


def item_tokens(
    item: Item, reranker: Reranker, store: TokenStore, max_pixels: PixelLimit = lambda: None
) -> Tokens | None:
    """Load an item's image tokens, (1, t, c); None if they are not available."""
    [values] = _next_tokens([item], 0, reranker, store, max_pixels)[0].values()
    return None if values is None else stack_tokens([values])


def has_tokens(item: Item, reranker: Reranker, store: TokenStore) -> bool:
    """Return whether the tokens of an item's image are in the store."""
    return store.get(reranker.identity, item.picture_key) is not None


def read_pixels(item: Item, reranker: Reranker, max_pixels: int | None) -> Pixels | None:
    """Read an item's image as a reranker takes it; None if its file is gone, changed or damaged."""
    image = read_item_image_if_unchanged(item, max_pixels)
    return None if image is None else reranker.preprocess(image)


def keep_tokens(
    items: Sequence[Item], pixels: Sequence[Pixels], reranker: Reranker, store: TokenStore
) -> dict[int, TokenValues]:
    """Make tokens of n images and put them into the store; returns the finite ones by place."""
    made = reranker.image_tokens(np.stack(pixels))
    return {
        # As the store will give them, so that the first answer is the same as the next ones.
        place: store.put(reranker.identity, item.picture_key, values[mask])
        for place, (item, values, mask) in enumerate(
            zip(items, made.values, made.mask, strict=True)
        )
        if np.isfinite(values[mask]).all()
    }


def stack_tokens(tokens: Sequence[TokenValues]) -> Tokens:
    """Pad n times (t, c) to (n, longest t, c), masked where nothing is.

    Float16 stays what it is where all are: rerankers convert a batch faster than one by one.
    """
    longest = max(len(values) for values in tokens)
    dtype = np.result_type(*tokens)
    stacked = np.zeros((len(tokens), longest, tokens[0].shape[1]), dtype)
    mask = np.zeros(stacked.shape[:2], np.bool_)
    for row, values in enumerate(tokens):
        stacked[row, : len(values)] = values
        mask[row, : len(values)] = True
    return Tokens(stacked, mask)


def warnings_of(match: Scores, taken_up: int, budget_s: float) -> tuple[str, ...]:
    """Say how many candidates were not reranked, and why. match: of all candidates."""
    total = len(match)
    warnings = []
    if taken_up < total:
        warnings.append(
            f"Only the first {taken_up} of {total} candidates were reranked in the "
            f"{1000 * budget_s:,.0f} ms that were allowed."
        )
    if missing := int(np.isnan(match[:taken_up]).sum()):
        warnings.append(
            f"{missing} of {total} candidates could not be reranked: their files are gone, "
            "changed, unreadable or larger than the limit of pixels here. `mmsearch index` brings "
            "the library up to date; if their folder was moved, `mmsearch relocate OLD NEW` does; "
            "if deleted, `mmsearch remove`."
        )
    return tuple(warnings)


def _next_tokens(
    items: Sequence[Item],
    start: int,
    reranker: Reranker,
    store: TokenStore,
    max_pixels: PixelLimit,
) -> tuple[dict[int, TokenValues | None], int]:
    """Tokens of the next candidates by place, None where they cannot be had; where to go on."""
    tokens: dict[int, TokenValues | None] = {}
    missing: list[int] = []
    looks_at_most = getattr(reranker, "pairs_per_step", _LOOKS_AT_MOST)
    decodes_at_most = getattr(reranker, "images_per_step", _DECODES_AT_MOST)
    place = start
    while place < len(items) and place - start < looks_at_most:
        tokens[place] = store.get(reranker.identity, items[place].picture_key)
        if tokens[place] is None:
            missing.append(place)
        place += 1
        if len(missing) == decodes_at_most:
            break
    if missing:
        wanted = {place: items[place] for place in missing}
        tokens |= _make_tokens(wanted, reranker, store, max_pixels())
    return tokens, place


def _make_tokens(
    items: dict[int, Item], reranker: Reranker, store: TokenStore, max_pixels: int | None
) -> dict[int, TokenValues | None]:
    with ThreadPoolExecutor(min(len(items), os.cpu_count() or 1)) as pool:
        read = pool.map(lambda item: read_pixels(item, reranker, max_pixels), items.values())
        pixels = dict(zip(items, read, strict=True))
    readable = {place: value for place, value in pixels.items() if value is not None}
    if not readable:
        return {}
    places = [*readable]
    made = keep_tokens([items[place] for place in places], [*readable.values()], reranker, store)
    return {places[number]: values for number, values in made.items()}


def _shares(weights: Sequence[float]) -> NDArray[np.float32]:
    signed = np.array(weights, np.float32)
    shares: NDArray[np.float32] = signed / np.abs(signed).sum()
    return shares

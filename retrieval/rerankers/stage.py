"""The rerank stage: the match of a query's texts with its candidates, within a time budget."""

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from retrieval.catalog import Item
from retrieval.encoders.base import Pixels, Tokens
from retrieval.media.items import read_item_image_if_unchanged
from retrieval.rerankers.base import ImageSimilarityReranker, Reranker, Scores, join

_LOOKS_AT_MOST = 64
_DECODES_AT_MOST = 8
"""Candidates a step: the clock is read between steps, and reading images is what takes time."""


@dataclass(frozen=True)
class RerankOutcome:
    """Which candidates were matched, best joined score first, and with what logit.

    order: positions in the list of candidates. The others are to follow in the order they had.
    joined: the scores that put them into this order.
    taken_up: how many candidates there was time for; those among them that could not be read are
    not in the order.
    """

    order: tuple[int, ...]
    matches: tuple[float, ...]
    joined: tuple[float, ...]
    warnings: tuple[str, ...]
    taken_up: int


class TokenStore(Protocol):
    """Where tokens of images are kept; see `TokenCache`."""

    def get(self, identity: str, content_hash: str) -> NDArray[np.floating] | None:
        """Tokens of an image, (t, c), or None when they are not here."""
        ...

    def put(
        self, identity: str, content_hash: str, values: NDArray[np.float32]
    ) -> NDArray[np.floating]:
        """Keep tokens of an image, (t, c); returns the values that `get` will give."""
        ...


class ImageReranking:
    """Matches texts with images of a library, whose tokens are kept in a cache.

    budget_ms: wall time after which no further candidates are taken up; None: no limit. It counts
    from the end of the first step, which is always done and may have to load a model. since: it
    counts from this instant of `time.monotonic` instead, and there may be no step at all.
    """

    def __init__(
        self,
        reranker: Reranker,
        cache: TokenStore,
        budget_ms: float | None = None,
        since: float | None = None,
    ) -> None:
        self.reranker = reranker
        self._cache = cache
        self._since = since
        self._budget_s = np.inf if budget_ms is None else budget_ms / 1000

    def rank(
        self, texts: Sequence[tuple[str, float]], items: Sequence[Item], similarity: Scores
    ) -> RerankOutcome:
        """Match weighted texts with candidates, best first; several texts give a weighted mean.

        texts: with their signed weights. items: n candidates, the most similar first. similarity:
        (n,) float32.

        Candidates are taken up in their order. One whose file is gone, changed or unreadable, and
        whose tokens are not in the cache, is left out.
        """
        tokens = self.reranker.text_tokens([text for text, _ in texts])
        return self.rank_by_texts(tokens, [weight for _, weight in texts], items, similarity)

    def rank_by_texts(
        self, texts: Tokens, weights: Sequence[float], items: Sequence[Item], similarity: Scores
    ) -> RerankOutcome:
        """As `rank`, by the reranker's tokens of m texts."""
        shares = _shares(weights)
        trust = float(np.abs(shares) @ self.reranker.text_query_weight(texts))

        def match(images: Tokens) -> Scores:
            return shares @ self.reranker.match(texts, images)

        return self._rank(match, trust * self.reranker.match_weight, items, similarity)

    def rank_like(
        self,
        images: Sequence[tuple[Image.Image, float]],
        items: Sequence[Item],
        similarity: Scores,
    ) -> RerankOutcome:
        """The same for weighted upright RGB images; the matches are image similarities, -1 to 1."""
        pixels = np.stack([self.reranker.preprocess(image) for image, _ in images])
        tokens = self.reranker.image_tokens(pixels)
        queries = [Tokens(tokens.values[[i]], tokens.mask[[i]]) for i in range(len(images))]
        return self.rank_by_images(queries, [weight for _, weight in images], items, similarity)

    def rank_by_images(
        self,
        images: Sequence[Tokens],
        weights: Sequence[float],
        items: Sequence[Item],
        similarity: Scores,
    ) -> RerankOutcome:
        """As `rank_like`, by the reranker's tokens of images, (1, t, c) each."""
        shares, reranker = _shares(weights), self.reranker
        assert isinstance(reranker, ImageSimilarityReranker)

        def similarity_to_query(found: Tokens) -> Scores:
            return shares @ np.stack([reranker.image_similarity(query, found) for query in images])

        return self._rank(similarity_to_query, reranker.image_similarity_weight, items, similarity)

    def tokens_of(self, item: Item) -> Tokens | None:
        """What the reranker needs of an item's picture, (1, t, c); None where it cannot be had."""
        [values] = self._next_tokens([item], 0)[0].values() or [None]
        return None if values is None else stack_tokens([values])

    def _rank(
        self,
        score: Callable[[Tokens], Scores],
        weight: float,
        items: Sequence[Item],
        similarity: Scores,
    ) -> RerankOutcome:
        places: list[int] = []
        matches: list[Scores] = []
        start = 0
        deadline = np.inf if self._since is None else self._since + self._budget_s
        while start < len(items) and time.monotonic() < deadline:
            tokens, end = self._next_tokens(items, start)
            readable = [place for place, values in tokens.items() if values is not None]
            if readable:
                stacked = stack_tokens([values for values in tokens.values() if values is not None])
                matches.append(score(stacked))
                places.extend(readable)
            if not start and self._since is None:
                deadline = time.monotonic() + self._budget_s
            start = end
        match = np.concatenate([np.empty(0, np.float32), *matches])
        joined = join(similarity[places], match, weight)
        order = np.lexsort((np.array(places), -joined))
        return RerankOutcome(
            order=tuple(places[i] for i in order),
            matches=tuple(match[order].tolist()),
            joined=tuple(joined[order].tolist()),
            warnings=self._warnings(start, len(places), len(items)),
            taken_up=start,
        )

    def _warnings(self, taken_up: int, matched: int, total: int) -> tuple[str, ...]:
        warnings = []
        if taken_up < total:
            warnings.append(
                f"Only the first {taken_up} of {total} candidates were reranked in the "
                f"{1000 * self._budget_s:,.0f} ms that were allowed."
            )
        if missing := taken_up - matched:
            warnings.append(
                f"{missing} of {total} candidates could not be reranked: their files are gone, "
                "changed or unreadable. `mmsearch index` brings the library up to date."
            )
        return tuple(warnings)

    def _next_tokens(
        self, items: Sequence[Item], start: int
    ) -> tuple[dict[int, NDArray[np.floating] | None], int]:
        """Tokens of the next candidates by place, None where they cannot be had; where to go on."""
        tokens: dict[int, NDArray[np.floating] | None] = {}
        missing: list[int] = []
        place = start
        while place < len(items) and place - start < _LOOKS_AT_MOST:
            tokens[place] = self._cache.get(self.reranker.identity, items[place].picture_key)
            if tokens[place] is None:
                missing.append(place)
            place += 1
            if len(missing) == _DECODES_AT_MOST:
                break
        tokens.update(self._make_tokens({place: items[place] for place in missing}))
        return tokens, place

    def _make_tokens(self, items: dict[int, Item]) -> dict[int, NDArray[np.floating]]:
        if not items:
            return {}
        with ThreadPoolExecutor(min(len(items), os.cpu_count() or 1)) as pool:
            pixels = dict(zip(items, pool.map(self._read, items.values()), strict=True))
        readable = {place: value for place, value in pixels.items() if value is not None}
        if not readable:
            return {}
        made = self.reranker.image_tokens(np.stack(list(readable.values())))
        tokens: dict[int, NDArray[np.floating]] = {}
        for place, values, mask in zip(readable, made.values, made.mask, strict=True):
            if not np.isfinite(values[mask]).all():
                continue
            # As the cache will give them, so that the first answer is the same as the next ones.
            key = items[place].picture_key
            tokens[place] = self._cache.put(self.reranker.identity, key, values[mask])
        return tokens

    def _read(self, item: Item) -> Pixels | None:
        image = read_item_image_if_unchanged(item)
        return None if image is None else self.reranker.preprocess(image)


def _shares(weights: Sequence[float]) -> NDArray[np.float32]:
    signed = np.array(weights, np.float32)
    shares: NDArray[np.float32] = signed / np.abs(signed).sum()
    return shares


def stack_tokens(tokens: Sequence[NDArray[np.floating]]) -> Tokens:
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

"""Simulate searches in libraries of all sizes drawn from captioned photos, to calibrate relevance.

Some libraries hold a relevant photo, some do not: a calibration is fitted to both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from retrieval.search.relevance import SAMPLE_ROWS
from retrieval.training.fitting import Floats, Gallery, caption_similarity, chance_of_fit

HITS = 20
"""The best of a search; beyond them, as many places that lie ever farther apart."""

SMALLEST_LIBRARY = 4
WITHOUT_SHARE = 0.1
"""Share of searches whose library has lost all photos that may be relevant."""

GATHERED_SHARE = 0.2
"""Share of searches in whose library any share of the photos is relevant, as in a folder of dogs.
In others, photos are as frequent as in the gallery."""

ANSWERED_SHARE = 2 / 3
"""Share of those others whose library holds a relevant photo for sure, however small it is."""

KIND_SHARES = {"caption": 0.2, "word": 0.35, "phrase": 0.25, "outside": 0.2}
"""Shares of the text queries."""

_FITS = 0.5
_UNFIT = 0.15
"""Photos between these, and those of which nobody can say, are in no library without an answer."""

Kind = Literal["caption", "word", "phrase", "outside", "image"]


@dataclass(frozen=True, eq=False)
class SimulatedQuery:
    """A query and its labels.

    vector: (d,) float32, unit. fits: (n,), the probability that each of the first n photos of the
    gallery is relevant, NaN where nobody can say; others are never searched. source_photo: the
    photo that the query was made from, if there is one.
    """

    kind: Kind
    text: str
    vector: Floats
    fits: Floats
    source_photo: int | None = None

    @property
    def text_asked(self) -> str:
        """Return the text that is searched for; "" for an image."""
        return "" if self.kind == "image" else self.text


@dataclass(frozen=True, eq=False)
class SimulatedSearch:
    """Hits of a query in one simulated library.

    similarity: (k,), best first. photos: (k,), rows of the gallery. fits: (k,), the probability
    that each hit is relevant, NaN where nobody can say. ranks: (k,), from 0: the best HITS, and
    others. cohort: (m,), similarities of a sample of the library. rows: size of the library.
    answered: whether it holds a relevant photo.
    """

    query: SimulatedQuery
    similarity: Floats
    photos: NDArray[np.int64]
    fits: Floats
    ranks: NDArray[np.int64]
    cohort: Floats
    rows: int
    answered: bool


def caption_queries(
    gallery: Gallery, vectors: Floats, asked: NDArray[np.int64]
) -> list[SimulatedQuery]:
    """Make queries of captions of the gallery.

    asked: numbers of captions. vectors: their embeddings, (len(asked), d). Where captions cannot
    label other photos, only the caption's own photo is relevant.
    """
    captions = [caption for photo in gallery.photos for caption in photo.captions]
    fits = np.zeros((len(asked), len(gallery.photos)), np.float32)
    if gallery.tells_what_fits:
        fits = chance_of_fit(caption_similarity(gallery.sentences[asked], gallery))
    owners = gallery.caption_owners[asked]
    fits[np.arange(len(asked)), owners] = 1
    return [
        SimulatedQuery("caption", captions[number], vector, fit, int(owner))
        for number, vector, fit, owner in zip(asked, vectors, fits, owners, strict=True)
    ]


def word_queries(
    words: Mapping[str, Floats], vectors: Sequence[Floats], kind: Kind = "word"
) -> list[SimulatedQuery]:
    """Make queries of words or phrases with their fits; vectors: (d,) of each."""
    return [
        SimulatedQuery(kind, word, vector, fits)
        for (word, fits), vector in zip(words.items(), vectors, strict=True)
    ]


def image_queries(gallery: Gallery, asked: NDArray[np.int64]) -> list[SimulatedQuery]:
    """Make queries of photos of the gallery.

    A photo is as relevant as it is to the best of the captions of the query photo.
    """
    numbers = np.flatnonzero(np.isin(gallery.caption_owners, asked))
    owners = gallery.caption_owners[numbers]
    chances = chance_of_fit(caption_similarity(gallery.sentences[numbers], gallery))
    return [
        SimulatedQuery(
            kind="image",
            text=gallery.photos[photo].path.name,
            vector=gallery.vectors[photo],
            fits=chances[owners == photo].max(0),
            source_photo=photo,
        )
        for photo in asked.tolist()
    ]


def simulate_searches(
    gallery: Gallery, queries: Sequence[SimulatedQuery], count: int, *, seed: int = 0
) -> list[SimulatedSearch]:
    """Draw `count` queries by the shares of their kinds, and search a library each.

    Sizes are drawn log-uniformly, from 4 to all photos that may be searched. The photo of an image
    query is never in the library: finding a picture by itself is no feat.
    """
    random = np.random.default_rng(seed)
    by_kind: dict[Kind, list[SimulatedQuery]] = {}
    for query in queries:
        by_kind.setdefault(query.kind, []).append(query)
    kinds = sorted(by_kind)
    shares = np.array([KIND_SHARES.get(kind, 1.0) for kind in kinds])
    weights = {kind: _weights(queries) for kind, queries in by_kind.items()}
    searches = []
    for _ in range(count):
        kind = kinds[random.choice(len(kinds), p=shares / shares.sum())]
        query = by_kind[kind][random.choice(len(by_kind[kind]), p=weights[kind])]
        searches.append(_search(gallery, query, random))
    return searches


def _weights(queries: Sequence[SimulatedQuery]) -> NDArray[np.float64]:
    """Weigh words and phrases by the root of how many photos show them: common ones are asked more.

    Returns shares of the queries of one kind, (q,).
    """
    weights = np.ones(len(queries))
    if queries[0].kind in {"word", "phrase"}:
        weights = np.sqrt([(query.fits > _FITS).sum() for query in queries])
    shares: NDArray[np.float64] = weights / weights.sum()
    return shares


def _search(
    gallery: Gallery, query: SimulatedQuery, random: np.random.Generator
) -> SimulatedSearch:
    total = len(query.fits)
    size = round(np.exp(random.uniform(np.log(SMALLEST_LIBRARY), np.log(total))))
    rows = _draw_library(query, size, random)
    similarity = gallery.vectors[rows] @ query.vector
    ranks = _looked_at(len(rows))
    best = np.argsort(-similarity, kind="stable")[ranks]
    sample = random.permutation(len(rows))[:SAMPLE_ROWS]
    return SimulatedSearch(
        query=query,
        similarity=similarity[best],
        photos=rows[best],
        fits=query.fits[rows[best]],
        ranks=ranks,
        cohort=similarity[sample],
        rows=len(rows),
        answered=bool((query.fits[rows] > _FITS).any()),
    )


def _draw_library(
    query: SimulatedQuery, size: int, random: np.random.Generator
) -> NDArray[np.int64]:
    """Choose about `size` photos of the gallery, (n,): among them many, some or none that fit."""
    photos = random.permutation(len(query.fits))
    if query.kind == "image":
        others: NDArray[np.int64] = photos[photos != query.source_photo][:size]
        return others
    fits = query.fits[photos]
    right, wrong = photos[fits > _FITS], photos[fits < _UNFIT]
    drawn = random.random()
    if not len(right) or drawn < WITHOUT_SHARE:
        without: NDArray[np.int64] = wrong[:size]
        return without
    if drawn < WITHOUT_SHARE + GATHERED_SHARE:
        count = min(len(right), max(1, round(random.random() * size)))
        return random.permutation(np.concatenate([right[:count], wrong[: max(0, size - count)]]))
    rows = photos[:size]
    if random.random() < ANSWERED_SHARE and not (query.fits[rows] > _FITS).any():
        rows[0] = query.source_photo if query.source_photo is not None else right[0]
    return rows


def _looked_at(rows: int) -> NDArray[np.int64]:
    """Choose ranks, (k,) from 0: the best, and others at growing distances."""
    rest = np.geomspace(HITS, max(rows, HITS), HITS)
    chosen = np.unique(np.round([*range(HITS), *rest]).astype(np.int64))
    return chosen[chosen < rows]


def outside_queries(
    texts: Sequence[str], vectors: Floats, photo_count: int
) -> list[SimulatedQuery]:
    """Make queries of texts that no photo is relevant to; vectors: (len(texts), d)."""
    nothing = np.zeros(photo_count, np.float32)
    return [
        SimulatedQuery("outside", text, vector, nothing)
        for text, vector in zip(texts, vectors, strict=True)
    ]

"""Simulate searches in libraries of all sizes drawn from captioned photos, to calibrate relevance.

Some libraries hold a relevant photo, some do not: a calibration is fitted to both.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from retrieval.search.relevance import SAMPLE_ROWS
from retrieval.training.fitting import Floats, Gallery, caption_similarity, chance_of_fit

HITS = 20
SMALLEST_LIBRARY = 4
ANSWERED_SHARE = 2 / 3
"""Share of searches whose library holds the photo of the caption, or photos that show the word."""

KIND_SHARES = {"caption": 0.45, "word": 0.25, "outside": 0.3}
"""Shares of the text queries; a little under half of all have a relevant photo."""

Kind = Literal["caption", "word", "outside", "image"]


@dataclass(frozen=True, eq=False)
class SimulatedQuery:
    """A query and its labels.

    vector: (d,) float32, unit. fits: (n,), the probability that each photo of the gallery is
    relevant. source_photo: the photo that the query was made from, if there is one.
    """

    kind: Kind
    text: str
    vector: Floats
    fits: Floats
    source_photo: int | None = None


@dataclass(frozen=True, eq=False)
class SimulatedSearch:
    """Hits of a query in one simulated library.

    similarity: (k,), best first. photos: (k,), rows of the gallery. fits: (k,), the probability
    that each hit is relevant. cohort: (m,), similarities of a sample of the library. rows: size of
    the library. answered: whether it holds the source photo, or photos that show the word.
    """

    query: SimulatedQuery
    similarity: Floats
    photos: NDArray[np.int64]
    fits: Floats
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


def word_queries(words: dict[str, Floats], vectors: Floats) -> list[SimulatedQuery]:
    """Make queries of the words of `naming_words`; vectors: (len(words), d), their embeddings."""
    return [
        SimulatedQuery("word", word, vector, fits)
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

    Sizes are drawn log-uniformly, from 4 to the whole gallery. The photo of an image query is never
    in the library: finding a picture by itself is no feat.
    """
    random = np.random.default_rng(seed)
    by_kind: dict[Kind, list[SimulatedQuery]] = {}
    for query in queries:
        by_kind.setdefault(query.kind, []).append(query)
    kinds = sorted(by_kind)
    shares = np.array([KIND_SHARES.get(kind, 1.0) for kind in kinds])
    searches = []
    for _ in range(count):
        kind = kinds[random.choice(len(kinds), p=shares / shares.sum())]
        query = by_kind[kind][random.integers(len(by_kind[kind]))]
        searches.append(_search(gallery, query, random))
    return searches


def _search(
    gallery: Gallery, query: SimulatedQuery, random: np.random.Generator
) -> SimulatedSearch:
    total = len(gallery.photos)
    size = round(np.exp(random.uniform(np.log(SMALLEST_LIBRARY), np.log(total))))
    allowed = np.ones(total, np.bool_)
    forced: list[int] = []
    answered = random.random() < ANSWERED_SHARE and query.kind in ("caption", "word")
    if query.kind == "word":
        allowed = (query.fits == 0) if not answered else allowed
        named = np.flatnonzero(query.fits == 1)
        forced = [int(random.choice(named))] if answered and len(named) else []
    elif query.source_photo is not None:
        forced = [query.source_photo] if answered else []
    if query.source_photo is not None:
        allowed[query.source_photo] = False
    allowed[forced] = False
    others = np.flatnonzero(allowed)
    wanted = max(0, min(size - len(forced), len(others)))
    rows = np.concatenate(
        [np.array(forced, np.int64), random.choice(others, wanted, replace=False)]
    )
    similarity = gallery.vectors[rows] @ query.vector
    best = np.argsort(-similarity, kind="stable")[:HITS]
    sample = random.permutation(len(rows))[:SAMPLE_ROWS]
    return SimulatedSearch(
        query=query,
        similarity=similarity[best],
        photos=rows[best],
        fits=query.fits[rows[best]],
        cohort=similarity[sample],
        rows=len(rows),
        answered=bool(answered),
    )


def outside_queries(
    texts: Sequence[str], vectors: Floats, photo_count: int
) -> list[SimulatedQuery]:
    """Make queries of texts that no photo is relevant to; vectors: (len(texts), d)."""
    nothing = np.zeros(photo_count, np.float32)
    return [
        SimulatedQuery("outside", text, vector, nothing)
        for text, vector in zip(texts, vectors, strict=True)
    ]

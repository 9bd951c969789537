"""Simulated searches: libraries of all sizes drawn from captioned photos, with and without answers.

A calibration learns from them what hits look like where there is something to find, and where there
is not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from retrieval.search.relevance import SAMPLE_ROWS
from retrieval.training.fitting import Floats, Gallery, chance_of_fit, likeness

HITS = 20
SMALLEST_LIBRARY = 4
ANSWERED_SHARE = 2 / 3
"""How often a caption's own photo, or the photos that show a word, are left in the library."""

KIND_SHARES = {"caption": 0.45, "word": 0.25, "outside": 0.3}
"""Of the text queries; so a little under half of them have an answer."""

Kind = Literal["caption", "word", "outside", "image"]


@dataclass(frozen=True, eq=False)
class Question:
    """A query and what fits it.

    vector: (d,) float32, unit. fits: (n,), the probability that each photo of the gallery is an
    answer. own: the photo that it was made from, if there is one.
    """

    kind: Kind
    text: str
    vector: Floats
    fits: Floats
    own: int | None = None


@dataclass(frozen=True, eq=False)
class Search:
    """What a question found in one simulated library.

    similarity: (k,) of the hits, best first; photos: (k,), which of the gallery they are; fits:
    (k,), the probability that each is an answer; cohort: (m,), similarities of a sample of the
    library. rows: how large the library was. answered: whether what the question was made from, or
    what shows its word, was left in it.
    """

    question: Question
    similarity: Floats
    photos: NDArray[np.int64]
    fits: Floats
    cohort: Floats
    rows: int
    answered: bool


def caption_questions(
    gallery: Gallery, vectors: Floats, asked: NDArray[np.int64]
) -> list[Question]:
    """Captions of the gallery's photos as questions.

    asked: numbers of captions; vectors: theirs, (len(asked), d), of the encoder. Where the captions
    cannot tell what else fits, the own photo alone does.
    """
    captions = [caption for photo in gallery.photos for caption in photo.captions]
    fits = np.zeros((len(asked), len(gallery.photos)), np.float32)
    if gallery.tells_what_fits:
        fits = chance_of_fit(likeness(gallery.sentences[asked], gallery))
    owners = gallery.caption_owners[asked]
    fits[np.arange(len(asked)), owners] = 1
    return [
        Question("caption", captions[number], vector, fit, int(owner))
        for number, vector, fit, owner in zip(asked, vectors, fits, owners, strict=True)
    ]


def word_questions(words: dict[str, Floats], vectors: Floats) -> list[Question]:
    """Words of `naming_words` as questions; vectors: (len(words), d), of the encoder."""
    return [
        Question("word", word, vector, fits)
        for (word, fits), vector in zip(words.items(), vectors, strict=True)
    ]


def image_questions(gallery: Gallery, asked: NDArray[np.int64]) -> list[Question]:
    """Photos of the gallery as questions for others like them.

    A photo fits as well as it fits the best of the captions of the photo that is asked with.
    """
    numbers = np.flatnonzero(np.isin(gallery.caption_owners, asked))
    owners = gallery.caption_owners[numbers]
    chances = chance_of_fit(likeness(gallery.sentences[numbers], gallery))
    return [
        Question(
            kind="image",
            text=gallery.photos[photo].path.name,
            vector=gallery.vectors[photo],
            fits=chances[owners == photo].max(0),
            own=photo,
        )
        for photo in asked.tolist()
    ]


def simulate_searches(
    gallery: Gallery, questions: Sequence[Question], count: int, *, seed: int = 0
) -> list[Search]:
    """Ask `count` questions, drawn by the shares of their kinds, of a library each.

    Sizes are drawn evenly over their logarithms, from 4 to the whole gallery. The photo of an
    image question is never in the library: finding a picture by itself is no feat.
    """
    random = np.random.default_rng(seed)
    by_kind: dict[Kind, list[Question]] = {}
    for question in questions:
        by_kind.setdefault(question.kind, []).append(question)
    kinds = sorted(by_kind)
    shares = np.array([KIND_SHARES.get(kind, 1.0) for kind in kinds])
    searches = []
    for _ in range(count):
        kind = kinds[random.choice(len(kinds), p=shares / shares.sum())]
        question = by_kind[kind][random.integers(len(by_kind[kind]))]
        searches.append(_search(gallery, question, random))
    return searches


def _search(gallery: Gallery, question: Question, random: np.random.Generator) -> Search:
    total = len(gallery.photos)
    size = round(np.exp(random.uniform(np.log(SMALLEST_LIBRARY), np.log(total))))
    allowed = np.ones(total, np.bool_)
    forced: list[int] = []
    answered = random.random() < ANSWERED_SHARE and question.kind in ("caption", "word")
    if question.kind == "word":
        allowed = (question.fits == 0) if not answered else allowed
        named = np.flatnonzero(question.fits == 1)
        forced = [int(random.choice(named))] if answered and len(named) else []
    elif question.own is not None:
        forced = [question.own] if answered else []
    if question.own is not None:
        allowed[question.own] = False
    allowed[forced] = False
    others = np.flatnonzero(allowed)
    wanted = max(0, min(size - len(forced), len(others)))
    rows = np.concatenate(
        [np.array(forced, np.int64), random.choice(others, wanted, replace=False)]
    )
    similarity = gallery.vectors[rows] @ question.vector
    best = np.argsort(-similarity, kind="stable")[:HITS]
    sample = random.permutation(len(rows))[:SAMPLE_ROWS]
    return Search(
        question=question,
        similarity=similarity[best],
        photos=rows[best],
        fits=question.fits[rows[best]],
        cohort=similarity[sample],
        rows=len(rows),
        answered=bool(answered),
    )


def outside_questions(texts: Sequence[str], vectors: Floats, photo_count: int) -> list[Question]:
    """Texts that nothing in the gallery shows as questions; vectors: (len(texts), d)."""
    nothing = np.zeros(photo_count, np.float32)
    return [
        Question("outside", text, vector, nothing)
        for text, vector in zip(texts, vectors, strict=True)
    ]

"""Label which photos are relevant to a text, by their captions.

Captions are incomplete labels: a caption is known to describe its own photo, but may describe
others, too. So the captions of a photo are compared with the text by MiniLM, which has seen no
photo, and their similarity becomes a probability that the photo is relevant.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import pairwise, product

import numpy as np
from numpy.typing import NDArray

from retrieval.search.vocabulary import stems_in, words
from retrieval.training.captions import CaptionedPhoto
from retrieval.training.said_words import read_tables, said_words

Floats = NDArray[np.float32]

FIT_SLOPE = 18.5
FIT_MIDDLE = 0.66
"""Logistic model of the probability that a photo is relevant to a text, by caption similarity.

Fitted to 85 pairs of a caption of Flickr8k's `val` and another photo among `starter`'s first ten,
drawn evenly over the similarities and judged by hand from the texts. Share of relevant photos by
similarity: none of 18 below 0.45, 5% to 0.55, 26% to 0.65, 74% to 0.75, 88% above.
"""

UNRELATED_BELOW = 0.45
"""Below this caption similarity no photo was relevant."""

LANGUAGE = "english"
FUNCTION_WORDS = frozenset(
    files(__package__).joinpath("function_words.txt").read_text(encoding="utf-8").split()
)
"""Words of LANGUAGE that are no queries, as they tell little of what a photo shows."""


@dataclass(frozen=True, eq=False)
class Gallery:
    """Photos that simulated libraries are drawn from.

    photos: n photos with captions; vectors: (n, d) float32, unit, of the encoder; sentences: unit
    MiniLM vectors of all captions, (m, 384), one photo's after the other's.
    """

    photos: Sequence[CaptionedPhoto]
    vectors: Floats
    sentences: Floats

    def __post_init__(self) -> None:
        if len(self.vectors) != len(self.photos):
            raise ValueError("every photo needs a vector")
        if len(self.sentences) != len(self.caption_owners):
            raise ValueError("every caption needs a sentence vector")

    @property
    def caption_owners(self) -> NDArray[np.int64]:
        """Return the photo of each caption, (m,)."""
        return np.repeat(np.arange(len(self.photos)), [len(each.captions) for each in self.photos])

    @property
    def tells_what_fits(self) -> bool:
        """Return whether captions can label other photos: a single one, or a class, cannot."""
        return any(len(photo.captions) > 1 for photo in self.photos)


def caption_similarity(texts: Floats, gallery: Gallery) -> Floats:
    """Compare q texts with the captions of n photos, (q, n): the mean of the best two cosines.

    texts: (q, 384) float32, unit. A photo with one caption has its cosine.
    """
    cosines = texts @ gallery.sentences.T
    similarity = np.empty((len(texts), len(gallery.photos)), np.float32)
    owners = gallery.caption_owners
    starts = np.searchsorted(owners, np.arange(len(gallery.photos)))
    ends = np.searchsorted(owners, np.arange(len(gallery.photos)), side="right")
    for photo, (start, end) in enumerate(zip(starts, ends, strict=True)):
        of_photo = cosines[:, start:end]
        similarity[:, photo] = np.partition(of_photo, -min(2, end - start), axis=1)[:, -2:].mean(1)
    return similarity


def chance_of_fit(similarity: Floats) -> Floats:
    """Compute the probability that a photo is relevant from its caption similarity."""
    chances: Floats = 1 / (1 + np.exp(-FIT_SLOPE * (similarity - FIT_MIDDLE)))
    return chances


@dataclass(frozen=True)
class NamedThings:
    """Words, or pairs of neighbouring ones, with what captions of n photos say of each.

    texts: by stem, the most common form. counts: by stem, how many captions of each photo have it,
    (n,) int16.
    """

    texts: Mapping[str, str]
    counts: Mapping[str, NDArray[np.int16]]

    def fits(self, fewest: int) -> dict[str, Floats]:
        """Return what fits each, by its text, of those that at least `fewest` photos show, (n,).

        1 where two captions or more say it, 0 where none does, NaN where one does.
        """
        return {
            self.texts[stem]: np.where(
                counts == 1, np.float32(np.nan), (counts > 1).astype(np.float32)
            )
            for stem, counts in self.counts.items()
            if (counts > 1).sum() >= fewest
        }


def named_things(
    photos: Sequence[CaptionedPhoto],
    *,
    pairs: bool = False,
    leave_out: Collection[str] = FUNCTION_WORDS,
) -> NamedThings:
    """Count words, or pairs of them, in captions in LANGUAGE, but for those to leave out.

    A caption says what its words imply, too (`said_words`).
    """
    said = said_words(read_tables("en"), lambda word: stems_in(word, LANGUAGE)[0])
    counts: dict[str, Counter[int]] = {}
    forms: dict[str, Counter[str]] = {}
    for number, photo in enumerate(photos):
        for caption in photo.captions:
            named = [
                {} if word in leave_out else {**said.get(stem, {}), stem: word}
                for word, stem in zip(words(caption), stems_in(caption, LANGUAGE), strict=True)
            ]
            if pairs:
                named = [
                    {f"{a} {b}": f"{first[a]} {second[b]}" for a, b in product(first, second)}
                    for first, second in pairwise(named)
                ]
            for stem, form in {s: f for things in named for s, f in things.items()}.items():
                counts.setdefault(stem, Counter())[number] += 1
                forms.setdefault(stem, Counter())[form] += 1
    arrays = {}
    for stem, found in sorted(counts.items()):
        arrays[stem] = np.zeros(len(photos), np.int16)
        arrays[stem][list(found)] = list(found.values())
    return NamedThings({stem: forms[stem].most_common(1)[0][0] for stem in arrays}, arrays)

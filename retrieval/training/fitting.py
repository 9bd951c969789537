"""Label which photos are relevant to a text, by their captions.

Captions are incomplete labels: a caption is known to describe its own photo, but may describe
others, too. So the captions of a photo are compared with the text by MiniLM, which has seen no
photo, and their similarity becomes a probability that the photo is relevant.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrieval.training.captions import CaptionedPhoto

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

_WORD_AGREEMENT = 0.5
_WORD_PHOTOS = 5
_MOST_PHOTOS = 0.3


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


def naming_words(photos: Sequence[CaptionedPhoto]) -> dict[str, Floats]:
    """Choose words as short queries, with their relevance to each photo, (n,).

    1 for photos whose captions name the word twice, 0.5 for once. Chosen are words that captions
    agree on (on average at least half of a photo's captions name what one of them does), of at
    least five photos and at most three tenths of them.
    """
    counts: dict[str, Counter[int]] = {}
    forms: dict[str, Counter[str]] = {}
    for number, photo in enumerate(photos):
        for caption in photo.captions:
            for stem, word in _words(caption).items():
                counts.setdefault(stem, Counter())[number] += 1
                forms.setdefault(stem, Counter())[word] += 1
    found = {}
    for stem, named in sorted(counts.items()):
        shares = [count / len(photos[number].captions) for number, count in named.items()]
        few = len(named) < _WORD_PHOTOS or len(named) > _MOST_PHOTOS * len(photos)
        if not few and np.mean(shares) >= _WORD_AGREEMENT:
            fits = np.zeros(len(photos), np.float32)
            fits[list(named)] = [min(count, 2) / 2 for count in named.values()]
            found[forms[stem].most_common(1)[0][0]] = fits
    return found


def _words(caption: str) -> dict[str, str]:
    """Collect the distinct words of a caption in lower case, by their stem without a plural's s."""
    words = re.findall(r"[a-z]{3,}", caption.lower())
    return {re.sub(r"(?<=[a-rt-z])s$", "", word): word for word in words}

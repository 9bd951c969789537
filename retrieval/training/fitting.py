"""Which photos fit a text, as far as their captions tell: the labels of relevance.

Captions are incomplete labels: of a caption, its own photo is known to fit, but others do, too. So
a photo's captions are compared with the text by MiniLM, which has seen no photo, and how alike
they are becomes a probability that a searcher would take the photo for an answer.
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
"""Of the probability that a photo fits a text, by their likeness.

Learned from 85 pairs of a caption of Flickr8k's `val` and another photo among `starter`'s first
ten, drawn evenly over the likenesses and judged by hand from the texts. Shares of fitting photos by
likeness: none of 18 below 0.45, 5% to 0.55, 26% to 0.65, 74% to 0.75, 88% above.
"""

UNLIKE = 0.45
"""Below this likeness nothing fitted."""

_WORD_AGREEMENT = 0.5
_WORD_PHOTOS = 5
_MOST_PHOTOS = 0.3


@dataclass(frozen=True, eq=False)
class Gallery:
    """Photos that libraries are drawn from.

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
        """Which photo each caption is of, (m,)."""
        return np.repeat(np.arange(len(self.photos)), [len(one.captions) for one in self.photos])

    @property
    def tells_what_fits(self) -> bool:
        """Whether captions can tell what else fits: a single one a photo, or a class, cannot."""
        return any(len(photo.captions) > 1 for photo in self.photos)


def likeness(texts: Floats, gallery: Gallery) -> Floats:
    """How alike q texts and the captions of n photos are, (q, n): the mean of the best two cosines.

    texts: (q, 384) float32, unit. A photo with one caption has that one's cosine.
    """
    cosines = texts @ gallery.sentences.T
    alike = np.empty((len(texts), len(gallery.photos)), np.float32)
    owners = gallery.caption_owners
    starts = np.searchsorted(owners, np.arange(len(gallery.photos)))
    ends = np.searchsorted(owners, np.arange(len(gallery.photos)), side="right")
    for photo, (start, end) in enumerate(zip(starts, ends, strict=True)):
        own = cosines[:, start:end]
        alike[:, photo] = np.partition(own, -min(2, end - start), axis=1)[:, -2:].mean(1)
    return alike


def chance_of_fit(alike: Floats) -> Floats:
    """The probability that a photo is an answer, by the likeness of its captions with the text."""
    chances: Floats = 1 / (1 + np.exp(-FIT_SLOPE * (alike - FIT_MIDDLE)))
    return chances


def naming_words(photos: Sequence[CaptionedPhoto]) -> dict[str, Floats]:
    """Words as short queries, and which photos they fit, (n,): named twice 1, once a half.

    Those that the captions of a photo agree on: on average at least half of its captions name what
    one of them does. At least five photos and at most three tenths of them.
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
    """The different words of a caption in lower case, by what is left without a plural's s."""
    words = re.findall(r"[a-z]{3,}", caption.lower())
    return {re.sub(r"(?<=[a-rt-z])s$", "", word): word for word in words}

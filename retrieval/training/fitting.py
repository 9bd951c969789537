"""Label which photos are relevant to a text, by their captions.

Captions are incomplete labels: a caption is known to describe its own photo, but may describe
others, too. So the captions of a photo are compared with the text by MiniLM, which has seen no
photo, and their similarity becomes a probability that the photo is relevant.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
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


PLACE_WORDS = frozenset(
    files(__package__).joinpath("place_words.txt").read_text(encoding="utf-8").split()
)
"""Function words that lead from a thing to its place: who says "a dog on the beach" may search for
`dog beach`."""


@dataclass(frozen=True)
class NamedThings:
    """Words, or pairs of them, with what captions of n photos say of each.

    texts: by stem, the most common form. counts: by stem, how many captions of each photo have it,
    (n,) int16; 1 also where captions do not tell whether a pair fits.
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


Named = Mapping[str, str]
"""What a word of a caption says: itself and what it implies, by stem; {} for a function word."""


def named_things(
    photos: Sequence[CaptionedPhoto], *, leave_out: Collection[str] = FUNCTION_WORDS
) -> NamedThings:
    """Count words in captions in LANGUAGE, but for those to leave out.

    A caption says what its words imply, too (`said_words`).
    """
    found = _Counted(len(photos))
    for number, captions in enumerate(_read(photos, leave_out)):
        for _, named in captions:
            found.add(number, {stem: form for each in named for stem, form in each.items()})
    return found.named_things(found.counts)


def named_pairs(photos: Sequence[CaptionedPhoto], fewest: int) -> NamedThings:
    """Count pairs of words that at least `fewest` photos show.

    Words that follow each other in captions ("brown dog") are said by captions in which they do;
    where both stand apart, nobody can say. A thing and its place ("dog beach") are said by captions
    that have both. Of pairs that the same captions say, such as `people beach` and `person beach`,
    the most common one is kept.
    """
    read = _read(photos, FUNCTION_WORDS)
    followed, placed = _Counted(len(photos)), _Counted(len(photos))
    for number, captions in enumerate(read):
        for tokens, named in captions:
            followed.add(number, _joined(pairwise(named)))
            placed.add(number, _joined(_things_with_places(tokens, named)))
    both = _captions_with_both(read)
    found: dict[str, Counter[int]] = {}
    for pair, counts in followed.counts.items():
        if _shown(counts) >= fewest:
            found[pair] = Counter({**dict.fromkeys(both(pair), 1), **counts})
    for pair, counts in placed.counts.items():
        turned = " ".join(reversed(pair.split()))
        if len(counts) >= fewest and not {pair, turned} & found.keys():
            found[pair] = both(pair)
    every = _Counted(len(photos), placed.forms | followed.forms)
    distinct: dict[frozenset[tuple[int, int]], str] = {}
    for pair in sorted(found, key=lambda pair: (-every.forms[pair].total(), pair)):
        distinct.setdefault(frozenset(found[pair].items()), pair)
    kept = [pair for pair in distinct.values() if _shown(found[pair]) >= fewest]
    return every.named_things({pair: found[pair] for pair in kept})


def _shown(counts: Counter[int]) -> int:
    """Return how many photos show what captions say, by photo and number of captions."""
    return sum(count > 1 for count in counts.values())


class _Counted:
    """Counts of what captions of photos say: by stem, by photo; and as written."""

    def __init__(self, photo_count: int, forms: Mapping[str, Counter[str]] | None = None) -> None:
        self._photo_count = photo_count
        self.counts: dict[str, Counter[int]] = {}
        self.forms: dict[str, Counter[str]] = dict(forms or {})

    def add(self, number: int, said: Named) -> None:
        """Add what a caption of a photo says: forms by stem."""
        for stem, form in said.items():
            self.counts.setdefault(stem, Counter())[number] += 1
            self.forms.setdefault(stem, Counter())[form] += 1

    def named_things(self, counts: Mapping[str, Counter[int]]) -> NamedThings:
        """Return counts as arrays, with the most common forms."""
        arrays = {}
        for stem, found in sorted(counts.items()):
            arrays[stem] = np.zeros(self._photo_count, np.int16)
            arrays[stem][list(found)] = list(found.values())
        return NamedThings({stem: self.forms[stem].most_common(1)[0][0] for stem in arrays}, arrays)


_Captions = list[tuple[list[str], list[Named]]]
"""The words of each caption of a photo, with what they say."""


def _read(photos: Sequence[CaptionedPhoto], leave_out: Collection[str]) -> list[_Captions]:
    said = said_words(read_tables("en"), lambda word: stems_in(word, LANGUAGE)[0])

    def read(caption: str) -> tuple[list[str], list[Named]]:
        tokens = words(caption)
        named: list[Named] = [
            {} if word in leave_out else {**said.get(stem, {}), stem: word}
            for word, stem in zip(tokens, stems_in(caption, LANGUAGE), strict=True)
        ]
        return tokens, named

    return [[read(caption) for caption in photo.captions] for photo in photos]


def _captions_with_both(read: Sequence[_Captions]) -> Callable[[str], Counter[int]]:
    """Return what counts the captions of each photo that say both words of a pair."""
    said: dict[str, set[tuple[int, int]]] = {}
    for number, captions in enumerate(read):
        for place, (_, named) in enumerate(captions):
            for stem in {stem for each in named for stem in each}:
                said.setdefault(stem, set()).add((number, place))

    def both(pair: str) -> Counter[int]:
        first, second = pair.split()
        return Counter(number for number, _ in said[first] & said[second])

    return both


def _things_with_places(
    tokens: Sequence[str], named: Sequence[Named]
) -> Iterator[tuple[Named, Named]]:
    """Find words with those that end a phrase of place after them: `dog`, `beach`."""
    thing: Named | None = None
    has_place = False
    for place, (token, each) in enumerate(zip(tokens, named, strict=True)):
        if not each:
            has_place = has_place or token in PLACE_WORDS
            continue
        ends = place + 1 == len(named) or not named[place + 1]
        if thing and has_place and ends:
            yield thing, each
        thing, has_place = each, False


def _joined(pairs: Iterable[tuple[Named, Named]]) -> dict[str, str]:
    """Join stems, and forms, of two words, and of what they imply, unless one implies the other."""
    return {
        f"{a} {b}": f"{first[a]} {second[b]}"
        for first, second in pairs
        for a, b in product(first, second)
        if a not in second and b not in first
    }

"""What an encoder is known to find: words that captions of its training photos agree on.

A query's words say how many photos it can be about before a score is looked at: a quarter of all
photos shows a dog, few a violin.
"""

import math
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache, lru_cache
from typing import NamedTuple, Self

_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")
_FLOOR = 0.3
"""Photos that an unknown word counts as, and that are added to those of a known one."""
_WELL_KNOWN = 3
"""Photos that an encoder must have seen with a word to find it well."""
_MOST_WORDS = 64
_KEPT_TEXTS = 1024
_NEITHER = (0.0, 0.0)
FUNCTION_WORD_SHARE = 0.9
"""A word that more photos have than this, such as `a`, does not tell them apart."""


class Known(Enum):
    """How many words of a query an encoder is known to find."""

    NONE = "none"
    SOME = "some"
    ALL = "all"


@dataclass(frozen=True)
class KnownWords:
    """What is known of the words of a text, but for those that nearly all captions have.

    count: how many words. known: the share of them that the vocabulary has. shares: natural
    logarithms of the shares of photos that the rarest and the next rarest show, 0 where there is no
    such word. thresholds: cosines from which a photo most likely shows the rarest and the next
    rarest. levels: logits of the relevances there, higher the better a word is found. well_known:
    whether each word, if there is any, has been seen with enough photos.
    """

    count: int
    known: float
    shares: tuple[float, float]
    thresholds: tuple[float, float]
    levels: tuple[float, float]
    well_known: bool

    @classmethod
    def none(cls) -> Self:
        """Say nothing of a query that has no text."""
        return cls(0, 0.0, _NEITHER, _NEITHER, _NEITHER, well_known=False)


class Word(NamedTuple):
    """What photos and scores of an encoder say of a word.

    photos: how many have it in two captions or more. threshold: the cosine at which a cut
    between photos that show it and others has the highest F1, None where too few show it. f1: that
    F1, None likewise, and in files of the first versions.
    """

    photos: int
    threshold: float | None = None
    f1: float | None = None

    @property
    def level(self) -> float | None:
        """Return the logit of the relevance at the threshold: half of F1 (Lipton et al. 2014)."""
        return None if self.f1 is None else math.log(self.f1 / (2 - self.f1))


@dataclass(frozen=True)
class Vocabulary:
    """Words by their stems, with what photos and scores of an encoder say of them.

    language: the Snowball stemmer (Porter 2001) that made the stems. photos: how many there were.
    line, level_line: threshold and level of a word without, by the logarithm of its share:
    intercept and slope.
    """

    language: str
    photos: int
    words: Mapping[str, Word]
    line: tuple[float, float]
    level_line: tuple[float, float] = _NEITHER

    def look_up(self, text: str) -> KnownWords:
        """Say what is known of the words of a text, of which the first 64 count."""
        if not text:
            return KnownWords.none()
        shares, thresholds, levels, known, well_known = [], [], [], 0, True
        for stem in dict.fromkeys(stems_in(text, self.language)[:_MOST_WORDS]):
            word = self.words.get(stem, _UNKNOWN)
            share = (word.photos + _FLOOR) / (self.photos + _FLOOR)
            if share > FUNCTION_WORD_SHARE:
                continue
            shares.append(math.log(share))
            known += stem in self.words
            well_known = well_known and word.photos >= _WELL_KNOWN
            thresholds.append(_or_usual(word.threshold, self.line, shares[-1]))
            levels.append(_or_usual(word.level, self.level_line, shares[-1]))
        if not shares:
            return KnownWords(0, 1.0, _NEITHER, _NEITHER, _NEITHER, well_known=False)
        order = sorted(range(len(shares)), key=shares.__getitem__)
        first, second = order[0], order[min(1, len(order) - 1)]
        return KnownWords(
            len(shares),
            known / len(shares),
            (shares[first], shares[second] if second != first else 0.0),
            (thresholds[first], thresholds[second]),
            (levels[first], levels[second]),
            well_known,
        )


_UNKNOWN = Word(0)


def _or_usual(value: float | None, line: tuple[float, float], share: float) -> float:
    """Return a value, or that of the line at the logarithm of a share, where there is none."""
    return line[0] + line[1] * share if value is None else value


def words(text: str) -> list[str]:
    """Return the words of a text, folded in case and width, in their order."""
    folded = unicodedata.normalize("NFKC", text).casefold().replace("’", "'")
    return _WORD.findall(folded)


@lru_cache(_KEPT_TEXTS)
def stems_in(text: str, language: str) -> tuple[str, ...]:
    """Return the stems of the words of a text, in their order."""
    stem = _stemmer(language)
    return tuple(stem(word) for word in words(text))


@cache
def _stemmer(language: str) -> Callable[[str], str]:
    import snowballstemmer

    stem: Callable[[str], str] = lru_cache(65_536)(snowballstemmer.stemmer(language).stemWord)
    return stem

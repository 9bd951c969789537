"""Words and phrases of captions, with the photos that show them."""

import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from retrieval.errors import UsageError, import_errors_as
from retrieval.training.fitting import FUNCTION_WORDS

FEWEST_PHOTOS = 8
FEWEST_PHOTOS_OF_SINGLE = 6
"""Photos that must show a word, where they have several captions each, and where they have one."""
MOST = 2500
"""Words of a language, and as many phrases of it."""
FREQUENCY_POWER = 0.25
"""A word is drawn by the power of the number of photos that show it."""
LANGUAGE_SHARES = 0.45, 0.25, 0.3
"""Of draws: words of the first language, of the second, of all others together."""

_WORD = re.compile(r"[^\W\d_]+")
_CHINESE = re.compile(r"[一-鿿]+")
_SHORTEST = 3
_NEEDS = UsageError(
    "Words of captions need stopwordsiso and, for Chinese, jieba: pip install 'mmsearch[bench]', "
    "or train without words: --words 0."
)


@dataclass(frozen=True)
class CaptionWords:
    """Words and phrases of the captions of n photos.

    shown: (words, n) uint8: 2 where a photo shows one (two captions say it, or the only one does),
    1 where one of several captions says it, else 0. chances: (words,) of being drawn.
    """

    texts: tuple[str, ...]
    shown: NDArray[np.uint8]
    chances: NDArray[np.float64]

    def draw(self, count: int, random: np.random.Generator) -> NDArray[np.int64]:
        """Draw rows of distinct words."""
        count = min(count, len(self.texts))
        return random.choice(len(self.texts), count, replace=False, p=self.chances)


def caption_words(captions: Mapping[str, Sequence[Sequence[str]]]) -> CaptionWords:
    """Collect the words and phrases that several photos have in their captions.

    Phrases are two words in a row; of languages with about one caption a photo there are none.

    Args:
        captions: by language, first the main one: those of each of n photos.

    Raises:
        UsageError: there is no word, or what finds words is not installed.
    """
    texts: list[str] = []
    shown: list[NDArray[np.uint8]] = []
    chances: list[NDArray[np.float64]] = []
    for share, (language, of_photos) in zip(_shares(len(captions)), captions.items(), strict=True):
        counts = _counts(language, of_photos)
        if not counts:
            continue
        rows = np.zeros((len(counts), len(of_photos)), np.uint8)
        for row, by_photo in zip(rows, counts.values(), strict=True):
            for photo, count in by_photo.items():
                row[photo] = 2 if len(of_photos[photo]) == 1 else min(count, 2)
        frequencies = (rows / 2).sum(1) ** FREQUENCY_POWER
        texts += counts
        shown.append(rows)
        chances.append(share * frequencies / frequencies.sum())
    if not texts:
        raise UsageError("The captions have no words in common to train on: --words 0.")
    drawn = np.concatenate(chances)
    return CaptionWords(tuple(texts), np.concatenate(shown), drawn / drawn.sum())


def _shares(languages: int) -> list[float]:
    first, second, others = LANGUAGE_SHARES
    return [first, second, *[others / max(1, languages - 2)] * languages][:languages]


def _counts(language: str, captions: Sequence[Sequence[str]]) -> dict[str, Counter[int]]:
    """Count, for the most frequent words and phrases, the captions of each photo that say it."""
    base = re.split(r"[-_]", language.lower())[0]
    divide, ignored = _divider(base), _ignored(base)
    described = sum(1 for each in captions if each)
    several = sum(map(len, captions)) > 1.5 * described
    separator = "" if base == "zh" else " "
    words: defaultdict[str, Counter[int]] = defaultdict(Counter)
    phrases: defaultdict[str, Counter[int]] = defaultdict(Counter)
    for photo, of_photo in enumerate(captions):
        for caption in of_photo:
            found = divide(caption)
            for word in set(found) - ignored:
                if base == "zh" or len(word) >= _SHORTEST:
                    words[word][photo] += 1
            if several:
                for pair in set(pairwise(found)):
                    if ignored.isdisjoint(pair):
                        phrases[separator.join(pair)][photo] += 1
    fewest = FEWEST_PHOTOS if several else FEWEST_PHOTOS_OF_SINGLE
    return _most_frequent(phrases, fewest) | _most_frequent(words, fewest)


def _most_frequent(counts: Mapping[str, Counter[int]], fewest: int) -> dict[str, Counter[int]]:
    enough = sorted(text for text in counts if len(counts[text]) >= fewest)
    enough.sort(key=lambda text: -len(counts[text]))
    return {text: counts[text] for text in enough[:MOST]}


def _divider(language: str) -> Callable[[str], list[str]]:
    if language != "zh":
        return lambda caption: _WORD.findall(caption.lower())
    with import_errors_as(_NEEDS), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its use of pkg_resources
        import jieba
    jieba.setLogLevel("WARNING")
    return lambda caption: [word for word in jieba.cut(caption) if _CHINESE.fullmatch(word)]


def _ignored(language: str) -> frozenset[str]:
    with import_errors_as(_NEEDS):
        import stopwordsiso
    known = stopwordsiso.stopwords(language) if stopwordsiso.has_lang(language) else ()
    return frozenset(known) | (FUNCTION_WORDS if language == "en" else frozenset())

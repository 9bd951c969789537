"""Queries as people type them, made from the captions of photos, with graded judgements.

A photo is right for a word or phrase that two or more of its captions say, unsure where one does,
and wrong where none does. Of a full caption only its own photo is surely right: others with similar
captions are unsure. Unsure photos are left out of all figures.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality.query_words import Kind, QueryWords
from retrieval.errors import UsageError
from retrieval.training.captions import CaptionedPhoto
from retrieval.training.fitting import UNRELATED_BELOW, Gallery, caption_similarity
from retrieval.training.relevance import is_held_out, sentence_vectors

AGREEING = 2
"""Captions of a photo that must say a word for the photo to be right."""

_MINILM_LANGUAGE = "en"
_SIMILAR_SHARE = 0.5
"""Share of a caption's words that the captions of an unsure photo say, where MiniLM cannot read."""

_PAIRS_OF_ONE_WORD = 3

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class GradedQuery:
    """A query with its judgements of n photos.

    gains: (n,) int64, the number of captions that say it where the photo is right, 0 where it is
    wrong, and -1 where that is unsure. stem: of a single word, else "".
    """

    text: str
    kind: Kind
    gains: NDArray[np.int64]
    stem: str = ""

    @property
    def right(self) -> int:
        """Number of right photos."""
        return int((self.gains > 0).sum())

    @property
    def unsure(self) -> int:
        """Number of photos for which the captions do not tell."""
        return int((self.gains < 0).sum())


@dataclass(frozen=True)
class SignedPair:
    """A word that is wanted, and one that is not, of which many photos have both."""

    plus: GradedQuery
    minus: GradedQuery

    @property
    def both(self) -> int:
        """Number of photos that have both."""
        return int(((self.plus.gains > 0) & (self.minus.gains > 0)).sum())

    @property
    def gains(self) -> NDArray[np.int64]:
        """Judgements of plus without minus: right, where the one is right and the other wrong."""
        is_wrong = (self.plus.gains == 0) | (self.minus.gains > 0)
        is_right = (self.plus.gains > 0) & (self.minus.gains == 0)
        return np.where(is_wrong, 0, np.where(is_right, self.plus.gains, -1))


@dataclass(frozen=True)
class QuerySet:
    """All queries on some photos. dropped: absent queries that captions contradict."""

    photos: Sequence[CaptionedPhoto]
    queries: tuple[GradedQuery, ...]
    pairs: tuple[SignedPair, ...]
    dropped: tuple[str, ...] = ()

    def held_out(self) -> "QuerySet":
        """Select queries whose texts `mmsearch train relevance` does not learn from.

        Absent queries are never learned from: all stay.
        """
        return replace(
            self,
            queries=tuple(
                query
                for query in self.queries
                if query.kind is Kind.ABSENT or is_held_out(query.text)
            ),
            pairs=tuple(pair for pair in self.pairs if is_held_out(pair.plus.text)),
        )


@dataclass(frozen=True)
class Sizes:
    """How many queries are made.

    least: right photos that a word or phrase has at least. most: queries of each kind of word, and
    phrases; more are thinned out evenly by their number of right photos. captions: full captions.
    pairs: of words, plus and minus.
    """

    least: int = 10
    most: int = 100
    captions: int = 100
    pairs: int = 40

    def __post_init__(self) -> None:
        if self.least < 1 or self.most < 1 or self.captions < 0 or self.pairs < 0:
            raise UsageError("least and most must be at least 1, captions and pairs at least 0.")


def make_queries(
    photos: Sequence[CaptionedPhoto],
    words: QueryWords,
    absent: Sequence[str],
    cache: Path,
    *,
    sizes: Sizes | None = None,
    seed: int = 0,
    on_progress: Progress = lambda *_: None,
) -> QuerySet:
    """Make queries of all kinds from the captions of photos.

    Args:
        photos: Photos with captions.
        words: Words of the captions' language.
        absent: Texts about things that no photo shows.
        cache: Directory of the cache of MiniLM vectors.
        sizes: How many queries.
        seed: Random seed of the choice of captions.
        on_progress: Called with stage, done and total.

    Raises:
        UsageError: No photo has two captions, so that none can agree.
    """
    if not any(len(photo.captions) >= AGREEING for photo in photos):
        raise UsageError(
            "The queries are judged by captions that agree: at least two for each photo. This "
            "dataset has one."
        )
    sizes = sizes or Sizes()
    said = _Said(photos, words)
    single = said.word_queries(sizes.least)
    chosen = [
        query
        for kind in (Kind.NOUN, Kind.ADJECTIVE, Kind.SCENE, Kind.ACTIVITY)
        for query in thinned([query for query in single if query.kind is kind], sizes.most)
    ]
    there = [text for text in absent if said.by_one_photo(text)]
    nothing = np.zeros(len(photos), np.int64)
    queries = [
        *chosen,
        *thinned(said.phrase_queries(single, sizes.least), sizes.most),
        *_caption_queries(photos, words, said, sizes.captions, seed, cache, on_progress),
        *(GradedQuery(text, Kind.ABSENT, nothing) for text in absent if text not in there),
    ]
    pairs = signed_pairs(single, words, sizes.least, sizes.pairs)
    return QuerySet(photos, tuple(queries), tuple(pairs), tuple(there))


def thinned(queries: Sequence[GradedQuery], most: int) -> list[GradedQuery]:
    """Choose `most` queries, evenly by their number of right photos, the most first."""
    ordered = sorted(queries, key=lambda query: (-query.right, query.text))
    if len(ordered) <= most:
        return ordered
    places = np.linspace(0, len(ordered) - 1, most).round().astype(int)
    return [ordered[place] for place in places.tolist()]


def signed_pairs(
    queries: Sequence[GradedQuery], words: QueryWords, least: int, most: int
) -> list[SignedPair]:
    """Choose pairs of nouns and scenes, the most frequent together first.

    At least `least` photos have both, and as many the wanted one surely without the other. No word
    implies the other, and each is wanted, and unwanted, in at most three pairs.
    """
    named = [query for query in queries if query.kind in (Kind.NOUN, Kind.SCENE)]
    found = [
        pair
        for plus in named
        for minus in named
        if plus.stem != minus.stem
        and plus.stem not in words.implied(minus.stem)
        and minus.stem not in words.implied(plus.stem)
        for pair in (SignedPair(plus, minus),)
        if pair.both >= least and int((pair.gains > 0).sum()) >= least
    ]
    found.sort(key=lambda pair: (-pair.both, pair.plus.text, pair.minus.text))
    taken: Counter[tuple[str, str]] = Counter()
    kept: list[SignedPair] = []
    for pair in found:
        uses = ("plus", pair.plus.stem), ("minus", pair.minus.stem)
        if len(kept) < most and all(taken[use] < _PAIRS_OF_ONE_WORD for use in uses):
            taken.update(uses)
            kept.append(pair)
    return kept


class _Said:
    """What the captions of each photo say: words and phrases, by photo and number of captions."""

    def __init__(self, photos: Sequence[CaptionedPhoto], words: QueryWords) -> None:
        self._words = words
        self._agree = np.array([len(photo.captions) >= AGREEING for photo in photos])
        self._said: dict[str, Counter[int]] = {}
        self._phrases: dict[tuple[str, str], Counter[int]] = {}
        self._written: dict[str, Counter[str]] = {}
        self._written_phrases: dict[tuple[str, str], Counter[str]] = {}
        self._together: list[list[set[str]]] = []
        for number, photo in enumerate(photos):
            self._together.append([self._read(caption, number) for caption in photo.captions])

    def _read(self, caption: str, number: int) -> set[str]:
        tokens = self._words.tokens(caption)
        for token in tokens:
            if token.stem:
                self._written.setdefault(token.stem, Counter())[token.form] += 1
        content = self._words.content(caption)
        for stem in content:
            self._said.setdefault(stem, Counter())[number] += 1
        pairs = set()
        for pair, written in self._words.phrases(tokens):
            self._written_phrases.setdefault(pair, Counter())[written] += 1
            pairs |= self._words.implied_pairs(pair)
        for pair in pairs:
            self._phrases.setdefault(pair, Counter())[number] += 1
        return content

    def word_queries(self, least: int) -> list[GradedQuery]:
        """Make a query of each word that is right for at least `least` photos."""
        queries = []
        for stem, counts in sorted(self._said.items()):
            gains = self._gains(counts)
            written = self._written.get(stem, Counter())
            if (gains > 0).sum() >= least <= written.total():
                form = _most_common(written)
                queries.append(GradedQuery(form, self._words.kind(stem, form), gains, stem))
        return queries

    def phrase_queries(self, words: Sequence[GradedQuery], least: int) -> list[GradedQuery]:
        """Make the queries of two words that are right for at least `least` photos.

        Nouns with scenes ("dog beach"), judged by captions that say both. And words that follow
        each other in captions ("brown dog"), judged as such: a photo with a caption that has both
        apart is unsure. words: queries of single words.
        """
        queries = {}
        nouns = [query for query in words if query.kind is Kind.NOUN]
        scenes = [query for query in words if query.kind is Kind.SCENE]
        for noun, scene in product(nouns, scenes):
            if noun.stem not in self._words.implied(scene.stem):
                pair = noun.stem, scene.stem
                counts = Counter(dict(enumerate(self._counts_of_both(pair).tolist())))
                text = f"{noun.text} {scene.text}"
                queries[pair] = GradedQuery(text, Kind.PHRASE, self._gains(+counts))
        for pair, counts in sorted(self._phrases.items()):
            written = self._written_phrases.get(pair, Counter())
            if pair not in queries and len(counts) >= least <= written.total():
                gains = self._gains(counts)
                gains[(gains == 0) & (self._counts_of_both(pair) > 0)] = -1
                queries[pair] = GradedQuery(_most_common(written), Kind.PHRASE, gains)
        return [query for query in queries.values() if query.right >= least]

    def _counts_of_both(self, pair: tuple[str, str]) -> NDArray[np.int64]:
        """Count the captions of each photo that say two words, (n,)."""
        counts = np.zeros(len(self._together), np.int64)
        for number in self._said[pair[0]].keys() & self._said[pair[1]].keys():
            counts[number] = sum(content.issuperset(pair) for content in self._together[number])
        return counts

    def by_one_photo(self, text: str) -> bool:
        """Return whether a caption says all content words of a text."""
        content = {token.stem for token in self._words.tokens(text) if token.stem}
        return bool(content) and any(
            caption >= content for captions in self._together for caption in captions
        )

    def share_said(self, text: str) -> NDArray[np.float64]:
        """Compute the share of a text's content words that the captions of each photo say, (n,)."""
        content = {token.stem for token in self._words.tokens(text) if token.stem}
        if not content:
            return np.ones(len(self._together))
        said = [set().union(*captions) for captions in self._together]
        return np.array([len(content & words) / len(content) for words in said])

    def _gains(self, counts: Mapping[int, int]) -> NDArray[np.int64]:
        gains = np.where(self._agree, 0, -1)
        for number, count in counts.items():
            gains[number] = count if count >= AGREEING else -1
        return gains


def _most_common(written: Counter[str]) -> str:
    return min(written, key=lambda form: (-written[form], form))


def _caption_queries(
    photos: Sequence[CaptionedPhoto],
    words: QueryWords,
    said: _Said,
    count: int,
    seed: int,
    cache: Path,
    on_progress: Progress,
) -> list[GradedQuery]:
    """Choose one caption each of some photos at random."""
    random = np.random.default_rng(seed)
    chosen = sorted(random.permutation(len(photos))[:count].tolist())
    texts = [photos[n].captions[random.integers(len(photos[n].captions))] for n in chosen]
    texts = list(dict.fromkeys(texts))
    if not texts:
        return []
    if words.language == _MINILM_LANGUAGE:
        captions = [caption for photo in photos for caption in photo.captions]
        sentences = sentence_vectors(captions, cache, on_progress)
        gallery = Gallery(photos, np.zeros((len(photos), 1), np.float32), sentences)
        place_of = {caption: place for place, caption in enumerate(captions)}
        vectors = sentences[[place_of[text] for text in texts]]
        is_unsure = caption_similarity(vectors, gallery) >= UNRELATED_BELOW
    else:
        is_unsure = np.stack([said.share_said(text) >= _SIMILAR_SHARE for text in texts])
    queries = []
    for text, unsure in zip(texts, is_unsure, strict=True):
        own = np.array([text in photo.captions for photo in photos])
        queries.append(GradedQuery(text, Kind.CAPTION, np.where(own, 1, np.where(unsure, -1, 0))))
    return queries

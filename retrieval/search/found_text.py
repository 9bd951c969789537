"""Which lines of recognised text hold words of a query, to show why it was found, and where."""

import math
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from retrieval.catalog import Enrichment
from retrieval.catalog.fulltext.words import Term, indexed, terms
from retrieval.recognition.base import Segment, Task
from retrieval.search.answer import Hit

MIN_LETTERS = 24
"""Recognised text with fewer letters means too little to be found without its words.

The number on a shirt ("17") or a misread word is near any short query: with `starter` such texts
were the first hits of "a dog", "people" and "a photo" among photos.
"""


_SHORT_S = 0.001
"""Lets the line of a passage count that ends as it begins."""


@dataclass(frozen=True)
class FoundText:
    """A segment that a task found, and the query's words in it, folded as the index has them."""

    task: Task
    segment: Segment
    words: tuple[str, ...]


def found_text(text: str, enrichments: Iterable[Enrichment]) -> list[FoundText]:
    """List the segments that hold words of a text, in reading order, and all captions.

    A caption may have found its picture by meaning. Words are compared as in a search by words: by
    their stems, Chinese by two characters that follow each other; the last one may go on. Function
    words count only where there are no others.
    """
    said = terms(text)
    telling = [term for term in said if term.weight > 0] or said
    found = []
    for one in enrichments:
        for segment in one.segments:
            held = f" {indexed(segment.text)} "
            words = [term.phrases[0].words for term in telling if _is_held(term, held)]
            if words or one.task is Task.CAPTION:
                found.append(FoundText(one.task, segment, tuple(dict.fromkeys(words))))
    return found


def spoken_at(
    text: str, hits: Iterable[Hit], enrichments: Mapping[str, Enrichment]
) -> dict[int, float]:
    """Tell when the words of a text are said in those of some hits that hold them.

    That is when the first line begins that holds the most of them.

    Args:
        text: The words.
        hits: Passages of speech, shots and windows of sound; others are passed over.
        enrichments: What is said in their files, by content hash.

    Returns:
        Seconds from the beginning of the file, by the id of the item.
    """
    found: dict[int, float] = {}
    for hit in hits:
        item = hit.item
        said = enrichments.get(item.content_hash)
        if hit.words is None or item.start_s is None or said is None:
            continue
        start_s, end_s = item.start_s, math.inf if item.end_s is None else item.end_s
        lines = [
            line
            for line in said.segments
            if line.start_s is not None and start_s <= line.start_s < max(end_s, start_s + _SHORT_S)
        ]
        held = found_text(text, [replace(said, segments=lines)])
        best = max(held, key=lambda one: len(one.words), default=None)
        if best is not None and best.segment.start_s is not None:
            found[item.id] = best.segment.start_s
    return found


def has_meaning(text: str) -> bool:
    """Return whether recognised text is long enough to be found by meaning, not by words alone.

    Letters are counted, digits and signs are not; a Chinese, Japanese or Korean one counts twice.
    """
    widths = (unicodedata.east_asian_width(letter) for letter in text if letter.isalpha())
    return sum(2 if width in "WF" else 1 for width in widths) >= MIN_LETTERS


def _is_held(term: Term, held: str) -> bool:
    return any(
        f" {phrase.words}" in held if phrase.is_prefix else f" {phrase.words} " in held
        for phrase in term.phrases
    )

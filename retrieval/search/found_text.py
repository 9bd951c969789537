"""Which lines of recognised text hold words of a query, to show why it was found."""

from collections.abc import Iterable
from dataclasses import dataclass

from retrieval.catalog import Enrichment
from retrieval.catalog.fulltext.words import Term, indexed, terms
from retrieval.recognition.base import Segment, Task


@dataclass(frozen=True)
class FoundText:
    """A segment that a task found, and the query's words in it, folded as the index has them."""

    task: Task
    segment: Segment
    words: tuple[str, ...]


def found_text(text: str, enrichments: Iterable[Enrichment]) -> list[FoundText]:
    """List the segments that hold words of a text, in reading order.

    Words are compared as in a search by words: by their stems, Chinese by two characters that
    follow each other; the last one may go on. Function words count only where there are no others.
    """
    said = terms(text)
    telling = [term for term in said if term.weight > 0] or said
    found = []
    for one in enrichments:
        for segment in one.segments:
            held = f" {indexed(segment.text)} "
            words = [term.phrases[0].words for term in telling if _is_held(term, held)]
            if words:
                found.append(FoundText(one.task, segment, tuple(dict.fromkeys(words))))
    return found


def _is_held(term: Term, held: str) -> bool:
    return any(
        f" {phrase.words}" in held if phrase.is_prefix else f" {phrase.words} " in held
        for phrase in term.phrases
    )

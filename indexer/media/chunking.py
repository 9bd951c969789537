"""Long texts in chunks that an encoder reads whole: sentences, packed up to its limit."""

import bisect
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

Span = tuple[int, int]

_STOPS = ".!?…。！？｡．؟۔।॥።։။។"
_STOPS_WITHOUT_SPACE = frozenset("。！？｡")
_CLOSING = "\"'”’»›)\\]」』】）》〉"
_MAY_END = re.compile(
    rf"(?P<stop>[{_STOPS}]++)[{_CLOSING}]*+(?P<blanks>\s*+)"
    r"|(?>\r\n|[\r\n])[^\S\r\n]*+[\r\n]|[\f\u2029]"
    r"|[\r\n](?=[ \t]*+(?:[-*+•#>|]++|\d{1,3}[.)])\s)"
)
"""A stop, a blank line, or a line that begins an item of a list, a heading or a quotation."""

_LINE = re.compile(r"[^\r\n]+")
_WORD = re.compile(r"[^\s、，；：]*+[、，；：]++|[^\s、，；：]++")
"""Chinese and Japanese have no blanks between words, but commas between clauses."""

_ENDS_NOTHING = re.compile(
    r"(?<!\w)(?:[^\W\d_]|\d\d?|(?:[^\W\d_]{1,2}\.)+[^\W\d_]{1,2}|al|approx|aug|av|ave|bd|bzw|ca|"
    r"capt|cf|ch|chap|co|col|corp|dec|dept|dr|eds|eq|etc|feb|fig|figs|gen|gov|hr|inc|jan|jr|kap|lt|"
    r"ltd|mio|mlle|mme|mr|mrs|mt|nov|nr|oct|pp|prof|rev|sen|sep|sept|sgt|sr|sra|st|str|univ|usw|"
    r"vol|vs)\Z",
    re.IGNORECASE,
)
"""Words before a full stop that is part of them: initials, ordinals (3. Mai), abbreviations."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A stretch of a text: `text` is source[start:end], without blanks around it."""

    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class _Unit:
    """A part of a chunk: a sentence, or a part of one that is too long. Cost: tokens."""

    start: int
    end: int
    cost: int


def split(
    text: str, count_tokens: Callable[[str], int], limit: int, overlap: int = 1
) -> list[Chunk]:
    """Cut a text into chunks of whole sentences, as long as `limit` tokens allow.

    Neighbours share `overlap` sentences where these leave room for a further one. A sentence that
    is too long is cut at its lines, then between words or clauses, then anywhere. No character
    but blanks is left out; starts and ends ascend strictly. Every chunk has at most `limit`
    tokens, except for a single character that has more. Sentences are found by their stops, in most
    scripts; abbreviations and numbers do not end one.

    Args:
        text: the text to split.
        count_tokens: tokens of a text, special ones included if the limit includes them. Called
            once a sentence and a few times a chunk. A longer text should not count less, else
            chunks may be shorter than need be.
        limit: maximum number of tokens of a chunk.
        overlap: number of sentences that neighbours share.
    """
    source = _Source(text, count_tokens, limit)
    units = [unit for start, end in _sentences(text) for unit in source.units(start, end)]
    ends = [unit.end for unit in units]
    chunks: list[Chunk] = []
    done, before = 0, -1
    while done < len(units):
        first = _with_overlap(units, done, max(done - overlap, before + 1), limit)
        while first < done and not source.fits(units[first].start, ends[done]):
            first += 1
        start = units[first].start
        guess = _affordable(units, first, limit) - done - 1
        past = done + 1 + source.reach(start, ends, done + 1, guess)
        chunks.append(Chunk(text[start : ends[past - 1]], start, ends[past - 1]))
        done, before = past, first
    return chunks


def _with_overlap(units: list[_Unit], done: int, least: int, limit: int) -> int:
    """Find where to begin so that, by the sum of costs, the first unit not done fits in."""
    first, cost = done, units[done].cost
    while first > least and cost + units[first - 1].cost <= limit:
        first -= 1
        cost += units[first].cost
    return first


def _affordable(units: list[_Unit], first: int, limit: int) -> int:
    """Past which unit the sum of costs goes beyond the limit."""
    past, cost = first, 0
    while past < len(units) and cost + units[past].cost <= limit:
        cost += units[past].cost
        past += 1
    return past


class _Source:
    """A text that is being cut, and what fits into a chunk of it."""

    def __init__(self, text: str, count_tokens: Callable[[str], int], limit: int) -> None:
        self._text = text
        self._count = count_tokens
        self._limit = limit

    def fits(self, start: int, end: int) -> bool:
        return self._count(self._text[start:end]) <= self._limit

    def reach(self, start: int, ends: Sequence[int], first: int, guess: int) -> int:
        """Count how many of ends[first:], which ascend, a chunk from `start` can take in.

        Near the guess it asks first, so that what is too long by far is never counted. Unless it is
        0, the answer was counted and fits, even where a longer text counts less.
        """
        low, high = 0, len(ends) - first + 1
        probe, step = guess, 1 + guess // 8
        seen_too_long = False
        while high - low > 1:
            probe = min(max(probe, low + 1), high - 1)
            if self.fits(start, ends[first + probe - 1]):
                low = probe
            else:
                high = probe
                seen_too_long = True
            if low and seen_too_long:
                probe = (low + high) // 2
            else:
                probe = high - step if seen_too_long else low + step
                step *= 2
        return low

    def units(self, start: int, end: int) -> Iterator[_Unit]:
        """Yield a sentence as a whole where it fits, else its lines, else what fits of these."""
        cost = self._cost(start, end)
        if cost <= self._limit:
            yield _Unit(start, end, cost)
            return
        lines = [
            line
            for found in _LINE.finditer(self._text, start, end)
            for line in _trimmed(self._text, *found.span())
        ]
        for line_start, line_end in lines:
            if len(lines) > 1:
                cost = self._cost(line_start, line_end)
            if cost <= self._limit:
                yield _Unit(line_start, line_end, cost)
            else:
                yield from self._parts(line_start, line_end, cost)

    def _parts(self, start: int, end: int, cost: int) -> Iterator[_Unit]:
        """Yield the longest runs of words that fit; a word that does not fit is cut."""
        ends = [found.end() for found in _WORD.finditer(self._text, start, end)]
        words_a_part = self._limit * len(ends) // cost
        characters_a_part = self._limit * (end - start) // cost
        while start < end:
            word = bisect.bisect_right(ends, start)
            if words := self.reach(start, ends, word, words_a_part):
                past = ends[word + words - 1]
            else:
                characters = range(start + 1, ends[word])
                longest = self.reach(start, characters, 0, characters_a_part)
                past = self._before_marks(start, start + max(1, longest))
            # All parts but the last are near the limit.
            yield _Unit(start, past, self._limit if past < end else self._cost(start, past))
            start = next((at for at in range(past, end) if not self._text[at].isspace()), end)

    def _before_marks(self, start: int, past: int) -> int:
        """Move a cut so that accents and vowel signs stay with their letter, if it is nearby."""
        for cut in range(past, max(start, past - 8), -1):
            if not unicodedata.category(self._text[cut : cut + 1] or " ").startswith("M"):
                return cut if cut == past or self.fits(start, cut) else past
        return past

    def _cost(self, start: int, end: int) -> int:
        # At least 1, so that no more than `limit` units are ever summed up for a guess.
        return max(1, self._count(self._text[start:end]))


def _sentences(text: str) -> Iterator[Span]:
    """Spans of the sentences, without blanks around them; all else is blank."""
    start = 0
    for found in _MAY_END.finditer(text):
        if found["stop"] is None or _ends_sentence(text, found):
            yield from _trimmed(text, start, found.end())
            start = found.end()
    yield from _trimmed(text, start, len(text))


def _ends_sentence(text: str, found: re.Match[str]) -> bool:
    if not _STOPS_WITHOUT_SPACE.isdisjoint(found["stop"]):
        return True
    following = text[found.end() : found.end() + 1]
    if not found["blanks"] or following.islower():
        return False
    # A blank line ends a paragraph, whatever the word before it.
    if found["stop"] != "." or found["blanks"].count("\n") > 1:
        return True
    start = found.start()
    if following.isdecimal() and text[max(0, start - 3) : start].lower() == " no":
        return False
    return not _ENDS_NOTHING.search(text, max(0, start - 12), start)


def _trimmed(text: str, start: int, end: int) -> Iterator[Span]:
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    if start < end:
        yield start, end

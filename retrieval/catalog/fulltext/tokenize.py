"""Words of texts in any script: as the full-text index holds them, and as a query asks for them.

Words are compared in either case and without accents (NFKC, case folding, then without the marks of
Latin, Greek and Cyrillic letters, Hebrew points and Arabic vowel signs). Where a script puts no
spaces between words, or puts particles onto them, as Hangul, each character is a word of the index,
and a run of them is asked for as a phrase.
"""

import re
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

import regex

MOST_TERMS = 64
"""Maximum terms of a query, and phrases of a term; the rest is ignored."""


class Phrase(NamedTuple):
    """Words that follow each other, separated by spaces; is_prefix: the last may go on."""

    words: str
    is_prefix: bool = False


Term = tuple[Phrase, ...]
"""Phrases one of which a document must hold. Their words are letters, marks and digits."""

_LONGEST_WORD = 64
_SHORTEST_PREFIX = 3

_SYLLABLES = r"\p{scx=Han}\p{scx=Hiragana}\p{scx=Katakana}\p{scx=Bopomofo}\p{scx=Hangul}"
_LETTERS = r"\p{scx=Thai}\p{scx=Lao}\p{scx=Khmer}\p{scx=Myanmar}\p{scx=Tibetan}"
_RUN = regex.compile(
    rf"(?P<syllables>(?:[[{_SYLLABLES}]&&[\p{{L}}\p{{N}}]]\p{{M}}*)+)"
    rf"|(?P<letters>(?:[[{_LETTERS}]&&\p{{L}}]\p{{M}}*)+)"
    rf"|(?P<spaced>[[\p{{L}}\p{{M}}\p{{N}}]--[[{_SYLLABLES}{_LETTERS}]&&\p{{L}}]]+)",
    regex.VERSION1,
)
_ASCII_WORD = re.compile("[A-Za-z0-9]+")
_CHARACTER = regex.compile(r"[\p{L}\p{N}]\p{M}*")
_PIECE = regex.compile(r"\p{N}+|\p{Lu}+(?!\p{Ll})|\p{Lu}?[^\p{Lu}\p{N}]+")
"""Of `HTMLPage2`: `HTML`, `Page` and `2`."""
_MARKS = regex.compile("[\u0300-\u036f\u0591-\u05bd\u05bf-\u05c7\u0640\u064b-\u065f\u0670]+")

_GRAM = {"syllables": 2, "letters": 4}
"""Characters that make about a word."""


def indexed(text: str) -> str:
    """Join the words of a text with spaces, for a tokenizer that only splits there.

    A compound such as `beach2019` or `iPhone` is followed by its pieces.
    """
    words: list[str] = []
    for script, pieces in _runs(text):
        if script == "spaced" and len(pieces) > 1:
            words.append("".join(pieces)[:_LONGEST_WORD])
        words += pieces
    return " ".join(words)


def terms(text: str, *, all_words: bool) -> list[Term]:
    """Split a query into the terms to search for.

    A compound is asked for as it is and as its pieces, a run of a script without spaces as a
    phrase. Unless all words must be found, the parts of such a run are asked for, too, and the last
    word may go on, where it has three characters and nothing follows it.
    """
    found: dict[Term, None] = {}
    runs = list(_runs(text))
    is_unfinished = bool(text) and bool(_RUN.fullmatch(unicodedata.normalize("NFKC", text[-1])))
    for place, (script, pieces) in enumerate(runs):
        wanted = [Phrase(" ".join(pieces))]
        if script == "spaced":
            word = "".join(pieces)[:_LONGEST_WORD]
            if len(pieces) > 1:
                wanted.insert(0, Phrase(word))
            may_go_on = is_unfinished and not all_words and place == len(runs) - 1
            if may_go_on and len(word) >= _SHORTEST_PREFIX:
                wanted.append(Phrase(word, is_prefix=True))
        elif not all_words:
            size = _GRAM[script]
            starts = range(len(pieces) - size + 1) if len(pieces) > size else ()
            wanted += [Phrase(" ".join(pieces[start : start + size])) for start in starts]
        found[tuple(wanted[:MOST_TERMS])] = None
    return list(found)[:MOST_TERMS]


def _runs(text: str) -> Iterator[tuple[str, list[str]]]:
    """Words with their pieces, and runs of scripts without spaces with their characters."""
    if text.isascii():  # most texts, in a fraction of the time
        for word in _ASCII_WORD.findall(text):
            is_plain = word.islower() and word.isalpha()
            parts = [word] if is_plain else _PIECE.findall(word)
            yield "spaced", [part.lower()[:_LONGEST_WORD] for part in parts]
        return
    for run in _RUN.finditer(unicodedata.normalize("NFKC", text)):
        script = str(run.lastgroup)
        parts = (_PIECE if script == "spaced" else _CHARACTER).findall(run[0])
        if pieces := [piece for part in parts if (piece := _folded(part))]:
            yield script, pieces


def _folded(word: str) -> str:
    bare = _MARKS.sub("", unicodedata.normalize("NFD", word.casefold()))
    return unicodedata.normalize("NFC", bare)[:_LONGEST_WORD]

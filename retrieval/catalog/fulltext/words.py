"""Words: how a text is split into those of the index, and a query into what to search for.

Words are compared in either case, without accents and in one width (NFKC, case folding, then
without the marks of Latin, Greek and Cyrillic letters, Hebrew points and Arabic vowel signs), and
with simplified for traditional Chinese characters. Where a script puts no spaces between words, or
puts particles onto them, as Hangul, each character is a word of the index, and two that follow each
other make about a word of a query. Latin words are indexed with their stems, English and German, as
nobody says in which language a file is named.
"""

import re
import unicodedata
from collections.abc import Iterator
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import regex

from retrieval.media.registry import format_of

MOST_TERMS = 64
"""Maximum terms of a query, and phrases of a term; the rest is ignored."""


class Phrase(NamedTuple):
    """Words that follow each other, separated by spaces; is_prefix: the last may go on."""

    words: str
    is_prefix: bool = False


class Term(NamedTuple):
    """Phrases one of which a document must hold. Their words are letters, marks and digits.

    weight: how much it says beside the other terms: 0 for function words, if there are others.
    """

    phrases: tuple[Phrase, ...]
    weight: float = 1.0


_LONGEST_WORD = 64
_SHORTEST_PREFIX = 3
_SHORTEST_STEMMED = 3

_SINGLE_LETTER = 0.5
"""Weight of a word of one letter or digit: `2` in "2 dogs" is rarely that of IMG_2."""

_SYLLABLES = r"\p{scx=Han}\p{scx=Hiragana}\p{scx=Katakana}\p{scx=Bopomofo}\p{scx=Hangul}"
_LETTERS = r"\p{scx=Thai}\p{scx=Lao}\p{scx=Khmer}\p{scx=Myanmar}\p{scx=Tibetan}"
_DAY = r"(?<![0-9A-Za-z])[0-9]{4}(?P<mark>[-._/:])[0-9]{2}(?P=mark)[0-9]{2}(?![0-9A-Za-z])"
_SPACED = rf"[[\p{{L}}\p{{M}}\p{{N}}]--[[{_SYLLABLES}{_LETTERS}]&&\p{{L}}]]+"
_RUN = regex.compile(
    rf"(?P<day>{_DAY})"
    rf"|(?P<syllables>(?:[[{_SYLLABLES}]&&[\p{{L}}\p{{N}}]]\p{{M}}*)+)"
    rf"|(?P<letters>(?:[[{_LETTERS}]&&\p{{L}}]\p{{M}}*)+)"
    rf"|(?P<spaced>{_SPACED}(?:['’]{_SPACED})*)",
    regex.VERSION1,
)
_ASCII_RUN = re.compile(rf"(?P<day>{_DAY})|(?P<spaced>[A-Za-z0-9]+(?:'[A-Za-z0-9]+)*)")
_CHARACTER = regex.compile(r"[\p{L}\p{N}]\p{M}*")
_PIECE = regex.compile(r"\p{N}+|\p{Lu}+(?!\p{Ll})|\p{Lu}?[^\p{Lu}\p{N}'’]+")
"""Of `HTMLPage2`: `HTML`, `Page` and `2`."""
_MARKS = regex.compile("[\u0300-\u036f\u0591-\u05bd\u05bf-\u05c7\u0640\u064b-\u065f\u0670]+")
_DIGITS = re.compile("[0-9]+")
_STEMMED = re.compile(f"[a-z]{{{_SHORTEST_STEMMED},}}")

_GRAM = {"syllables": 2, "letters": 4}
"""Characters that make about a word."""


def indexed(text: str) -> str:
    """Join the words of a text with spaces, for a tokenizer that only splits there.

    A compound such as `beach2019`, `iPhone` or `O'Neil` is followed by its pieces, and all of them
    by those of their stems that differ.
    """
    words: list[str] = []
    for script, pieces in _runs(text):
        is_compound = script == "spaced" and len(pieces) > 1
        made = ["".join(pieces)[:_LONGEST_WORD], *pieces] if is_compound else pieces
        words += made
        if script == "spaced":
            words += dict.fromkeys(stem for word in made for stem in stems(word))
    return " ".join(words)


def terms(text: str) -> list[Term]:
    """Split a query into the terms to search for.

    A compound is asked for as it is and as its pieces, a word with its stems, a run of a script
    without spaces by each two characters that follow each other. The last word may go on, where it
    has three characters and nothing follows it. The endings of file names are left out.
    """
    text = " ".join(map(without_ending, text.split(" ")))
    found: dict[tuple[Phrase, ...], Term] = {}
    runs = list(_runs(text))
    is_unfinished = bool(text) and bool(_RUN.fullmatch(unicodedata.normalize("NFKC", text[-1])))
    for place, (script, pieces) in enumerate(runs):
        if script == "spaced":
            may_go_on = is_unfinished and place == len(runs) - 1
            made = [(_phrases_of_word(pieces), _weight_of_word(pieces))]
            last = "".join(pieces)[:_LONGEST_WORD]
            prefix = may_go_on and len(last) >= _SHORTEST_PREFIX and Phrase(last, is_prefix=True)
        else:
            made, prefix = list(_grams(script, pieces)), False
        for phrases, weight in made:
            going_on = (prefix,) if prefix else ()
            found[phrases] = Term((*phrases, *going_on), weight)
    return list(found.values())[:MOST_TERMS]


@lru_cache(maxsize=100_000)
def stems(word: str) -> tuple[str, ...]:
    """Return the English and German stems of a folded word that differ from it (Snowball)."""
    if not _STEMMED.fullmatch(word):
        return ()
    found = (_folded(stemmer.stemWord(word)) for stemmer in _stemmers())
    return tuple(dict.fromkeys(stem for stem in found if stem and stem != word))


def without_ending(name: str) -> str:
    """Leave out the ending of a file name, if it is one of a format that can be indexed."""
    return name.rpartition(".")[0] if format_of(name) else name


def _phrases_of_word(pieces: list[str]) -> tuple[Phrase, ...]:
    whole = "".join(pieces)[:_LONGEST_WORD]
    wanted = [whole, " ".join(pieces), *stems(whole)]
    return tuple(dict.fromkeys(Phrase(words) for words in wanted[:MOST_TERMS]))


def _weight_of_word(pieces: list[str]) -> float:
    if len(pieces) == 1 and pieces[0] in _function_words():
        return 0.0
    return _SINGLE_LETTER if len(pieces) == 1 and len(pieces[0]) == 1 else 1.0


def _grams(script: str, pieces: list[str]) -> Iterator[tuple[tuple[Phrase, ...], float]]:
    """Yield phrases of a run's characters, and their weights; not across function words."""
    size, words = _GRAM[script], _function_words()
    if len(pieces) <= size:
        yield (Phrase(" ".join(pieces)),), float(not all(piece in words for piece in pieces))
        return
    said = "".join(" " if piece in words else piece for piece in pieces).split()
    parts = [_CHARACTER.findall(part) for part in said] or [pieces]
    for part in parts:
        for start in range(max(len(part) - size, 0) + 1):
            yield (Phrase(" ".join(part[start : start + size])),), float(bool(said))


def _runs(text: str) -> Iterator[tuple[str, list[str]]]:
    """Words with their pieces, and runs of scripts without spaces with their characters."""
    if text.isascii():  # most texts, in a fraction of the time
        for run in _ASCII_RUN.finditer(text):
            word = run[0]
            if run.lastgroup == "day":
                parts = _DIGITS.findall(word)
            else:
                parts = [word] if word.islower() and word.isalpha() else _PIECE.findall(word)
            yield "spaced", [part.lower()[:_LONGEST_WORD] for part in parts]
        return
    for found in _RUN.finditer(unicodedata.normalize("NFKC", text).translate(_simplified())):
        script = str(found.lastgroup)
        if script == "day":
            parts = _DIGITS.findall(found[0])
        else:
            parts = (_PIECE if script == "spaced" else _CHARACTER).findall(found[0])
        if pieces := [piece for part in parts if (piece := _folded(part))]:
            yield "spaced" if script == "day" else script, pieces


def _folded(word: str) -> str:
    bare = _MARKS.sub("", unicodedata.normalize("NFD", word.casefold()))
    return unicodedata.normalize("NFC", bare)[:_LONGEST_WORD]


@cache
def _simplified() -> dict[int, int]:
    """Map traditional Chinese characters to simplified ones, by OpenCC 1.4.2 (Apache-2.0)."""
    traditional, simplified = _data("simplified.txt")
    return str.maketrans(traditional, simplified)


@cache
def _function_words() -> frozenset[str]:
    """Words of several languages that say nothing of what a picture shows, folded.

    Those that name a thing or a person in another language (`hat`, `van`, `Will`) are left out.
    """
    return frozenset(
        _folded(word).translate(_simplified())
        for line in _data("function_words.txt")
        for word in line.split()[1:]
    )


@cache
def _stemmers() -> tuple[Any, ...]:
    import snowballstemmer

    return tuple(map(snowballstemmer.stemmer, ("english", "german")))


def _data(name: str) -> list[str]:
    return (Path(__file__).parent / name).read_text(encoding="utf-8").splitlines()

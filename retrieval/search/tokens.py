"""The words of a query text with their places in it, for the parser of times and places."""

import json
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import pairwise
from typing import Any

import regex

MOST_TOKENS = 60
"""Of a text that is parsed; a longer one describes a picture."""

_SYLLABLE = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}ー々]"
_TOKEN = regex.compile(
    rf"(?P<number>\p{{Nd}}+)|(?P<syllable>{_SYLLABLE})|(?P<word>(?:(?!{_SYLLABLE})[\p{{L}}\p{{M}}])+)"
)


@dataclass(frozen=True, slots=True)
class Token:
    """A run of letters, a number, or one character of Chinese, Japanese or Korean.

    key: as words are compared, without case, width and accents. start, end: in the text.
    """

    key: str
    kind: str
    start: int
    end: int


def tokenize(text: str) -> list[Token]:
    """Split a text into its words, numbers and syllables; what lies between is no token."""
    return [
        Token(fold(match[0]), str(match.lastgroup), match.start(), match.end())
        for match in _TOKEN.finditer(text)
    ]


def fold(word: str) -> str:
    """Fold case and width, and leave out accents."""
    spelled = unicodedata.normalize("NFKD", word.casefold())
    return unicodedata.normalize("NFC", "".join(c for c in spelled if not unicodedata.combining(c)))


def key_of(text: str) -> str:
    """Return the key of a phrase: those of its words, with a space where words need one."""
    return join(tokenize(text))


def keys(words: str) -> frozenset[str]:
    """Return the keys of phrases that are separated by "|"."""
    return frozenset(map(key_of, words.split("|")))


def join(tokens: Sequence[Token]) -> str:
    """Join the keys of tokens that follow each other; syllables stand close as in the text."""
    if not tokens:
        return ""
    joined = tokens[0].key
    for before, token in pairwise(tokens):
        is_close = token.start == before.end and "syllable" in {before.kind, token.kind}
        joined += token.key if is_close else f" {token.key}"
    return joined


def phrases(
    tokens: Sequence[Token], start: int, most: int, gap: "regex.Pattern[str]", text: str
) -> Iterator[tuple[int, str]]:
    """Yield the end and the key of each phrase that begins at a token, the longest first.

    most: tokens of a phrase. gap: what may lie between two of its tokens.
    """
    end = start + 1
    while end < min(len(tokens), start + most) and gap.fullmatch(
        text, tokens[end - 1].end, tokens[end].start
    ):
        end += 1
    while end > start:
        yield end, join(tokens[start:end])
        end -= 1


@cache
def query_words() -> dict[str, Any]:
    """Read the words for times and places, which `tools/query_words.py` writes."""
    text = (files("retrieval.search") / "query_words.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded

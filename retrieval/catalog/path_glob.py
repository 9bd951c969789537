"""Globs over paths: `*` within a folder, `**` across folders, `?`, `[...]`.

Characters, not bytes, are compared, composed or not (NFC); a byte that is not valid UTF-8 counts as
a character. Case counts. A backslash does not escape: `[*]` is a star.
"""

import os
import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from retrieval.objects.paths import is_uri

_WILD = frozenset("*?[")
_COMPOSED_FROM_OTHERS = frozenset("K;`")
"""ASCII that NFC makes of other characters, too: of the Kelvin sign, for one."""

STAR = "*"
STARS = "**"
BEFORE_SLASH = "(?=/)"
NOT_SLASH = "(?!/)"
NOTHING = "(?!)"


def matches(pattern: str, path: bytes) -> bool:
    """True if an absolute path matches."""
    return _compiled(pattern).fullmatch(composed(os.fsdecode(path))) is not None


def literal_prefix(pattern: str) -> str:
    """Return what every matching path begins with, in ASCII; "" if unknown."""
    prefix = ""
    if pattern.startswith("/"):
        for character in composed(pattern):
            if character in _WILD | _COMPOSED_FROM_OTHERS or not character.isascii():
                break
            prefix += character
    return prefix


class SplitPattern(NamedTuple):
    """A glob as what it asks of the folder of a file, with a slash at its end, and of its name.

    folder: a glob that folders must match; "" for any. name: a pattern of ASCII characters and `*`
    for anything, which names must match as they are written. is_exact: whether that is all.
    """

    folder: str
    name: str
    is_exact: bool


def split_pattern(pattern: str) -> SplitPattern | None:
    """Split a glob at its last slash; None where that is not possible."""
    if "[" in pattern:
        return None
    if pattern.endswith(f"/{STARS}"):
        return SplitPattern(pattern, STAR, is_exact=True)
    head, slash, name = pattern.rpartition("/")
    if STARS in name or not name:
        return None
    unknown = _COMPOSED_FROM_OTHERS | {"?"}
    known = [c if c.isascii() and c not in unknown else STAR for c in name]
    simple = re.sub(r"\*+", STAR, "".join(known))
    # After a star the rest needs to be there only at the end, wherever characters begin.
    is_exact = simple == name and name.startswith(STAR) and name.count(STAR) == 1
    return SplitPattern(head + slash, simple, is_exact)


def composed(text: str) -> str:
    """Compose characters (NFC)."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


@lru_cache(maxsize=64)
def _compiled(pattern: str) -> re.Pattern[str]:
    """Compile a regular expression that takes quadratic time at worst, whatever the pattern.

    Between stars lie pieces of fixed length. Where such a piece matches first, the rest has the
    most room, so that no later place needs to be tried: hence the atomic groups. Only the start of
    what follows the last `**` must be searched for, as that has to reach the end.
    """
    tokens = tokens_of(composed(pattern))
    runs = [_pieces(run) for run in _split(tokens, STARS)]
    expression = ""
    for number, (first, *others) in enumerate(runs):
        is_last = number == len(runs) - 1
        anywhere = ".*" if is_last else ".*?"  # names are at the end of paths
        start = f"{anywhere}{first}" if number else first
        if is_last and others:
            start += _each_at_once(others[:-1]) + f"[^/]*{others[-1]}"
        else:
            start += _each_at_once(others)
        expression += start if is_last else f"(?>{start})"
    return re.compile(expression, re.DOTALL)


def tokens_of(pattern: str) -> list[str]:
    """Split a composed glob into expressions of single characters, stars, and double stars."""
    tokens = [] if pattern.startswith("/") or is_uri(pattern) else [STARS, "/"]
    place = 0
    while place < len(pattern):
        character = pattern[place]
        end = place + 1
        if character == "*":
            while pattern[end : end + 1] == "*":
                end += 1
            is_double = end - place > 1
            if is_double and tokens[-1:] == ["/"] and pattern[end : end + 1] == "/":
                tokens[-1] = BEFORE_SLASH  # `a/**/b` is `a/b`, too
            tokens.append(STARS if is_double else STAR)
        elif character == "[" and (closing := _closing(pattern, place)) > 0:
            tokens.append(_one_of(pattern[place + 1 : closing]))
            end = closing + 1
        else:
            tokens.append("[^/]" if character == "?" else re.escape(character))
        place = end
    return tokens


def _closing(pattern: str, place: int) -> int:
    """Find where the set that begins at a place ends, or -1: `[]]` and `[!]]` are sets."""
    is_negated = pattern[place + 1 : place + 2] == "!"
    return pattern.find("]", place + (3 if is_negated else 2))


def _one_of(inside: str) -> str:
    is_negated = inside.startswith("!")
    inside = inside.removeprefix("!")
    ranges = []
    while inside:
        is_range = len(inside) > 2 and inside[1] == "-"
        first, last = inside[0], inside[2 if is_range else 0]
        inside = inside[3 if is_range else 1 :]
        if first <= last:
            ranges.append(f"{re.escape(first)}-{re.escape(last)}")
    if not ranges:
        return "[^/]" if is_negated else NOTHING
    return f"{NOT_SLASH}[{'^' if is_negated else ''}{''.join(ranges)}]"


def _split(tokens: Iterable[str], separator: str) -> list[list[str]]:
    parts: list[list[str]] = [[]]
    for token in tokens:
        if token == separator:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def _pieces(run: Iterable[str]) -> list[str]:
    return ["".join(piece) for piece in _split(run, STAR)]


def _each_at_once(pieces: Iterable[str]) -> str:
    """Pieces after a star each, at the first place in the folder where they match."""
    return "".join(f"(?>[^/]*?{piece})" for piece in pieces)

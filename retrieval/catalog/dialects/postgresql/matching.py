"""Functions of a catalog's schema that compare paths and texts as Python does.

They have no place in the migrations, which say what is stored.
"""

import sys
import unicodedata
from functools import cache

from retrieval.catalog.path_glob import NOTHING, STAR, STARS, composed, tokens_of

PATH_TEXT = "mmsearch_path"
FOLDED = "mmsearch_folded"

_ASCII = r"'^[\x01-\x7f]*$'"
_INVALID = 0x10DC00
"""Bytes that are no UTF-8 stand in the last private plane, where Python has U+DC80 to U+DCFF."""

_VALID = (
    r"[\x01-\x7f]+"
    r"|[\u00c2-\u00df][\u0080-\u00bf]"
    r"|\u00e0[\u00a0-\u00bf][\u0080-\u00bf]"
    r"|[\u00e1-\u00ec\u00ee\u00ef][\u0080-\u00bf]{2}"
    r"|\u00ed[\u0080-\u009f][\u0080-\u00bf]"
    r"|\u00f0[\u0090-\u00bf][\u0080-\u00bf]{2}"
    r"|[\u00f1-\u00f3][\u0080-\u00bf]{3}"
    r"|\u00f4[\u0080-\u008f][\u0080-\u00bf]{2}"
)
"""UTF-8 (RFC 3629), its bytes read as Latin-1."""


def path_expression(pattern: str) -> str:
    """Return the regular expression of PostgreSQL for the texts of paths that a glob matches.

    It does not backtrack, so that stars need no care.
    """
    written = {STARS: ".*", STAR: "[^/]*", NOTHING: "(?=a)b"}
    tokens = (written.get(token, token) for token in tokens_of(composed(pattern)))
    return "".join(["^", *tokens, "$"]).translate(
        {0xDC00 + byte: _INVALID + byte for byte in range(0x80, 0x100)}
    )


@cache
def functions() -> tuple[str, ...]:
    """Return the statements that create the functions."""
    latin = "convert_from(path, 'LATIN1')"
    one = (
        f"CASE WHEN part[1] ~ {_ASCII} THEN part[1] "
        f"WHEN length(part[1]) = 1 THEN chr({_INVALID} + ascii(part[1])) "
        "ELSE convert_from(convert_to(part[1], 'LATIN1'), 'UTF8') END"
    )
    changed, plain, several = _case_foldings()
    folded = f"translate(lower(normalize(said, NFD) COLLATE \"C\"), '{changed}', '{plain}')"
    for character, written in several.items():
        folded = f"replace({folded}, '{character}', '{written}')"
    return (
        _function(
            f"{PATH_TEXT}_decoded(path bytea)",
            f"SELECT normalize(string_agg({one}, '' ORDER BY place), NFC) "
            f"FROM regexp_matches({latin}, '({_VALID}|.)', 'g') WITH ORDINALITY AS t(part, place)",
        ),
        # Apart, so that PostgreSQL puts it into the query: most paths are ASCII.
        _function(
            f"{PATH_TEXT}(path bytea)",
            f"SELECT CASE WHEN {latin} ~ {_ASCII} THEN {latin} ELSE {PATH_TEXT}_decoded(path) END",
        ),
        _function(f"{FOLDED}_other(said text)", f"SELECT normalize({folded}, NFC)"),
        _function(
            f"{FOLDED}(said text)",
            f'SELECT CASE WHEN said ~ {_ASCII} THEN lower(said COLLATE "C") '
            f"ELSE {FOLDED}_other(said) END",
        ),
    )


def _function(signature: str, body: str) -> str:
    return (
        f"CREATE OR REPLACE FUNCTION {signature} RETURNS text LANGUAGE sql STABLE PARALLEL "
        f"SAFE AS $mmsearch${body}$mmsearch$"
    )


def _case_foldings() -> tuple[str, str, dict[str, str]]:
    """Return characters that case folding changes, what it makes of them, and those of several.

    Only of those that are left of decomposed text (NFD).
    """
    one: dict[str, str] = {}
    several: dict[str, str] = {}
    for code in range(0x80, sys.maxunicode + 1):
        character = chr(code)
        folded = character.casefold()
        if folded != character and unicodedata.normalize("NFD", character) == character:
            (one if len(folded) == 1 else several)[character] = folded
    return "".join(one), "".join(one.values()), several

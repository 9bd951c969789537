"""Texts over the wire: how names of files are spelled, how long a value may be."""

import os

MOST_IN_AN_ADDRESS = 10_000
"""Characters of a value there: the server takes 64 KiB, and a character can take six bytes."""


def valid_text(path: str) -> str:
    """Spell a file name that is not valid UTF-8 with escapes, as JSON can carry no raw bytes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")

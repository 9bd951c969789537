"""Encoding of file names, and maximum length of values."""

import os

MOST_IN_AN_ADDRESS = 10_000
"""Maximum characters of a value in a URL: the server accepts 64 KiB, a character has up to six."""


def valid_text(path: str) -> str:
    """Escape bytes of a file name that are not valid UTF-8, since JSON has no raw bytes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")

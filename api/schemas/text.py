"""Names of files in JSON."""

import os


def valid_text(path: str) -> str:
    """Spell a file name that is not valid UTF-8 with escapes, as JSON can carry no raw bytes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")

"""Escape control characters of names and messages that come from files, for terminals and logs.

A file name, a column of a table or a library that somebody sent may hold the escape sequences of a
terminal, which set its title, hide lines or write what looks like another message.
"""

import logging
import re

_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 without tab and line feed, DEL, C1
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # change the direction of text
    "\u2028\u2029\ud800-\udfff\ufff9-\ufffb\U000e0000-\U000e007f]"
)


def escape_controls(text: str) -> str:
    r"""Write control and direction characters as `\x1b` or `\u202e`; keep lines and tabs."""
    return _CONTROLS.sub(lambda found: ascii(found[0])[1:-1], text)


def one_line(text: str) -> str:
    """Escape all that is not printable, also line breaks; bytes that are not UTF-8, too."""
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # a byte of a name that is not UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return ascii(character)[1:-1]


class PrintableFormatter(logging.Formatter):
    """Formats log records without control characters; what is logged stays on one line.

    Tracebacks keep their lines.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the method's name
        """Format the message itself."""
        return one_line(super().formatMessage(record))

    def format(self, record: logging.LogRecord) -> str:
        """Format a record, with its traceback."""
        return escape_controls(super().format(record))

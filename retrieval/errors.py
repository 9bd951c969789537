"""The one exception hierarchy: every error that a user can cause or meet."""

from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from pydantic import ValidationError


class MMSearchError(Exception):
    """Base of all errors that carry a message for the user.

    The message says what was wrong, with which file or option, and what to do.
    """


class UsageError(MMSearchError):
    """A request that cannot be meant: an empty query, a wrong option, an unknown encoder."""


class NotFoundError(MMSearchError):
    """A path, library or item that does not exist."""


class LibraryError(MMSearchError):
    """A library that cannot be opened or written: wrong format, locked, read-only."""


class DamagedLibraryError(LibraryError):
    """A library whose files contradict each other or cannot be read."""


class LibraryLockedError(LibraryError):
    """Another process is writing to the library."""


class SpaceMismatchError(LibraryError):
    """The encoder at hand is not the one that made the library's vectors."""


class EncoderUnavailableError(MMSearchError):
    """An encoder whose weights or packages cannot be had on this machine."""


class UnreadableFileError(MMSearchError):
    """A file whose content cannot be read; the message is the reason."""


class MissingExtraError(UnreadableFileError):
    """A file that a package could read that is not installed; the message says how to get it."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} need an extra package: pip install 'mmsearch[{extra}]'")
        self.what = what
        self.extra = extra

    def __reduce__(self) -> tuple[type[Self], tuple[str, str]]:
        return type(self), (self.what, self.extra)


def first_problem(error: "ValidationError") -> str:
    """Say in a sentence what is wrong first, and in which field."""
    first = error.errors(include_url=False)[0]
    place = ".".join(map(str, first["loc"]))
    message = str(first["msg"]).removeprefix("Value error, ")
    return f"{place}: {message}." if place else f"{message}."

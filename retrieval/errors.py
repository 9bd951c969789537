"""Exception hierarchy of all errors that a user can cause or meet."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from pydantic import ValidationError


class MMSearchError(Exception):
    """Base of all errors that carry a message for the user.

    The message says what was wrong, with which file or option, and what to do.
    """


class UsageError(MMSearchError):
    """Invalid request: an empty query, a wrong option, an unknown encoder."""


class NotFoundError(MMSearchError):
    """A path, library or item that does not exist."""


class LibraryError(MMSearchError):
    """A library cannot be opened or written: wrong format, locked, read-only."""


class DamagedLibraryError(LibraryError):
    """Files of a library are inconsistent or cannot be read."""


class LibraryGoneError(LibraryError):
    """The directory of an open library was moved, deleted or replaced."""


class LibraryLockedError(LibraryError):
    """Another process is writing to the library."""


class ReadOnlyLibraryError(LibraryError):
    """A library may only be read."""


class SpaceMismatchError(LibraryError):
    """The encoder is not the one that made the vectors of the library."""


class EncoderUnavailableError(MMSearchError):
    """The weights or packages of an encoder are not available on this machine."""


class UnreadableFileError(MMSearchError):
    """A file cannot be read; the message is the reason."""


class MissingExtraError(UnreadableFileError):
    """A file needs a package that is not installed; the message says how to install it."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} need an extra package: pip install 'mmsearch[{extra}]'")
        self.what = what
        self.extra = extra

    def __reduce__(self) -> tuple[type[Self], tuple[str, str]]:
        return type(self), (self.what, self.extra)


@contextmanager
def import_errors_as(error: MMSearchError) -> Iterator[None]:
    """Raise an error of this project where an import fails."""
    try:
        yield
    except ImportError as cause:
        raise error from cause


_PYTORCH = "torch open-clip-torch timm transformers tokenizers ftfy"
_TOKENIZERS = "tokenizers ftfy"

LEFT_OUT_MODULES = {
    "ftfy": _TOKENIZERS,
    "open_clip": _PYTORCH,
    "timm": _PYTORCH,
    "tokenizers": _TOKENIZERS,
    "torch": _PYTORCH,
    "transformers": _PYTORCH,
}
"""Modules that a light installation lacks, each with the packages that what needs it takes."""


@contextmanager
def left_out_packages_explained(what: str) -> Iterator[None]:
    """Raise EncoderUnavailableError, which says what to install, where such a module is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if module not in LEFT_OUT_MODULES:
            raise
        raise EncoderUnavailableError(
            f"{what} needs the module {module}, which is not installed here; a light installation "
            f"leaves it out. Install what is missing: `pip install {LEFT_OUT_MODULES[module]}`."
        ) from error


def require_at_least(settings: object, least: int, *names: str) -> None:
    """Raise UsageError for the first of some settings that is too small."""
    for name in names:
        if (value := getattr(settings, name)) < least:
            raise UsageError(f"{name} must be at least {least}, not {value}.")


def require_share(settings: object, *names: str) -> None:
    """Raise UsageError for the first of some settings that is not from 0 up to, without, 1."""
    for name in names:
        if not 0 <= (value := getattr(settings, name)) < 1:
            raise UsageError(f"{name} must be at least 0 and less than 1, not {value}.")


def first_problem(error: "ValidationError") -> str:
    """Describe the first validation error and its field in a sentence."""
    first = error.errors(include_url=False)[0]
    place = ".".join(map(str, first["loc"]))
    message = str(first["msg"]).removeprefix("Value error, ")
    return f"{place}: {message}." if place else f"{message}."


def first_line(error: Exception) -> str:
    """Shorten the message of a package: some list every weight of a wrong shape."""
    return str(error).strip().partition("\n")[0].rstrip(".: ") or type(error).__name__

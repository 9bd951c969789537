"""The one exception hierarchy: every error that a user can cause or meet."""


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

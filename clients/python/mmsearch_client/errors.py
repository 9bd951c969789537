"""Errors that a user can cause or meet; the message says what was wrong, and what to do."""

from pydantic import ValidationError


class MMSearchError(Exception):
    """Base of all errors of the client."""


class UsageError(MMSearchError):
    """Invalid request: an empty query, a wrong option."""


class NotFoundError(MMSearchError):
    """An item or job that does not exist."""


def first_problem(error: ValidationError) -> str:
    """Describe the first validation error and its field in a sentence."""
    first = error.errors(include_url=False)[0]
    place = ".".join(map(str, first["loc"]))
    return f"{place}: {first['msg']}." if place else f"{first['msg']}."

"""The sub-path that a proxy serves this service at, of the current request."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_ROOT_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)*")

_current: ContextVar[str] = ContextVar("root_path", default="")


def at_root_path(path: str) -> str:
    """Put the sub-path of the current request before the path of an endpoint."""
    return _current.get() + path


@contextmanager
def using_root_path(path: str) -> Iterator[None]:
    """Make a sub-path that of the current request, in its own context."""
    token = _current.set(path)
    try:
        yield
    finally:
        _current.reset(token)


def parse_root_path(text: str) -> str:
    """Normalise a sub-path: a slash before it, none behind. Raises ValueError for other texts."""
    path = "/" + text.strip("/") if text.strip("/") else ""
    if not _ROOT_PATH.fullmatch(path) or {".", ".."} & set(path.split("/")):
        raise ValueError(f"{text!r} is not a path of an address: write /photos, for example")
    return path

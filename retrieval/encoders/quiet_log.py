"""Packages that log what is expected, through the root logger, as if it were trouble."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_log(least: int) -> Iterator[None]:
    """Drop what this thread logs below a level through the functions of `logging` itself.

    The level of the root logger is left alone: it silences other threads and loggers, too, and two
    blocks that overlap would leave it raised.
    """
    root, thread = logging.getLogger(), threading.get_ident()

    def is_heard(record: logging.LogRecord) -> bool:
        return record.thread != thread or record.levelno >= least

    root.addFilter(is_heard)
    try:
        yield
    finally:
        root.removeFilter(is_heard)

"""Make the image tokens of what is shown, while nobody asks.

A search is reranked in a fraction of the time where the tokens of its candidates are cached. They
are made for the items that answers and pages show, those shown most often first.
"""

import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass

from cachetools import LRUCache

from api.http.batching import Inference
from api.http.metrics import ServiceMetrics
from retrieval.catalog import Item
from retrieval.media import Modality
from retrieval.search.engine import Engine

_log = logging.getLogger("mmsearch")

MAX_QUEUE = 2000
"""Items that wait at most; those that were not shown for longest are dropped."""

_MAX_TRIED = 20_000
_PAUSE_S = 1.0
"""Seconds after something was shown in which nothing is made: who scrolls needs the cores."""
_NICENESS = 10


@dataclass
class _Shown:
    item: Item
    count: int = 1


class TokenMaker:
    """Makes the image tokens that the reranker of an engine lacks of items that were shown.

    It reads files on a thread of its own, of low priority, and encodes one image at a time on the
    inference thread, only after no request came for a while.

    Args:
        engine: Whose reranker needs the tokens.
        inference: The thread that encodes.
        metrics: Metrics of the service.
        reranker: Name of the reranker.
    """

    def __init__(
        self, engine: Engine, inference: Inference, metrics: ServiceMetrics, reranker: str
    ) -> None:
        self._engine = engine
        self._inference = inference
        self._metrics = metrics
        self._reranker = reranker
        self._shown: OrderedDict[str, _Shown] = OrderedDict()
        self._tried: LRUCache[str, bool] = LRUCache(_MAX_TRIED)
        self._changed = threading.Condition()
        self._is_closed = False
        self._shown_at = 0.0
        self._thread: threading.Thread | None = None
        metrics.watch_token_queue(lambda: len(self._shown))

    def show(self, items: Iterable[Item]) -> None:
        """Note items that are shown; those without a picture are left out."""
        with self._changed:
            for item in items:
                key = item.picture_key
                if item.modality is not Modality.IMAGE or key in self._tried:
                    continue
                if (known := self._shown.get(key)) is not None:
                    known.count += 1
                else:
                    self._shown[key] = _Shown(item)
                self._shown.move_to_end(key)
            while len(self._shown) > MAX_QUEUE:
                self._shown.popitem(last=False)
            self._shown_at = time.monotonic()
            if self._shown and not self._is_closed:
                if self._thread is None:
                    # A daemon: a file that hangs must not keep the process from ending.
                    self._thread = threading.Thread(target=self._work, name="tokens", daemon=True)
                    self._thread.start()
                self._changed.notify()

    def close(self, timeout_s: float) -> None:
        """End after the image in hand, and wait for that up to `timeout_s` seconds."""
        with self._changed:
            self._is_closed = True
            self._shown.clear()
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _work(self) -> None:
        with suppress(AttributeError, OSError):  # of Linux, for this thread alone
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        while (item := self._next()) is not None:
            try:
                self._inference.wait_until_idle()
                make = self._engine.prepare_tokens(item, self._reranker)
                if make is not None:
                    made = self._inference.when_idle(make).result()
                    self._metrics.count_tokens(made=made)
            except CancelledError:
                return
            except Exception:  # noqa: BLE001 - one file must not end the work on others
                _log.exception("The tokens of %s could not be made.", item.path)
                self._metrics.count_tokens(made=False)

    def _next(self) -> Item | None:
        """Wait for items, and take the one that was shown most often; None after `close`."""
        with self._changed:
            while not self._is_closed:
                left = self._shown_at + _PAUSE_S - time.monotonic()
                if self._shown and left <= 0:
                    break
                self._changed.wait(left if self._shown else None)
            if self._is_closed:
                return None
            key = max(self._shown, key=lambda one: self._shown[one].count)
            self._tried[key] = True
            return self._shown.pop(key).item

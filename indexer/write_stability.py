"""Detect files that are at rest: written completely, and long enough ago to be remembered."""

import os
import stat
import time
from dataclasses import dataclass, field

from indexer.scan import FoundFile
from retrieval.objects.paths import is_object

LASTING_S = 2.1
"""From this age on, a modification time can be remembered (`indexer.decode.is_stable`)."""
_WRITTEN_S = 0.5
"""A file is taken as written when its size and time have stayed the same for so long."""
_REMEMBERED = 10_000


@dataclass
class WriteStability:
    """Tracks files that are being written, or were written too lately to be remembered."""

    look_again: dict[str, float] = field(default_factory=dict)
    """When to look at a path again, by the monotonic clock."""
    has_news: bool = False
    """A file was to be read that was not read before in this state."""
    _seen: dict[str, tuple[int, int, float]] = field(default_factory=dict)
    _read: set[tuple[str, int, int]] = field(default_factory=set)

    def is_being_written(self, path: str) -> bool:
        """Return whether the file at a path, if any, is still being written."""
        try:
            status = os.stat(path)  # noqa: PTH116 - names need not be valid text
        except OSError:
            return False
        return stat.S_ISREG(status.st_mode) and not self._is_written(
            path, status.st_size, status.st_mtime_ns
        )

    def admit(self, found: FoundFile) -> bool:
        """Return whether to read a file in the run that begins; objects are there as a whole."""
        if is_object(found.path):
            return True
        if not self._is_written(found.path, found.size, found.mtime_ns):
            return False
        age_s = (time.time_ns() - found.mtime_ns) / 1e9
        if abs(age_s) < LASTING_S:
            self.look_again[found.path] = time.monotonic() + LASTING_S - age_s
        state = (found.path, found.size, found.mtime_ns)
        self.has_news = self.has_news or state not in self._read
        if len(self._read) >= _REMEMBERED:
            self._read.clear()
        self._read.add(state)
        return True

    def _is_written(self, path: str, size: int, mtime_ns: int) -> bool:
        age_s = (time.time_ns() - mtime_ns) / 1e9
        if age_s >= _WRITTEN_S:
            return True
        # A time to come, of a clock that goes wrong, says nothing: see whether it stays.
        now = time.monotonic()
        seen = self._seen.get(path)
        if seen is None or seen[:2] != (size, mtime_ns):
            if len(self._seen) >= _REMEMBERED:
                self._seen.clear()
            self._seen[path] = seen = (size, mtime_ns, now)
        left_s = _WRITTEN_S - max(now - seen[2], age_s)
        if left_s <= 0:
            return True
        self.look_again[path] = now + left_s
        return False

"""Image tokens of rerankers: an LRU cache on disk, and one in memory in front of it."""

import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from time import time
from typing import Literal, cast, get_args

import cachetools
import numpy as np
import tomli_w
import xxhash
from numpy.typing import NDArray

from retrieval.errors import UsageError
from retrieval.files import (
    UNFINISHED_SUFFIX,
    make_directories,
    read_toml,
    require_plain_name,
    write_atomically,
)
from retrieval.machine import memory_bytes

Precision = Literal["float16", "int8"]

DEFAULT_LIMIT_BYTES = 2_000_000_000
_MOST_MEMORY_BYTES = 512_000_000
_SHARE_OF_MEMORY = 32
_SETTINGS = "settings.toml"
_SUFFIX = ".tokens"
_UNFINISHED_FOR_S = 3600
"""Older temporary files are leftovers of killed processes."""
_KEEP_SHARE = 0.9
"""Evict down to this share of the limit: finding the oldest entries reads every file's date."""


@dataclass(frozen=True)
class TokenCacheSettings:
    """Maximum size of the cache, 0 to disable it, and the storage precision of values.

    int8 takes half the space of float16: each token is scaled by its largest value.
    """

    limit_bytes: int = DEFAULT_LIMIT_BYTES
    precision: Precision = "float16"

    def __post_init__(self) -> None:
        if type(self.limit_bytes) is not int or self.limit_bytes < 0:
            raise UsageError(f"The size of the token cache cannot be {self.limit_bytes!r} bytes.")
        if self.precision not in get_args(Precision):
            raise UsageError(f"Tokens are stored as float16 or int8, not as {self.precision!r}.")


@dataclass(frozen=True)
class TokenCacheUsage:
    """Number of images, each counted once even with tokens of several rerankers, and bytes."""

    images: int
    bytes: int


class TokenCache:
    """LRU cache on disk: one file per image and reranker, keyed by the image's content hash.

    A damaged, half-written or missing file is a miss; a full or read-only disk disables writes and
    raises nothing. Safe for several threads and processes; concurrent writers may exceed the limit
    by at most a tenth each, what they write between two counts.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._size: int | None = None
        self._written_since_count = 0
        self._lock = threading.Lock()

    @property
    def settings(self) -> TokenCacheSettings:
        """Read the settings on disk, each time since another process may change them.

        Defaults if the file is missing or unreadable.
        """
        try:
            return TokenCacheSettings(**read_toml(self.folder / _SETTINGS))
        except (OSError, ValueError, TypeError, UsageError):
            return TokenCacheSettings()

    def configure(self, settings: TokenCacheSettings) -> None:
        """Store the settings; a smaller limit evicts at once. Raises OSError."""
        make_directories(self.folder)
        write_atomically(self.folder / _SETTINGS, tomli_w.dumps(asdict(settings)).encode())
        with self._lock:
            self._make_room(settings.limit_bytes)

    def get(self, identity: str, content_hash: str) -> NDArray[np.float32] | None:
        """Read the tokens of an image, (t, c); None if they are not cached."""
        from safetensors import SafetensorError

        path = self._path(identity, content_hash)
        try:
            values = _decode(path.read_bytes())
        except OSError:
            return None
        except (SafetensorError, KeyError, ValueError):
            with suppress(OSError):
                path.unlink()
            return None
        with suppress(OSError):
            os.utime(path)
        return values

    def put(
        self, identity: str, content_hash: str, values: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Store the tokens of an image, (t, c), and return them as `get` will.

        Values beyond the range of float16 are clipped. Tokens with a value that is not finite are
        returned unchanged and not stored; nor is an entry that alone exceeds the limit.
        """
        if not np.isfinite(values).all():
            return values
        settings = self.settings
        content = _encode(values, settings.precision)
        if len(content) <= settings.limit_bytes:
            with self._lock, suppress(OSError):
                self._write(self._path(identity, content_hash), content, settings.limit_bytes)
        return _decode(content)

    def __contains__(self, key: tuple[str, str]) -> bool:
        return self._path(*key).exists()

    def usage(self) -> TokenCacheUsage:
        """Count images and bytes on disk, by reading the size of every file."""
        entries = list(self._entries())
        return TokenCacheUsage(
            images=len({os.path.basename(path) for _, _, path in entries}),  # noqa: PTH119
            bytes=sum(size for _, size, _ in entries),
        )

    def find_damage(self) -> Iterator[Path | None]:
        """Read every entry and yield its path where it is damaged, else None."""
        from safetensors import SafetensorError

        for _, _, name in list(self._entries()):
            path = Path(name)
            try:
                _decode(path.read_bytes())
            except FileNotFoundError:
                yield None
            except (OSError, SafetensorError, KeyError, ValueError):
                yield path
            else:
                yield None

    def bytes_per_image(
        self, tokens: int, channels: int, precision: Precision | None = None
    ) -> int:
        """Compute the size of one entry; precision None: that of the settings."""
        zeros = np.zeros((tokens, channels), np.float32)
        return len(_encode(zeros, precision or self.settings.precision))

    def _write(self, path: Path, content: bytes, limit: int) -> None:
        if self._size is None or self._written_since_count > (1 - _KEEP_SHARE) * limit:
            self._size = sum(size for _, size, _ in self._entries())
            self._written_since_count = 0
        if self._size + len(content) > limit:
            self._size = self._make_room(int(_KEEP_SHARE * limit) - len(content))
            if self._size + len(content) > limit:
                return
        make_directories(path.parent)
        replaced = path.stat().st_size if path.exists() else 0
        write_atomically(path, content)
        self._size += len(content) - replaced
        self._written_since_count += len(content)

    def _make_room(self, limit: int) -> int:
        """Evict the least recently used entries down to a size; return the size reached."""
        entries = sorted(self._entries())
        size = sum(size for _, size, _ in entries)
        self._size, self._written_since_count = size, 0
        for _, entry_size, path in entries:
            if self._size <= limit:
                break
            try:
                Path(path).unlink(missing_ok=True)
            except OSError:
                continue
            self._size -= entry_size
        return self._size

    def _entries(self) -> Iterator[tuple[int, int, str]]:
        """Yield last use (ns), size and path of entries; remove leftovers of killed processes."""
        unfinished_before = (time() - _UNFINISHED_FOR_S) * 1e9
        for reranker in _scan(self.folder):
            for shard in _scan(reranker.path):
                for entry in _scan(shard.path):
                    with suppress(OSError):
                        status = entry.stat(follow_symlinks=False)
                        if entry.name.endswith(_SUFFIX):
                            yield status.st_mtime_ns, status.st_size, entry.path
                        elif (
                            entry.name.endswith(UNFINISHED_SUFFIX)
                            and status.st_mtime_ns < unfinished_before
                        ):
                            Path(entry.path).unlink()

    def _path(self, identity: str, content_hash: str) -> Path:
        name = require_plain_name(content_hash)
        return self.folder / require_plain_name(identity) / name[:2] / (name + _SUFFIX)


def default_token_memory() -> int:
    """Compute the default size of the memory cache: a 32nd of the RAM, at most 512 MB."""
    return min(_MOST_MEMORY_BYTES, (memory_bytes() or 8 << 30) // _SHARE_OF_MEMORY)


class TokenMemory:
    """LRU cache in memory in front of a `TokenCache`; safe for several threads.

    Keys are content hashes, so entries never become stale.
    """

    def __init__(self, cache: TokenCache, max_bytes: int | None = None) -> None:
        self._cache = cache
        self._lock = threading.Lock()
        self._entries: cachetools.LRUCache[tuple[str, str], NDArray[np.floating]] = (
            cachetools.LRUCache(
                default_token_memory() if max_bytes is None else max_bytes,
                lambda values: values.nbytes + 200,
            )
        )

    def get(self, identity: str, content_hash: str) -> NDArray[np.floating] | None:
        """Read the tokens of an image, (t, c), from memory or disk; None if neither has them.

        float16 where that is exact: a reranker converts a whole batch faster.
        """
        key = (identity, content_hash)
        with self._lock:
            found = self._entries.get(key)
        if found is not None:
            return found
        values = self._cache.get(identity, content_hash)
        if values is not None:
            self._add(key, values)
        return values

    def put(
        self, identity: str, content_hash: str, values: NDArray[np.float32]
    ) -> NDArray[np.floating]:
        """Store the tokens of an image, (t, c), in memory and on disk; return what `get` will."""
        stored = self._cache.put(identity, content_hash, values)
        if np.isfinite(stored).all():
            self._add((identity, content_hash), stored)
        return stored

    def _add(self, key: tuple[str, str], values: NDArray[np.float32]) -> None:
        """Add an entry, as float16 if that is exact."""
        with np.errstate(over="ignore"):
            halves = values.astype(np.float16)
        is_exact = bool((halves == values).all())
        small: NDArray[np.floating] = halves if is_exact else values
        with self._lock:
            if self._entries.getsizeof(small) <= self._entries.maxsize:
                self._entries[key] = small


def _scan(folder: str | Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []


def _encode(values: NDArray[np.float32], precision: Precision) -> bytes:
    """Serialise to an 8-byte checksum, which detects damaged values, and safetensors."""
    from safetensors.numpy import save

    arrays: dict[str, NDArray[np.generic]]
    if precision == "float16":
        largest = np.finfo(np.float16).max
        arrays = {"values": np.clip(values, -largest, largest).astype(np.float16)}
    else:
        scales = np.abs(values).max(axis=1, initial=0.0).astype(np.float32) / np.float32(127)
        steps = values / np.where(scales > 0, scales, np.float32(1))[:, np.newaxis]
        arrays = {"values": np.clip(np.round(steps), -127, 127).astype(np.int8), "scales": scales}
    content = cast("bytes", save(arrays))
    return xxhash.xxh3_64_digest(content) + content


def _decode(content: bytes) -> NDArray[np.float32]:
    from safetensors.numpy import load

    checksum, content = content[:8], content[8:]
    if checksum != xxhash.xxh3_64_digest(content):
        raise ValueError("damaged")
    arrays = load(content)
    values: NDArray[np.float32] = arrays["values"].astype(np.float32)
    if "scales" in arrays:
        values *= arrays["scales"][:, np.newaxis]
    return values

"""Thumbnails in a library's cache: served as immutable, so each is checked before."""

import io
from collections.abc import Iterator
from pathlib import Path

from retrieval.files import unsealed
from retrieval.library import Library

_ENDINGS = {".jpeg", ".webp"}


def read_thumbnail(file: Path) -> bytes | None:
    """Read a thumbnail without its checksum; None if it is missing, unreadable or damaged.

    Those that an earlier version wrote have no checksum, and are whole if they can be decoded.
    """
    try:
        stored = file.read_bytes()
    except OSError:
        return None
    content = unsealed(stored)
    return stored if content is None and _has_all_pixels(stored) else content


def find_damage(library: Library) -> Iterator[Path | None]:
    """Read every thumbnail of the cache and yield its path where it is damaged, else None."""
    if not library.thumbnails.is_dir():
        return
    for file in library.thumbnails.iterdir():
        if file.suffix in _ENDINGS:
            yield file if read_thumbnail(file) is None and file.exists() else None


def _has_all_pixels(stored: bytes) -> bool:
    from PIL import Image

    # A picture with a wrong checksum behind it is damaged, however much can be decoded.
    is_whole = stored.endswith(b"\xff\xd9") or (
        stored[:4] == b"RIFF" and int.from_bytes(stored[4:8], "little") + 8 in _lengths(stored)
    )
    if not is_whole:
        return False
    try:
        with Image.open(io.BytesIO(stored)) as image:
            image.load()
    except Exception:  # noqa: BLE001 - a decoder's answer to damage may be any
        return False
    return True


def _lengths(stored: bytes) -> set[int]:
    return {len(stored), len(stored) - 1}  # of odd chunks, the byte that pads them

"""Opens the files of items for clients: only what the library indexed, where it was told to look.

Between indexing and serving, whoever can write to a source can put links, pipes or other files in
the place of what was indexed. So a file is opened by its resolved path, one folder after another
and never through a link, and what was opened is compared with what the catalog knows.
"""

import os
import stat
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from indexer.scan import as_prefix
from retrieval.catalog import Item
from retrieval.errors import NotFoundError, UnreadableFileError
from retrieval.files import content_hash
from retrieval.library import Library
from retrieval.media import MediaKind, is_as_read
from retrieval.media.items import read_picture

_CAN_WALK = os.open in os.supports_dir_fd and os.stat in os.supports_dir_fd
_FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | getattr(os, "O_DIRECTORY", 0)
_NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_FILE = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


class ItemFiles:
    """The files of a library's items.

    Where a source leads, if it is a link, is looked up once: one that is turned elsewhere while the
    service runs is not followed.
    """

    def __init__(self, library: Library) -> None:
        self._library = library
        self._roots: dict[str, str] = {}
        self._resolved_sources()

    def open(self, item: Item) -> BinaryIO:
        """Open the file of an item to read it.

        Raises NotFoundError where it is not below a source after links are resolved, is not a
        regular file, has another size or time than when it was indexed, or cannot be opened.
        """
        sources = self._resolved_sources()
        try:
            real = os.path.realpath(item.path)
            if not any(as_prefix(real).startswith(as_prefix(source)) for source in sources):
                raise NotFoundError(
                    f"The file of item {item.id} does not lie below a source of the library."
                )
            file = os.fdopen(_open_regular(real), "rb")
        except (OSError, ValueError) as error:
            raise NotFoundError(f"The file of item {item.id} cannot be opened any more.") from error
        status = os.fstat(file.fileno())
        if not is_as_read(status, item.size, item.mtime_ns):
            file.close()
            raise _changed(item)
        return file

    def picture(self, item: Item, *, least_side: int | None = None) -> Image.Image:
        """Read the picture of an item as upright RGB; of a passage, that of its page.

        least_side: as for `retrieval.media.items.read_picture`. Raises as `open`, and NotFoundError
        for an item that has no picture, or whose picture cannot be read.
        """
        with self.open(item) as file:
            if item.kind is MediaKind.IMAGE and _hash(file) != item.content_hash:
                raise _changed(item)
            try:
                return read_picture(item, file, least_side=least_side)
            except (OSError, UnreadableFileError) as error:
                reason = error.strerror if isinstance(error, OSError) else error
                raise NotFoundError(
                    f"The picture of item {item.id} cannot be read: {reason}."
                ) from error

    def _resolved_sources(self) -> list[str]:
        with self._library.catalog.snapshot() as snapshot:
            sources = snapshot.sources()
        return [self._roots.setdefault(source, os.path.realpath(source)) for source in sources]


def _open_regular(path: str) -> int:
    """Open a regular file by an absolute path in which nothing is a link; OSError for others."""
    if not _CAN_WALK:
        descriptor = os.open(path, _FILE)
    else:
        *folders, name = Path(path).parts[1:]
        place = os.open(os.sep, _FOLDER)
        try:
            for folder in folders:
                below = os.open(folder, _FOLDER | _NO_LINK, dir_fd=place)
                os.close(place)
                place = below
            # Opening alone can do harm to a device, and waits for the other end of some pipes.
            _require_regular(os.stat(name, dir_fd=place, follow_symlinks=False))
            descriptor = os.open(name, _FILE | _NO_LINK, dir_fd=place)
        finally:
            os.close(place)
    try:
        _require_regular(os.fstat(descriptor))
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _require_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise OSError("not a regular file")


def _hash(file: BinaryIO) -> str:
    """The hash of a file's content; rewinds the file."""
    digest = content_hash(file)
    file.seek(0)
    return digest


def _changed(item: Item) -> NotFoundError:
    return NotFoundError(f"The file of item {item.id} has changed since it was indexed.")

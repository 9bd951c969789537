"""Serve the files of items: only what the library indexed, below its sources.

Between indexing and serving, whoever can write to a source can put links, pipes or other files in
the place of what was indexed. So a file is opened by its resolved path, one folder after another
and never through a link, and what was opened is compared with what the catalog knows.

What lies in a library was made by anybody. It must not run as a script of this service's origin,
nor be taken for another type than it is, nor write headers by its name.
"""

import os
import re
import stat
import unicodedata
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from fastapi import HTTPException, Response
from fastapi.responses import StreamingResponse
from PIL import Image
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from retrieval.catalog import Item
from retrieval.catalog.paths import is_at_or_below
from retrieval.errors import NotFoundError, UnreadableFileError
from retrieval.files import checksum_of_opened
from retrieval.library import Library
from retrieval.media import MediaKind, Modality, is_as_read
from retrieval.media.images import TooLargeImageError
from retrieval.media.items import read_item_image
from retrieval.media.registry import UNKNOWN_TYPE, format_of_content, read_head
from retrieval.objects.opening import open_parts, open_path, status_of
from retrieval.objects.paths import is_object, is_uri, shard_of

_CAN_WALK = os.open in os.supports_dir_fd and os.stat in os.supports_dir_fd
_FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | getattr(os, "O_DIRECTORY", 0)
_NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_FILE = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)

_CHUNK = 256 * 1024
_LONGEST_NAME = 150
_RANGE = re.compile(r"\s*bytes=\s*([0-9]*)-([0-9]*)\s*", re.IGNORECASE)

INLINE_TYPES = frozenset(
    {
        "application/pdf",
        "image/avif",
        "image/bmp",
        "image/gif",
        "image/jpeg",
        "image/png",
        "image/webp",
        "text/plain; charset=utf-8",
        "video/mp4",
        "video/ogg",
        "video/quicktime",
        "video/webm",
        "audio/wav",
        "audio/flac",
        "audio/ogg",
        "audio/mp4",
        "audio/mpeg",
        "audio/aac",
    }
)
"""What a browser shows by itself and cannot run; all else is offered as a download."""

_INERT = "sandbox; default-src 'none'"
# A browser shows a video or a sound in a document of its own, which loads the file again: from an
# origin that is the service's, as a sandboxed document's is not.
_PLAYER = "default-src 'none'; media-src 'self'"
# The viewer of a browser shows a PDF, and runs nothing of it in the service's origin.
_PDF_VIEWER = "default-src 'none'; object-src 'self'"


class ItemFiles:
    """Opens the files of a library's items.

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
        regular file, has another size or time than when it was indexed, or cannot be opened. What
        lies on a server is read with the credentials of this service, from servers that its user
        has named.
        """
        if is_object(item.path):
            return self._open_object(item)
        sources = self._resolved_sources()
        try:
            real = os.path.realpath(item.path)
            if not any(is_at_or_below(real, source) for source in sources):
                raise _outside(item)
            file = os.fdopen(_open_regular(real), "rb")
        except (OSError, ValueError) as error:
            raise NotFoundError(f"The file of item {item.id} cannot be opened any more.") from error
        status = os.fstat(file.fileno())
        if not is_as_read(status, item.size, item.mtime_ns):
            file.close()
            raise _changed(item)
        return file

    def scene(self, item: Item) -> Image.Image:
        """Read what a model of pictures may look at; as `picture`, but a sound has none."""
        if item.modality is Modality.AUDIO:
            raise NotFoundError(f"Item {item.id} is a sound, whose waveform shows nothing.")
        return self.picture(item)

    def picture(self, item: Item, *, least_side: int | None = None) -> Image.Image:
        """Read the picture of an item as upright RGB; of a chunk of text, that of its page.

        least_side: as for `retrieval.media.items.read_item_image`. Raises as `open`, and
        NotFoundError for an item that has no picture, or whose picture cannot be read.
        """
        with self.open(item) as file:
            if item.kind is MediaKind.IMAGE and _hash(file) != item.content_hash:
                raise _changed(item)
            try:
                limit = self._library.max_pixels
                return read_item_image(item, file, least_side=least_side, max_pixels=limit)
            except TooLargeImageError as error:
                raise NotFoundError(
                    f"The picture of item {item.id} is larger than the limit of this service: "
                    f"{error}."
                ) from error
            except (OSError, UnreadableFileError) as error:
                reason = error.strerror if isinstance(error, OSError) else error
                raise NotFoundError(
                    f"The picture of item {item.id} cannot be read: {reason}."
                ) from error

    def _open_object(self, item: Item) -> BinaryIO:
        """Open an object: the whole of an image, which is hashed, of others what is asked for."""
        with self._library.catalog.snapshot() as snapshot:
            sources = snapshot.sources()
        if not any(is_at_or_below(item.path, source) for source in sources):
            raise _outside(item)
        shard = shard_of(item.path)
        if shard is not None and not is_uri(item.path):
            self._require_inside(item, shard[0])
        try:
            status = status_of(item.path)
            is_same = status.st_size < 0 or is_as_read(status, item.size, item.mtime_ns)
            if not is_same:
                raise _changed(item)
            if item.kind is MediaKind.IMAGE:
                return open_path(item.path, status)
            return open_parts(item.path)
        except (OSError, UnreadableFileError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise NotFoundError(
                f"The file of item {item.id} cannot be opened: {reason}."
            ) from error

    def _require_inside(self, item: Item, shard: str) -> None:
        """Raise NotFoundError for a shard of this machine that is no file below a source."""
        try:
            real = os.path.realpath(shard)
            sources = self._resolved_sources()
            if not any(is_at_or_below(real, source) for source in sources):
                raise _outside(item)
            os.close(_open_regular(real))
        except (OSError, ValueError) as error:
            raise NotFoundError(f"The file of item {item.id} cannot be opened any more.") from error

    def _resolved_sources(self) -> list[str]:
        with self._library.catalog.snapshot() as snapshot:
            sources = snapshot.sources()
        return [
            self._roots.setdefault(source, os.path.realpath(source))
            for source in sources
            if not is_uri(source)
        ]


def content_type(file: BinaryIO, item: Item) -> str:
    """Tell the media type of an item's open file by its first bytes; the file is rewound.

    Markup, HTML too, is plain text; SVG is known by its type, since no `<img>` shows it otherwise.
    """
    head = read_head(file)
    found = format_of_content(head, item.path, item.kind)
    is_text = found is not None and found.content_type.startswith("text/")
    return UNKNOWN_TYPE if found is None or (is_text and b"\0" in head) else found.content_type


class OpenFileResponse(StreamingResponse):
    """Streams `length` bytes of an open file from `start` on, and closes it however that ends."""

    def __init__(
        self, file: BinaryIO, start: int, length: int, status: int, headers: Mapping[str, str]
    ) -> None:
        super().__init__(_read(file, start, length), status, headers)
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._file.close()


def file_headers(
    path: str, content_type: str, tag: str, *, as_download: bool = False
) -> dict[str, str]:
    """Headers of a file of some type and entity tag, whatever its name is.

    as_download: a browser saves it, whether it could show it or not.
    """
    inline = content_type in INLINE_TYPES and not as_download
    return {
        "Content-Type": content_type,
        "Content-Disposition": content_disposition(path, inline=inline),
        "Content-Security-Policy": _policy_of(content_type) if inline else _INERT,
        "X-Content-Type-Options": "nosniff",
        "Accept-Ranges": "bytes",
        "ETag": tag,
        "Cache-Control": "private, no-cache",
    }


def _policy_of(content_type: str) -> str:
    if content_type == "application/pdf":
        return _PDF_VIEWER
    return _PLAYER if content_type.startswith(("video/", "audio/")) else _INERT


def content_disposition(path: str, *, inline: bool) -> str:
    """Name a file for whoever saves it (RFC 6266): in ASCII, and as it is spelled."""
    name = os.fsencode(os.path.basename(path)).decode("utf-8", "replace")  # noqa: PTH119
    # Control characters would break the header, marks of direction would hide the ending.
    name = "".join("_" if unicodedata.category(c) in {"Cc", "Cf"} else c for c in name)
    if len(name) > _LONGEST_NAME:
        name = name[: _LONGEST_NAME - 20] + name[-20:]
    ascii_name = "".join(c if " " <= c <= "~" and c not in '"\\%/' else "_" for c in name)
    kind = "inline" if inline else "attachment"
    return f"{kind}; filename=\"{ascii_name}\"; filename*=UTF-8''{quote(name, safe='')}"


def respond(
    file: BinaryIO, size: int, headers: Mapping[str, str], asked: Mapping[str, str]
) -> Response:
    """Answer a GET of an open file of `size` bytes, which is closed in the end.

    asked: headers of the request, their names in lower case. Several ranges at once are answered
    by the whole file. Raises HTTPException with 416 for a range that begins after the end.
    """
    tag = headers["ETag"]
    if matches(tag, asked.get("if-none-match")):
        file.close()
        return not_modified(headers)
    try:
        part = _part(asked, tag, size)
    except HTTPException:
        file.close()
        raise
    if part is None:
        return OpenFileResponse(file, 0, size, 200, {**headers, "Content-Length": str(size)})
    first, last = part
    length = last - first + 1
    partial = {"Content-Range": f"bytes {first}-{last}/{size}", "Content-Length": str(length)}
    return OpenFileResponse(file, first, length, 206, {**headers, **partial})


def matches(tag: str, if_none_match: str | None) -> bool:
    """Return whether a client has the version of an entity tag (RFC 9110, section 13.1.2)."""
    given = [part.strip().removeprefix("W/") for part in (if_none_match or "").split(",")]
    return tag in given or given == ["*"]


def not_modified(headers: Mapping[str, str]) -> Response:
    """Tell a client to use its cached copy."""
    kept = {"ETag", "Cache-Control", "Vary"}
    return Response(
        status_code=304, headers={name: headers[name] for name in headers if name in kept}
    )


def _open_regular(path: str) -> int:
    """Open a regular file by an absolute path in which nothing is a link; OSError for others."""
    if not _CAN_WALK:
        descriptor = os.open(path, _FILE)
    else:
        *folders, name = Path(path).parts[1:]
        directory = os.open(os.sep, _FOLDER)
        try:
            for folder in folders:
                below = os.open(folder, _FOLDER | _NO_LINK, dir_fd=directory)
                os.close(directory)
                directory = below
            # Opening alone can do harm to a device, and waits for the other end of some pipes.
            _require_regular(os.stat(name, dir_fd=directory, follow_symlinks=False))
            descriptor = os.open(name, _FILE | _NO_LINK, dir_fd=directory)
        finally:
            os.close(directory)
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
    """Hash a file's content; rewinds the file."""
    digest = checksum_of_opened(file)
    file.seek(0)
    return digest


def _outside(item: Item) -> NotFoundError:
    return NotFoundError(f"The file of item {item.id} does not lie below a source of the library.")


def _changed(item: Item) -> NotFoundError:
    return NotFoundError(f"The file of item {item.id} has changed since it was indexed.")


def _part(asked: Mapping[str, str], tag: str, size: int) -> tuple[int, int] | None:
    """Return the first and last byte requested; None: all, also for an invalid range."""
    found = _RANGE.fullmatch(asked.get("range", ""))
    if not found or asked.get("if-range", tag).strip() != tag:
        return None
    begin, end = (int(digits[:20]) if digits else None for digits in found.groups())
    if begin is None:
        if end is None:
            return None
        begin, end = max(size - end, 0), size - 1
    elif end is not None and end < begin:
        return None
    last = size - 1 if end is None else min(end, size - 1)
    if begin > last:
        raise HTTPException(
            416, "The range begins after the end.", {"Content-Range": f"bytes */{size}"}
        )
    return begin, last


async def _read(file: BinaryIO, start: int, length: int) -> AsyncIterator[bytes]:
    await run_in_threadpool(file.seek, start)
    while length > 0:
        chunk = await run_in_threadpool(file.read, min(_CHUNK, length))
        if not chunk:
            raise OSError("the file has become shorter while it was sent")
        length -= len(chunk)
        yield chunk

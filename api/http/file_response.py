"""An open file as a response: whole or a range of it (RFC 9110, section 14), and harmless.

What lies in a library was made by anybody. It must not run as a script of this service's origin,
nor be taken for another type than it is, nor write headers by its name.
"""

import os
import re
import unicodedata
from collections.abc import AsyncIterator, Mapping
from typing import BinaryIO
from urllib.parse import quote

from fastapi import HTTPException, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

_CHUNK = 256 * 1024
_LONGEST_NAME = 150
_RANGE = re.compile(r"\s*bytes=\s*([0-9]*)-([0-9]*)\s*", re.IGNORECASE)

INLINE_TYPES = frozenset(
    {
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
    }
)
"""What a browser shows by itself and cannot run; all else is offered as a download."""


_INERT = "sandbox; default-src 'none'"
# A browser shows a video in a document of its own, which loads the file again: from an origin that
# is the service's, as a sandboxed document's is not.
_PLAYER = "default-src 'none'; media-src 'self'"


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


def file_headers(path: str, content_type: str, tag: str) -> dict[str, str]:
    """Headers of a file of some type and entity tag, whatever its name is."""
    inline = content_type in INLINE_TYPES
    plays = inline and content_type.startswith("video/")
    return {
        "Content-Type": content_type,
        "Content-Disposition": content_disposition(path, inline=inline),
        "Content-Security-Policy": _PLAYER if plays else _INERT,
        "X-Content-Type-Options": "nosniff",
        "Accept-Ranges": "bytes",
        "ETag": tag,
        "Cache-Control": "private, no-cache",
    }


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
    """Whether a client has what an entity tag names (RFC 9110, section 13.1.2)."""
    given = [part.strip().removeprefix("W/") for part in (if_none_match or "").split(",")]
    return tag in given or given == ["*"]


def not_modified(headers: Mapping[str, str]) -> Response:
    """Tell a client to use what it has."""
    kept = {"ETag", "Cache-Control", "Vary"}
    return Response(
        status_code=304, headers={name: headers[name] for name in headers if name in kept}
    )


def _part(asked: Mapping[str, str], tag: str, size: int) -> tuple[int, int] | None:
    """First and last byte asked for; None: all, also where what is asked for is no range."""
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

"""Read one file in a worker process: its hash, and its pieces unless they are known.

To add a format, see `retrieval.media.registry`.
"""

import io
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO

import xxhash

from indexer.media import audio, document, image, sound_track, table, text, video
from indexer.media.base import Decoded, Reader, ReadOptions
from retrieval.files import checksum_of_opened
from retrieval.media import (
    NO_METADATA,
    UNTRUSTED_MTIME,
    MediaKind,
    Metadata,
    exif,
    is_as_read,
    metadata_notes,
)
from retrieval.media.audio import open_sound
from retrieval.media.pdf import open_document
from retrieval.media.registry import PDF, Format, format_of_indexed
from retrieval.media.sidecars import with_sidecars
from retrieval.media.video import open_video
from retrieval.objects.base import FileStatus
from retrieval.objects.opening import open_path, status_of
from retrieval.objects.paths import is_object

READERS: dict[Format | MediaKind, Reader] = {
    MediaKind.IMAGE: image.read,
    MediaKind.VIDEO: sound_track.read,
    MediaKind.AUDIO: audio.read,
    PDF: document.read,
    MediaKind.TEXT: text.read,
    MediaKind.TABLE: table.read,
}
"""By format, or by kind where one function reads all formats of the kind."""

_CLOCK_STEP_NS = 2_000_000_000
"""The coarsest times that a file system in use keeps: FAT counts in steps of two seconds."""

_MOST_HELD_BYTES = 64 << 20
"""Image files up to this size are read once, into memory, for hash, pixels and metadata."""


class ChangedWhileReadError(OSError):
    """A file that was written to while it was read; the next run reads it again."""

    def __init__(self) -> None:
        super().__init__("it was changed while it was read")


@dataclass(frozen=True, slots=True)
class Content:
    """What a file held when it was read. A mtime_ns of -1: too fresh to be trusted later.

    hash: XXH3 of 128 bits in hexadecimal. etag: what its server says of its state, of an object.
    """

    size: int
    mtime_ns: int
    hash: str
    etag: str | None = None


def reader_of(format_: Format) -> Reader:
    """Return the reader of a format. It imports the packages that it needs when it first reads."""
    return READERS.get(format_) or READERS[format_.kind]


def read_first(
    path: str, known: frozenset[str], options: ReadOptions, sidecars: Sequence[str] = ()
) -> tuple[Content, Decoded | None]:
    """Hash a file and read its first pieces; None where its content is among the known hashes.

    Args:
        path: the file.
        known: content hashes.
        options: how it is read.
        sidecars: paths of the files that describe it.

    Raises as `indexer.media.base.Reader`, and ChangedWhileReadError.
    """
    now_ns = time.time_ns()
    before = status_of(path)
    read = reader_of(format_of_indexed(path))
    held = None
    with open_path(path, before) as file:
        size = _size(path, file, before)
        if read is image.read and size <= _MOST_HELD_BYTES:
            held = file.read(size)
            digest = xxhash.xxh3_128_hexdigest(held)
        else:
            digest = checksum_of_opened(file)
    is_lasting = before.etag is not None or is_stable(before.st_mtime_ns, now_ns)
    mtime_ns = before.st_mtime_ns if is_lasting else UNTRUSTED_MTIME
    content = Content(size, mtime_ns, digest, before.etag)
    if content.hash in known:
        _require_same(path, before)
        return content, None
    if held is None:
        decoded = read(path, 0, options)
    else:
        decoded = image.read_opened(io.BytesIO(held), path, options)
    _require_same(path, before)
    if sidecars:
        metadata, notes = with_sidecars(decoded.metadata, sidecars)
        decoded = replace(
            decoded, metadata=metadata, notes=(*decoded.notes, *metadata_notes(notes))
        )
    return content, _as_asked(decoded, options)


def read_on(path: str, start: int, content: Content, options: ReadOptions) -> Decoded:
    """Read the next pieces of a file that still has the content that was read first.

    Args:
        path: the file.
        start: where to read on, as the last read returned it.
        content: size, modification time and hash of the first read.
        options: as of the first read.

    Raises as `indexer.media.base.Reader`, and ChangedWhileReadError.
    """
    before = status_of(path)
    is_same = is_as_read(before, content.size, content.mtime_ns) or before.st_size < 0
    if not is_same or before.etag != content.etag:
        raise ChangedWhileReadError
    decoded = reader_of(format_of_indexed(path))(path, start, options)
    _require_same(path, before)
    return _as_asked(decoded, options)


def read_metadata(path: str, sidecars: Sequence[str] = ()) -> tuple[Metadata, tuple[str, ...]]:
    """Read only the metadata of an image, a video, a sound or a PDF; other files have none.

    sidecars: paths of the files that describe it. Returns notes of what is damaged, too. Raises
    UnreadableFileError, MissingExtraError and OSError.
    """
    own, problems = _read_own_metadata(path)
    metadata, more = with_sidecars(own, sidecars)
    return metadata, metadata_notes([*problems, *more])


def has_pages(path: str) -> bool:
    """Return whether a file is a TIFF of several pages. Raises OSError."""
    with open_path(path) as file:
        return image.count_pages(file, path) > 1


def _read_own_metadata(path: str) -> tuple[Metadata, Sequence[str]]:
    format_ = format_of_indexed(path)
    if format_ is PDF:
        with open_document(path) as opened:
            return document.read_metadata(opened, path)
    if format_.kind is MediaKind.VIDEO:
        with open_video(path) as opened_video:
            return video.read_metadata(opened_video, path)
    if format_.kind is MediaKind.AUDIO:
        with open_sound(path) as opened_sound:
            return audio.read_metadata(opened_sound), ()
    if format_.kind is MediaKind.IMAGE:
        return exif.read_noted(path)
    return NO_METADATA, ()


def is_stable(mtime_ns: int, now_ns: int) -> bool:
    """Return whether a later change of a file is sure to show in its modification time.

    now_ns: the time before the file was read. A file that is written again within one step of the
    file system's clock keeps its time, so one that was written less than two seconds ago must be
    remembered without a time (-1) and read again at the next run, as git does with files as young
    as its index. Times to come, of clocks that go wrong, are as good as old ones.
    """
    return abs(now_ns - mtime_ns) >= _CLOCK_STEP_NS


def _as_asked(decoded: Decoded, options: ReadOptions) -> Decoded:
    return decoded.preprocessed(options.preprocess) if options.preprocess else decoded


def _size(path: str, file: BinaryIO, status: FileStatus) -> int:
    """Return the size of what was opened: of an object its server need not tell it, or the truth.

    Raises ChangedWhileReadError for an object that has another size than a moment ago.
    """
    if not is_object(path):
        return status.st_size
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    if status.st_size not in {-1, size}:
        raise ChangedWhileReadError
    return size


def _require_same(path: str, before: FileStatus) -> None:
    # What was read of an object is one copy of it; that it changed meanwhile shows in its ETag.
    if not is_object(path) and status_of(path) != before:
        raise ChangedWhileReadError

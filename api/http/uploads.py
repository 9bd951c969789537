"""Store uploaded files in a folder, which is a source of the library.

A record of each request lies beside its files until they are indexed. After a crash the next
service reads it: it gives names to the files that had none yet, and indexes them. What a client
sends again under the same name is not stored again.
"""

import contextlib
import errno
import json
import os
import secrets
import stat
import threading
import time
import unicodedata
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import BinaryIO

import xxhash

from indexer.decode import reader_of
from indexer.decoder_pool import DecoderPool
from indexer.media.base import ReadOptions
from indexer.scan import LIBRARY_FILES
from retrieval.errors import LibraryError, UnreadableFileError, UsageError
from retrieval.files import (
    PRIVATE_FOLDER,
    UNFINISHED_SUFFIX,
    checksum_of_file,
    flush_names,
    follow_folder,
    write_atomically,
)
from retrieval.media import MediaKind
from retrieval.media.images import read_picture
from retrieval.media.registry import Format, format_of, format_of_content, read_head

_CHECKS_AT_ONCE = 2
_CHECK_LIMIT_S = 30.0
_MOST_OF_ONE_NAME = 10_000
_PREFIX = ".upload-"
_SUFFIX = ".part"
"""A hidden name without an ending that is indexed."""
_RECORD_SUFFIX = ".json"
_ABANDONED_AFTER_S = 3600
_CHUNK_BYTES = 1 << 20

_LEAST_SIDE = 512
_LONGEST_STEM_BYTES = 150
_RESERVED = frozenset(
    {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in "0123456789")}
)
"""Names of devices on Windows, with any ending."""
_FORBIDDEN = frozenset('<>:"|?*')
_JOINERS = frozenset("\u200c\u200d")
"""Format characters that scripts such as Persian and Hindi need."""


class StorageFullError(LibraryError):
    """No space left on the disk for an upload."""


class UnacceptableFileError(UnreadableFileError):
    """A file format that is not accepted; the message is the reason."""


@dataclass(frozen=True)
class Received:
    """A file as a client sent it, with the name that it gave."""

    name: str
    content: BinaryIO


@dataclass(frozen=True)
class _File:
    """A file of a request.

    part: hidden name under which it was written. name: name that is wanted. digest: hash of its
    content (XXH3, 128 bits). stored: name that it got in the end.
    """

    part: str
    name: str
    digest: str
    stored: str | None = None


@dataclass(frozen=True)
class Upload:
    """A request whose files are stored and not indexed yet.

    job: id of the job that indexes them. key: idempotency key of the client. paths: files, in the
    order in which they were sent.
    """

    job: str
    key: str | None
    paths: tuple[str, ...]


class UploadFolder:
    """Stores uploads: all files of a request, or none. May be used from several threads.

    Each is written to a hidden name, checked by its content in a process of its own, flushed to
    the disk and only then named. max_pixels: of the largest picture.
    """

    def __init__(self, path: Path, max_pixels: int) -> None:
        self.path = path
        self._max_pixels = max_pixels
        self._naming = threading.Lock()
        self._checkers = DecoderPool(_CHECKS_AT_ONCE, limit_s=_CHECK_LIMIT_S)

    def add(self, files: Sequence[Received], job: str, key: str | None = None) -> list[Path]:
        """Store files, and return their paths in order; record that `job` is to index them.

        A file that is there with the same content under the same name is not stored again.

        Raises UnacceptableFileError for a kind of file that is not taken and UnreadableFileError
        for a broken or too large one, which name it; StorageFullError, and LibraryError where files
        cannot be written.
        """
        written: list[_File] = []
        named: list[Path] = []
        try:
            for file in files:
                written.append(self._write(file))  # noqa: PERF401 - some may be written
            checked = [
                replace(part, name=self._check(self.path / part.part, file.name))
                for part, file in zip(written, files, strict=True)
            ]
            self._record(job, key, checked)
            stored = []
            for part in checked:
                path, is_new = self._name(part)
                stored.append(replace(part, stored=path.name))
                if is_new:
                    named.append(path)
            with contextlib.suppress(OSError):  # some network drives cannot
                flush_names(self.path)
            self._record(job, key, stored)
        except BaseException as error:
            self.discard([*(self.path / part.part for part in written), *named])
            self.finish(job)
            if not isinstance(error, OSError):
                raise
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise StorageFullError("No space left for the files; none was stored.") from error
            raise LibraryError(f"The files cannot be written: {error.strerror}.") from error
        self.discard([self.path / part.part for part in written])
        return [self.path / part.stored for part in stored if part.stored]

    def finish(self, job: str) -> None:
        """Delete the record of a request whose files are indexed, or were refused."""
        self._record_of(job).unlink(missing_ok=True)

    def unfinished(self) -> list[Upload]:
        """Read the records that an earlier service left, and give names to files without one."""
        found = []
        for record in sorted(self.path.glob(f"{_PREFIX}*{_RECORD_SUFFIX}")):
            try:
                facts = json.loads(record.read_text(encoding="utf-8"))
                files = [_File(**fields) for fields in facts["files"]]
                names = [self._stored_name(file) for file in files]
                self._record(
                    facts["job"],
                    facts["key"],
                    [replace(file, stored=name) for file, name in zip(files, names, strict=True)],
                )
            except (OSError, ValueError, TypeError, KeyError):
                continue  # it is no record of this version, or cannot be read now
            self.discard([self.path / Path(file.part).name for file in files])
            paths = tuple(os.fspath(self.path / name) for name in names if name)
            if paths:
                found.append(Upload(facts["job"], facts["key"], paths))
            else:
                self.finish(facts["job"])
        return found

    def clean(self) -> None:
        """Delete what an earlier service left half written."""
        for kind in (_SUFFIX, UNFINISHED_SUFFIX):
            for left in self.path.glob(f"{_PREFIX}*{kind}"):
                if time.time() - left.lstat().st_mtime > _ABANDONED_AFTER_S:
                    left.unlink()

    def discard(self, paths: Sequence[str | Path]) -> None:
        """Delete files of the folder that exist."""
        for path in paths:
            Path(path).unlink(missing_ok=True)

    def holds(self, path: str) -> bool:
        """Return whether a file lies in the folder after links are resolved."""
        folder = os.path.realpath(os.path.dirname(path))  # noqa: PTH120 - need not be valid text
        return Path(folder) == self.path or self.path in Path(folder).parents

    def close(self) -> None:
        """End the processes that check files."""
        self._checkers.close()

    def _record_of(self, job: str) -> Path:
        return self.path / f"{_PREFIX}{job}{_RECORD_SUFFIX}"

    def _record(self, job: str, key: str | None, files: Sequence[_File]) -> None:
        facts = {"job": job, "key": key, "files": [asdict(file) for file in files]}
        write_atomically(self._record_of(job), json.dumps(facts).encode(), durable=True)

    def _write(self, file: Received) -> _File:
        temporary = self.path / f"{_PREFIX}{secrets.token_hex(8)}{_SUFFIX}"
        digest = xxhash.xxh3_128()
        try:
            with temporary.open("xb") as target:
                follow_folder(temporary)
                while chunk := file.content.read(_CHUNK_BYTES):
                    digest.update(chunk)
                    target.write(chunk)
                target.flush()
                os.fsync(target.fileno())
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        return _File(temporary.name, file.name, digest.hexdigest())

    def _check(self, path: Path, name: str) -> str:
        try:
            return self._checkers.submit(check, os.fspath(path), name, self._max_pixels).result()
        except UnacceptableFileError as error:
            raise UnacceptableFileError(f"{name!r} {error}. No file was stored.") from error
        except UnreadableFileError as error:
            raise UnreadableFileError(f"{name!r}: {error}. No file was stored.") from error
        except CancelledError:
            raise LibraryError("The service is shutting down; no file was stored.") from None

    def _name(self, file: _File) -> tuple[Path, bool]:
        """Give a written file its name, with the first free number if another file has it.

        Returns the path, and False if the same content is there already. Never overwrites.
        """
        temporary = self.path / file.part
        for path in self._paths_for(file.name):
            if _holds(path, file.digest):
                return path, False
            try:
                os.link(temporary, path)
            except FileExistsError:
                continue
            except OSError:  # FAT and some network drives know no links
                # A file that only reserved the name would be left empty by a crash.
                with self._naming:
                    if os.path.lexists(path):
                        continue
                    return temporary.rename(path), True
            return path, True
        raise UsageError(f"There are {_MOST_OF_ONE_NAME:,} files named like {file.name} already.")

    def _paths_for(self, name: str) -> Iterator[Path]:
        stem, ending = os.path.splitext(name)  # noqa: PTH122 - a name, not a path
        for number in range(1, _MOST_OF_ONE_NAME):
            yield self.path / (name if number == 1 else f"{stem}-{number}{ending}")

    def _stored_name(self, file: _File) -> str | None:
        """Return the name of a file of a record; None if it is not there any more."""
        if file.stored is not None:
            return Path(file.stored).name if (self.path / Path(file.stored).name).exists() else None
        name = safe_name(file.name)
        if (self.path / Path(file.part).name).exists():
            path, _ = self._name(replace(file, part=Path(file.part).name, name=name))
            return path.name
        for path in self._paths_for(name):
            if _holds(path, file.digest):
                return path.name
            if not os.path.lexists(path):
                break
        return None


def _holds(path: Path, digest: str) -> bool:
    """Return whether a path is a regular file with this content."""
    try:
        return stat.S_ISREG(path.lstat().st_mode) and checksum_of_file(path) == digest
    except OSError:
        return False


def open_upload_folder(path: Path, library: Path, max_pixels: int) -> UploadFolder:
    """Make or take a folder for uploads; one that is made can be read by its owner alone.

    Raises UsageError for a folder that is, holds or lies in a library, or cannot be written.
    """
    try:
        if not path.is_dir():
            path.mkdir(parents=True)
            path.chmod(PRIVATE_FOLDER)
        folder = path.resolve(strict=True)
        probe = folder / f"{_PREFIX}{secrets.token_hex(8)}{_SUFFIX}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UsageError(f"Uploads cannot be stored in {path}: {error.strerror}.") from error
    places = [folder, *folder.parents]
    is_in_library = any(all((p / name).exists() for name in LIBRARY_FILES) for p in places)
    if is_in_library or folder in library.resolve().parents:
        raise UsageError(
            f"Uploads cannot be stored in {path}, which holds or lies in a library. Choose a "
            "folder of their own."
        )
    return UploadFolder(folder, max_pixels)


def check(path: str, name: str, max_pixels: int) -> str:
    """Decode a file that a client called `name`, and give the safe name under which it is kept.

    It ends as its content is. Runs in a process of its own (`indexer.decoder_pool`), since it
    decodes what strangers send.

    Raises UnacceptableFileError for a format that is not taken, UnreadableFileError for what is
    broken or too large, OSError when the file cannot be opened.
    """
    asked = safe_name(name)
    with Path(path).open("rb") as file:
        found = _format_of(read_head(file), asked)
        stem, ending = _split(asked)
        if not _may_end(found, ending):
            asked = f"{stem}{found.endings[0]}"
        if found.kind is MediaKind.IMAGE:
            # By the name that it will have: camera RAW files are detected by it.
            read_picture(file, name=asked, least_side=_LEAST_SIDE, max_pixels=max_pixels)
    if found.kind is not MediaKind.IMAGE:
        reader_of(found)(path, 0, ReadOptions(_LEAST_SIDE, max_pixels))
    return asked


def safe_name(name: str) -> str:
    """Make of any text the name of a file: in any script, but of one part, and harmless anywhere.

    Without folders, control and direction characters, a leading dot, what Windows forbids or
    reserves; at most some 150 bytes before its ending; never empty.
    """
    last = unicodedata.normalize("NFC", name).replace("\\", "/").rpartition("/")[2]
    kept = "".join(
        c for c in last if c in _JOINERS or unicodedata.category(c)[0] not in "CZ" or c == " "
    )
    kept = "".join("_" if c in _FORBIDDEN else c for c in kept).strip(" .")
    stem, ending = _split(kept)
    stem = stem.encode()[:_LONGEST_STEM_BYTES].decode(errors="ignore").strip(" .")
    if stem.partition(".")[0].strip().lower() in _RESERVED:
        stem = f"_{stem}"
    return f"{stem or 'upload'}{ending}"


def _format_of(head: bytes, name: str) -> Format:
    """Detect the format; raises UnreadableFileError for one that is not accepted."""
    if not head:
        raise UnreadableFileError("the file is empty")
    found = format_of_content(head, name)
    if found is None:
        raise UnacceptableFileError("is of no format that is taken, or not what its name says")
    if found.no_upload is not None:
        raise UnacceptableFileError(f"is {found.name}, which {found.no_upload}")
    return found


def _may_end(found: Format, ending: str) -> bool:
    """Return whether an ending suits a format: its own, or one that the same package reads.

    Videos are detected by their content whatever their ending, and so are HEIC and HEIF.
    """
    named = format_of(ending and f"file{ending}")
    return named is found or (
        named is not None and found.extra is not None and named.extra == found.extra
    )


def _split(name: str) -> tuple[str, str]:
    """Split off the ending; one that is not of a known format belongs to the name."""
    stem, ending = os.path.splitext(name)  # noqa: PTH122 - a name, not a path
    return (stem, ending) if format_of(name) is not None else (name, "")

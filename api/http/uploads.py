"""The folder that a service keeps uploaded files in: a source of its library."""

import contextlib
import errno
import os
import secrets
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from api.http.upload_check import Accepted, UnacceptableFileError, check
from indexer.decoder_pool import DecoderPool
from indexer.scan import LIBRARY_FILES
from retrieval.errors import LibraryError, UnreadableFileError, UsageError

_CHECKS_AT_ONCE = 2
_CHECK_LIMIT_S = 30.0
_MOST_OF_ONE_NAME = 10_000
_PREFIX = ".upload-"
_SUFFIX = ".part"
"""A hidden name that nothing can be indexed by."""
_ABANDONED_AFTER_S = 3600


class StorageFullError(LibraryError):
    """A disk without room for what was sent."""


@dataclass(frozen=True)
class Received:
    """A file as a client sent it, with the name that it gave."""

    name: str
    content: BinaryIO


class UploadFolder:
    """Takes files up: all that came together, or none. May be used from several threads.

    Each is written to a hidden name, checked by its content in a process of its own, flushed to
    the disk and only then named. max_pixels: of the largest picture.
    """

    def __init__(self, path: Path, max_pixels: int) -> None:
        self.path = path
        self._max_pixels = max_pixels
        self._checkers = DecoderPool(_CHECKS_AT_ONCE, limit_s=_CHECK_LIMIT_S)

    def add(self, files: Sequence[Received]) -> list[Path]:
        """Keep files, and give their paths, in the order of the files.

        Raises UnacceptableFileError for a kind of file that is not taken and UnreadableFileError
        for a broken or too large one, which name it; StorageFullError, and LibraryError where files
        cannot be written.
        """
        written: list[Path] = []
        named: list[Path] = []
        try:
            for file in files:
                temporary = self._write(file)
                written.append(temporary)
            names = [
                self._check(path, file.name).name for path, file in zip(written, files, strict=True)
            ]
            for temporary, name in zip(written, names, strict=True):
                path = self._name(temporary, name)
                named.append(path)
            self._flush_names()
        except BaseException as error:
            self.discard([*written, *named])
            if not isinstance(error, OSError):
                raise
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise StorageFullError("There is no room for the files; none was kept.") from error
            raise LibraryError(f"The files cannot be written: {error.strerror}.") from error
        return named

    def discard(self, paths: Sequence[str | Path]) -> None:
        """Delete files of the folder that are there."""
        for path in paths:
            Path(path).unlink(missing_ok=True)

    def holds(self, path: str) -> bool:
        """Whether a file lies in the folder, whatever links lead there."""
        folder = os.path.realpath(os.path.dirname(path))  # noqa: PTH120 - need not be valid text
        return Path(folder) == self.path or self.path in Path(folder).parents

    def close(self) -> None:
        """End the processes that check files."""
        self._checkers.close()

    def _write(self, file: Received) -> Path:
        temporary = self.path / f"{_PREFIX}{secrets.token_hex(8)}{_SUFFIX}"
        try:
            with temporary.open("xb") as target:
                shutil.copyfileobj(file.content, target, 1 << 20)
                target.flush()
                os.fsync(target.fileno())
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        return temporary

    def _check(self, path: Path, name: str) -> Accepted:
        try:
            return self._checkers.submit(check, os.fspath(path), name, self._max_pixels).result()
        except UnacceptableFileError as error:
            raise UnacceptableFileError(f"{name!r} {error}. No file was kept.") from error
        except UnreadableFileError as error:
            raise UnreadableFileError(f"{name!r}: {error}. No file was kept.") from error
        except CancelledError:
            raise LibraryError("The service is ending; no file was kept.") from None

    def _name(self, temporary: Path, name: str) -> Path:
        """Give a file its name, or that with the first number that is free; never takes one."""
        stem, ending = os.path.splitext(name)  # noqa: PTH122 - a name, not a path
        for number in range(1, _MOST_OF_ONE_NAME):
            path = self.path / (name if number == 1 else f"{stem}-{number}{ending}")
            try:
                os.link(temporary, path)
            except FileExistsError:
                continue
            except OSError:  # FAT and some network drives know no links
                try:
                    path.open("xb").close()
                except FileExistsError:
                    continue
                try:
                    return temporary.replace(path)
                except OSError:
                    path.unlink()
                    raise
            temporary.unlink()
            return path
        raise UsageError(f"There are {_MOST_OF_ONE_NAME:,} files named like {name} already.")

    def _flush_names(self) -> None:
        with contextlib.suppress(OSError):  # Windows opens no folders
            folder = os.open(self.path, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


def open_upload_folder(path: Path, library: Path, max_pixels: int) -> UploadFolder:
    """Make or take a folder for uploads; what an earlier service left half written is deleted.

    Raises UsageError for a folder that is, holds or lies in a library, or cannot be written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        folder = path.resolve(strict=True)
        probe = folder / f"{_PREFIX}{secrets.token_hex(8)}{_SUFFIX}"
        probe.touch()
        probe.unlink()
        for left in folder.glob(f"{_PREFIX}*{_SUFFIX}"):
            if time.time() - left.lstat().st_mtime > _ABANDONED_AFTER_S:
                left.unlink()
    except OSError as error:
        raise UsageError(f"Uploads cannot be kept in {path}: {error.strerror}.") from error
    places = [folder, *folder.parents]
    is_in_library = any(all((p / name).exists() for name in LIBRARY_FILES) for p in places)
    if is_in_library or folder in library.resolve().parents:
        raise UsageError(
            f"Uploads cannot be kept in {path}, which holds or lies in a library. Choose a folder "
            "of their own."
        )
    return UploadFolder(folder, max_pixels)

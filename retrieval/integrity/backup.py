"""Backups of a library: incremental, atomic, safe while it is written to; and their restoring.

    DESTINATION/
      backup.json                     what the backup consists of, with checksums; written last
      catalog-N.sqlite                the catalog at one instant
      spaces/SPACE_ID/MODALITY-N.f16  embeddings up to the extent of that catalog, with checksums

A backup is what its `backup.json` names. The next one writes a new catalog and appends new rows,
past those that the former names, so that a kill at any instant leaves the former.
"""

import json
import os
import shutil
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import xxhash

from retrieval.catalog import Catalog
from retrieval.embeddings import EmbeddingsFile, are_damaged
from retrieval.errors import (
    DamagedLibraryError,
    LibraryError,
    LibraryLockedError,
    NotFoundError,
    UsageError,
)
from retrieval.files import (
    UNFINISHED_SUFFIX,
    checksum_of_file,
    flush_names,
    make_directories,
    replacing,
    write_atomically,
)
from retrieval.library import Library, library_exists, open_library
from retrieval.media import Modality

FORMAT_VERSION = 1

_MANIFEST = "backup.json"
_LIBRARY_TOML = "library.toml"
_CATALOG = "catalog.sqlite"
_CALIBRATION = "relevance.json"
_LOCK = "backup.lock"
_TRIES = 5
_BLOCK_ROWS = 1 << 14

Progress = Callable[[str, int, int], None]
"""Takes the name of a stage, how much of it is done, and the total."""


@dataclass(frozen=True)
class BackedUpRows:
    """Rows of one space and modality in a backup; its files are named below the directory of it."""

    space: str
    modality: str
    dimension: int
    rows: int
    checksum_count: int
    file: str


@dataclass(frozen=True)
class Backup:
    """What `backup.json` says.

    library: where it was. catalog, catalog_checksum: file of the catalog, and its xxh3-128. texts:
    small files of the library, by their paths in it. embeddings: of its spaces.
    """

    library: str
    created: str
    created_by: str
    catalog: str
    catalog_checksum: str
    texts: dict[str, str]
    embeddings: tuple[BackedUpRows, ...]
    format_version: int = FORMAT_VERSION


@dataclass(frozen=True)
class BackupSummary:
    """What a backup or a restoring did. damaged: rows that are not what their checksums say."""

    rows: int
    copied_rows: int
    damaged: int
    bytes: int


def back_up(
    library: Library,
    destination: str | os.PathLike[str],
    *,
    on_progress: Progress = lambda *_: None,
) -> BackupSummary:
    """Back up a library, which may be searched, indexed and changed meanwhile.

    Photos, indices, thumbnails and token caches are left out: the last three can be made again.

    Args:
        library: what to back up.
        destination: directory of the backup: new, empty, or with an earlier backup of the same
            library, of which only what is new is copied.
        on_progress: called as things are copied.

    Raises:
        UsageError: the directory has other files, or the backup of another library.
        LibraryLockedError: another process backs up to the same place.
        LibraryError: it cannot be written.
        DamagedLibraryError: the catalog or a file of embeddings is damaged.
    """
    directory = Path(destination).absolute()
    if library.manifest.catalog or library.is_table:  # raises: nothing is begun that cannot be done
        library.catalog.dialect.back_up(directory / _CATALOG)
    _require_place(library, directory)
    try:
        make_directories(directory)
        with _locked(directory):
            former = read_backup(directory) if (directory / _MANIFEST).exists() else None
            _require_same_library(library, directory, former)
            _remove_others(directory, former)
            for attempt in range(_TRIES):
                spaces = library.space_ids()
                try:
                    return _back_up(library, directory, former, on_progress)
                except (_ChangedError, FileNotFoundError, LibraryError, UsageError) as error:
                    is_same = library.space_ids() == spaces
                    if is_same and isinstance(error, LibraryError | UsageError):
                        raise
                    # A space was removed or added meanwhile.
                    _remove_others(directory, former)
                    if attempt == _TRIES - 1:
                        raise LibraryError(
                            f"{library.path} changes too fast, or lacks files ({error}). Run "
                            "`mmsearch check`, or back it up when nothing else writes."
                        ) from error
    except OSError as error:
        raise LibraryError(
            f"{directory} cannot be written: {error.strerror}. The former backup there is as it "
            "was."
        ) from error
    raise AssertionError


def read_backup(directory: Path) -> Backup:
    """Read what a backup consists of; raises NotFoundError, DamagedLibraryError, LibraryError."""
    file = directory / _MANIFEST
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
        checksum = told.pop("checksum")
        if told["format_version"] > FORMAT_VERSION:
            raise LibraryError(
                f"{directory} was written by a newer version of mmsearch. Upgrade with `pip "
                "install -U mmsearch`."
            )
        if checksum != _digest(told):
            raise DamagedLibraryError(f"{file} is damaged: its checksum is wrong.")
        parts = tuple(BackedUpRows(**part) for part in told.pop("embeddings"))
        found = Backup(embeddings=parts, **told)
    except FileNotFoundError:
        raise NotFoundError(
            f"{directory} is not a backup: it has no {_MANIFEST}. `mmsearch backup` makes one."
        ) from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DamagedLibraryError(f"{file} is damaged: {error}") from error
    parts_of = (name for part in parts for name in (part.file, part.space, part.modality))
    for name in (found.catalog, *found.texts, *parts_of):
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise DamagedLibraryError(f"{file} names {name!r}, which is not below the backup.")
    return found


def restore(
    backup: str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    on_progress: Progress = lambda *_: None,
) -> BackupSummary:
    """Make a library of a backup, after all of it was compared with its checksums.

    Args:
        backup: directory of the backup, which is only read.
        path: directory for the library: new or empty.
        on_progress: called as things are copied.

    Returns:
        What was copied. Damaged rows are restored as they are: searches leave them out, and
        `mmsearch check --repair` makes them again.

    Raises:
        NotFoundError: there is no backup.
        UsageError: the directory has files.
        DamagedLibraryError: the catalog of the backup is damaged, or a file is missing or too
            short. Nothing is made of such a backup.
        LibraryError: the library cannot be written.
    """
    directory, target = Path(backup).absolute(), Path(path).absolute()
    found = read_backup(directory)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target} is not empty. Name a new directory with `--library DIR`.")
    _require_complete(directory, found, on_progress)
    try:
        make_directories(target)
        shutil.copyfile(directory / found.catalog, target / _CATALOG)
        if checksum_of_file(target / _CATALOG) != found.catalog_checksum:
            raise DamagedLibraryError(f"{target / _CATALOG} was not copied as it is: try again.")
        _flush(target / _CATALOG)
        copied = damaged = size = 0
        for part in found.embeddings:
            source = EmbeddingsFile(directory / part.file, part.dimension)
            to = EmbeddingsFile(
                target / "spaces" / part.space / f"{part.modality}.f16", part.dimension
            )
            damaged += _copy_rows(source, to, part, 0, on_progress)
            copied += part.rows
            size += part.rows * source.row_bytes
        # The manifest last: without it, there is no library.
        for name in sorted(found.texts, key=lambda name: name == _LIBRARY_TOML):
            make_directories((target / name).parent)
            write_atomically(target / name, found.texts[name].encode(), durable=True)
        make_directories(target / "thumbnails")
    except OSError as error:
        raise LibraryError(f"{target} cannot be written: {error.strerror}.") from error
    library = open_library(target, upgrade=True)
    try:
        problems = library.catalog.dialect.find_damage()
    finally:
        library.close()
    if problems:
        raise DamagedLibraryError(f"{target / _CATALOG} is damaged: {'; '.join(problems)}.")
    return BackupSummary(copied, copied, damaged, size + (target / _CATALOG).stat().st_size)


class _ChangedError(Exception):
    """The library was changed so that what was copied does not fit together."""


def _back_up(
    library: Library, directory: Path, former: Backup | None, on_progress: Progress
) -> BackupSummary:
    number = 1 + max((_number_of(name) for name in _names(directory)), default=0)
    catalog_file = directory / f"catalog-{number}.sqlite"
    with ExitStack() as stack:
        # Opened before the catalog is copied: a file that is replaced meanwhile is another one.
        opened = {
            file: stack.enter_context(file.open("rb"))
            for file in sorted(library.path.glob("spaces/*/*.f16"))
            if file.stem in set(Modality)
        }
        on_progress("Catalog", 0, 1)
        with replacing(catalog_file, durable=True) as unfinished:
            library.catalog.dialect.back_up(unfinished)
            extents, counts = _extents(unfinished)
            catalog_checksum = checksum_of_file(unfinished)
        on_progress("Catalog", 1, 1)
        texts = _texts(library)
        parts, copied, damaged = [], 0, 0
        for space_id, modality, count in extents:
            if not count:
                continue
            if f"spaces/{space_id}/space.toml" not in texts:
                raise _ChangedError(f"the space {space_id} is not there")
            space = library.space(space_id)
            file = library.embeddings(space, modality)
            if file.path not in opened:
                opened[file.path] = stack.enter_context(file.path.open("rb"))
            part = BackedUpRows(
                space_id,
                str(modality),
                space.dimension,
                count,
                counts[space_id, modality],
                f"spaces/{space_id}/{modality}-{number}.f16",
            )
            part, first = _continued(file, directory, former, part)
            to = EmbeddingsFile(directory / part.file, part.dimension)
            damaged += _copy_rows(file, to, part, first, on_progress)
            copied += count - first
            parts.append(part)
        _require_unchanged(opened)
    backup = Backup(
        str(library.path),
        datetime.now(UTC).isoformat(timespec="seconds"),
        f"mmsearch {version('mmsearch')}",
        catalog_file.name,
        catalog_checksum,
        texts,
        tuple(parts),
    )
    facts = json.loads(json.dumps(asdict(backup)))
    content = json.dumps(facts | {"checksum": _digest(facts)}, indent=2).encode()
    write_atomically(directory / _MANIFEST, content, durable=True)
    _remove_others(directory, backup)
    return BackupSummary(
        sum(part.rows for part in parts), copied, damaged, _size_of(directory, backup)
    )


def _extents(
    catalog_file: Path,
) -> tuple[list[tuple[str, Modality, int]], dict[tuple[str, Modality], int]]:
    """Read how many rows, and checksums, the copy of a catalog names."""
    copy = Catalog(catalog_file)
    try:
        with copy.snapshot() as snapshot:
            extents = snapshot.extents()
            counts = {(s, m): snapshot.checksum_count(s, m) for s, m, _ in extents}
    finally:
        copy.close()
    for suffix in ("-wal", "-shm"):
        catalog_file.with_name(catalog_file.name + suffix).unlink(missing_ok=True)
    return extents, counts


def _texts(library: Library) -> dict[str, str]:
    """Read the small files that cannot be made again, by their paths in the library."""
    names = [
        _LIBRARY_TOML,
        "config.toml",
        "tokens/settings.toml",
        *(
            f"spaces/{space_id}/{name}"
            for space_id in library.space_ids()
            for name in ("space.toml", _CALIBRATION)
        ),
    ]
    texts = {
        name: (library.path / name).read_text(encoding="utf-8")
        for name in names
        if (library.path / name).exists()
    }
    default = tomllib.loads(texts[_LIBRARY_TOML])["default_space"]
    if f"spaces/{default}/space.toml" not in texts:
        raise _ChangedError("the default space is not there")
    return texts


def _continued(
    file: EmbeddingsFile, directory: Path, former: Backup | None, part: BackedUpRows
) -> tuple[BackedUpRows, int]:
    """Continue the file of the former backup, if it holds the same rows; returns the first new."""
    for before in former.embeddings if former else ():
        if (before.space, before.modality, before.dimension) != (
            part.space,
            part.modality,
            part.dimension,
        ):
            continue
        there = EmbeddingsFile(directory / before.file, before.dimension)
        count = before.rows
        is_same = (
            count <= part.rows
            and before.checksum_count == count
            and part.checksum_count >= count
            and there.size_in_rows() >= count
            and np.array_equal(there.checksums(count), file.checksums(count))
        )
        if is_same:
            return BackedUpRows(**asdict(part) | {"file": before.file}), count
    return part, 0


def _copy_rows(
    source: EmbeddingsFile,
    to: EmbeddingsFile,
    part: BackedUpRows,
    first: int,
    on_progress: Progress,
) -> int:
    """Copy rows first .. part.rows-1 with their checksums as they are; returns how many are bad.

    Rows before them are compared where they are, and copied again if they are damaged there.
    """
    rows, checksums = source.rows(part.rows), source.checksums(part.rows)
    checksums[part.checksum_count :] = 0
    damaged = 0
    for begin in range(0, part.rows, _BLOCK_ROWS):
        end = min(part.rows, begin + _BLOCK_ROWS)
        held = to.rows(min(first, end))[begin:] if begin < first else rows[begin:begin]
        if are_damaged(held, checksums[begin : begin + len(held)]).any():
            held = held[:0]  # of the backup's disk: they are copied again
        new = rows[begin + len(held) : end]
        damaged += int(np.count_nonzero(are_damaged(new, checksums[begin + len(held) : end])))
        if len(new):
            to.copy(new, checksums[begin + len(held) : end], begin + len(held))
        on_progress(f"Vectors ({Modality(part.modality).plural})", end, part.rows)
    return damaged


def _require_unchanged(opened: Mapping[Path, BinaryIO]) -> None:
    for path, stream in opened.items():
        now, then = path.stat(), os.fstat(stream.fileno())
        if (now.st_dev, now.st_ino) != (then.st_dev, then.st_ino):
            raise _ChangedError(f"{path} was replaced")


def _require_place(library: Library, directory: Path) -> None:
    if directory == library.path or library.path in directory.parents:
        raise UsageError(f"{directory} is in the library. Name a directory on another disk.")
    if not directory.exists() or (directory / _MANIFEST).exists():
        return
    if not directory.is_dir():
        raise UsageError(f"{directory} is a file. Name a new directory.")
    # What an interrupted first backup leaves is none of another program.
    ours = {_LOCK, "spaces"}
    ours |= {file.name for file in directory.glob(f"{_MANIFEST}.*{UNFINISHED_SUFFIX}")}
    names = [entry.name for entry in directory.iterdir()]
    foreign = [name for name in names if name not in ours and not _number_of(name)]
    if foreign or library_exists(directory):
        raise UsageError(
            f"{directory} is not a backup and not empty. Name a new or empty directory."
        )


def _require_same_library(library: Library, directory: Path, former: Backup | None) -> None:
    if former is None or former.library == str(library.path):
        return
    if library_exists(Path(former.library)):
        raise UsageError(
            f"{directory} is a backup of {former.library}, which is there. Name another directory "
            f"for {library.path}."
        )


def _require_complete(directory: Path, found: Backup, on_progress: Progress) -> None:
    """Raise DamagedLibraryError for a catalog or embeddings that are not what was backed up."""
    on_progress("Catalog", 0, 1)
    catalog = directory / found.catalog
    if not catalog.exists() or checksum_of_file(catalog) != found.catalog_checksum:
        raise DamagedLibraryError(
            f"{catalog} is missing or damaged: its checksum is not that of the backup. Nothing was "
            "restored; use another backup."
        )
    on_progress("Catalog", 1, 1)
    for part in found.embeddings:
        file = EmbeddingsFile(directory / part.file, part.dimension)
        if (held := file.size_in_rows()) < part.rows:
            raise DamagedLibraryError(
                f"{file.path} has {held:,} vectors, not the {part.rows:,} of the backup. Nothing "
                "was restored; use another backup."
            )


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    import filelock

    lock = filelock.FileLock(directory / _LOCK)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise LibraryLockedError(f"Another process backs up to {directory}.") from None
    try:
        yield
    finally:
        lock.release()


def _remove_others(directory: Path, backup: Backup | None) -> None:
    """Delete what an interrupted backup left, and what only an earlier one named."""
    kept: set[Path] = set()
    if backup is not None:
        kept.add(directory / backup.catalog)
        for part in backup.embeddings:
            file = directory / part.file
            kept |= {file, file.with_suffix(".xxh3")}
    for name in _names(directory):
        if directory / name not in kept:
            (directory / name).unlink()


def _names(directory: Path) -> Iterable[str]:
    """Name the numbered files of all backups, unfinished ones too, by their paths below it."""
    for pattern in ("catalog-*", f"{_MANIFEST}.*{UNFINISHED_SUFFIX}", "spaces/*/*-*"):
        for file in list(directory.glob(pattern)):
            yield file.relative_to(directory).as_posix()


def _number_of(name: str) -> int:
    """Return the number in the name of a file of a backup; 0 for others."""
    stem = name.rpartition("/")[2].partition(".")[0]
    number = stem.rpartition("-")[2]
    return int(number) if number.isdecimal() and stem.startswith(("catalog-", *Modality)) else 0


def _size_of(directory: Path, backup: Backup) -> int:
    files = [directory / backup.catalog, directory / _MANIFEST]
    for part in backup.embeddings:
        files += [directory / part.file, (directory / part.file).with_suffix(".xxh3")]
    return sum(file.stat().st_size for file in files)


def _flush(file: Path) -> None:
    with file.open("r+b") as stream:
        os.fsync(stream.fileno())
    flush_names(file.parent)


def _digest(facts: dict[str, Any]) -> str:
    return xxhash.xxh3_128_hexdigest(json.dumps(facts, sort_keys=True).encode())

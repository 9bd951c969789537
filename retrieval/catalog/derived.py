"""Columns of files that follow from others, kept because filters and facets look them up."""

import os
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from retrieval.catalog.schema import FileRecord, FolderRecord, chunks
from retrieval.media import UNTRUSTED_MTIME

_FILES_AT_ONCE = 5000


def date_of(taken_at: int | None, mtime_ns: int) -> int | None:
    """Return the date of a file for filters, facets and display, in seconds since 1970.

    It is that of the capture, else that of the last modification; None if neither is known.
    """
    if taken_at is None and mtime_ns != UNTRUSTED_MTIME:
        return mtime_ns // 1_000_000_000
    return taken_at


def folder_of(path: str) -> str:
    """Return the path of a file's folder with a slash at its end."""
    return path[: path.rfind(os.sep) + 1]


def refresh(connection: sa.Connection, file_ids: Iterable[int] | None = None) -> None:
    """Bring folder and date of some files up to date with path and times; None: of all files."""
    if file_ids is None:
        file_ids = connection.scalars(sa.select(FileRecord.id)).all()
    selected = sa.select(
        FileRecord.id, FileRecord.path, FileRecord.taken_at, FileRecord.mtime_ns
    ).order_by(FileRecord.id)
    change = sa.update(FileRecord).where(FileRecord.id == sa.bindparam("known_id"))
    for chunk in chunks(sorted(set(file_ids)), _FILES_AT_ONCE):
        files = connection.execute(selected.where(FileRecord.id.in_(chunk))).all()
        in_folders = folder_ids(connection, [path for _, path, _, _ in files])
        values: list[dict[str, Any]] = [
            {
                "known_id": file_id,
                "folder_id": in_folders[path],
                "date": date_of(taken_at, mtime_ns),
            }
            for file_id, path, taken_at, mtime_ns in files
        ]
        if values:
            connection.execute(change, values)


def folder_ids(connection: sa.Connection, paths: Iterable[str]) -> dict[str, int]:
    """Return the ids of the folders of files, by the paths of these; adds those that are new."""
    folders = {path: folder_of(path) for path in paths}
    wanted = set(folders.values())
    known = _known_folders(connection, wanted)
    if new := [{"path": path} for path in sorted(wanted - known.keys())]:
        connection.execute(sa.insert(FolderRecord), new)
        known = _known_folders(connection, wanted)
    return {path: known[folder] for path, folder in folders.items()}


def _known_folders(connection: sa.Connection, paths: set[str]) -> dict[str, int]:
    query = sa.select(FolderRecord.path, FolderRecord.id)
    return {
        path: folder_id
        for chunk in chunks(sorted(paths))
        for path, folder_id in connection.execute(query.where(FolderRecord.path.in_(chunk)))
    }

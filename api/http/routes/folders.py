"""Folders of the machine of the service that may be added to the library."""

import os
from typing import Annotated

from fastapi import APIRouter, Depends, Query

from api.http.routes.dependencies import CurrentService, require
from api.http.routes.jobs import lies_in
from api.http.schemas.folders import Folder, FolderList
from indexer.scan import LIBRARY_FILES, is_system_folder
from retrieval.errors import NotFoundError, UsageError
from retrieval.media.registry import format_of

router = APIRouter(prefix="/v1", tags=["jobs"], dependencies=[Depends(require("write"))])

_MOST_ENTRIES = 10_000
_MOST_FOLDERS = 1000

FolderPath = Annotated[
    str | None,
    Query(
        min_length=1,
        max_length=4096,
        pattern=r"^[^\x00]+$",
        description="Absolute path of a folder below one of `--index-below`; without: those.",
    ),
]


@router.get("/folders")
def list_folders(service: CurrentService, path: FolderPath = None) -> FolderList:
    """List folders that may be added: those of `--index-below`, or those in one below them."""
    roots = [os.path.normpath(os.fspath(root)) for root in service.settings.index_below]
    with service.library.catalog.snapshot() as snapshot:
        sources = snapshot.sources()
    if path is None:
        there = [root for root in roots if os.path.isdir(root)]  # noqa: PTH112
        listed = [Folder(name=root, path=root, is_source=lies_in(root, sources)) for root in there]
        return FolderList(path=None, parent=None, folders=listed, files=0, is_cut=False)
    folder = os.path.normpath(path)
    if not os.path.isabs(path) or not lies_in(folder, roots):  # noqa: PTH117
        raise UsageError(
            f"{path} is not below a folder that this service may index. Start it with "
            "`--index-below DIR` to allow one."
        )
    names, files, is_cut = _entries(folder)
    above = os.path.dirname(folder)  # noqa: PTH120
    return FolderList(
        path=folder,
        parent=above if folder not in roots and lies_in(above, roots) else None,
        folders=[
            Folder(
                name=name,
                path=(each := os.path.join(folder, name)),  # noqa: PTH118
                is_source=lies_in(each, sources),
            )
            for name in names
        ],
        files=files,
        is_cut=is_cut,
    )


def _entries(folder: str) -> tuple[list[str], int, bool]:
    """Read the names of folders, the number of files of known formats, and whether there is more.

    Hidden folders, those of systems, libraries and links are left out, as walks pass them over, and
    names that are not valid text, which cannot be sent back. Raises NotFoundError, UsageError.
    """
    names: list[str] = []
    files = 0
    try:
        with os.scandir(folder) as entries:
            for number, entry in enumerate(entries):
                if number == _MOST_ENTRIES:
                    return sorted(names, key=str.casefold)[:_MOST_FOLDERS], files, True
                if entry.is_dir(follow_symlinks=False):
                    if _is_shown(entry.name, folder):
                        names.append(entry.name)
                elif format_of(entry.name) is not None:
                    files += 1
    except (FileNotFoundError, NotADirectoryError):
        raise NotFoundError(f"There is no folder at {folder}.") from None
    except OSError as error:
        raise UsageError(f"{folder} cannot be read: {error.strerror}.") from error
    names.sort(key=str.casefold)
    return names[:_MOST_FOLDERS], files, len(names) > _MOST_FOLDERS


def _is_shown(name: str, folder: str) -> bool:
    inside = os.path.basename(folder)  # noqa: PTH119
    if name.startswith(".") or not _is_text(name) or is_system_folder(name, inside):
        return False
    prefix = os.path.join(folder, name, "")  # noqa: PTH118
    return not all(os.path.lexists(prefix + file) for file in LIBRARY_FILES)


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True

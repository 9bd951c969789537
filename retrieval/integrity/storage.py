"""What the parts of a library take on disk."""

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from retrieval.library import Library

_OF_EMBEDDINGS = frozenset({".f16", ".xxh3"})


@dataclass(frozen=True)
class Storage:
    """Bytes on disk, by part. embeddings: the vectors of all spaces, with their checksums."""

    catalog: int = 0
    embeddings: int = 0
    indices: int = 0
    thumbnails: int = 0
    token_cache: int = 0
    other: int = 0

    @property
    def total(self) -> int:
        """Bytes of the whole library."""
        return sum(vars(self).values())


def measure_storage(library: Library) -> Storage:
    """Add up the sizes of all files of a library, which takes as long as there are files."""
    if library.is_table:
        from retrieval.lance.storage import measure_table

        return measure_table(library)
    of_catalog = tuple(library.catalog.dialect.file_names)
    sizes = dict.fromkeys(vars(Storage()), 0)
    for path, size in _files_below(library.path):
        folder, *_ = path.relative_to(library.path).parts
        if folder.startswith(of_catalog):
            part = "catalog"
        elif folder == "spaces":
            part = "embeddings" if path.suffix in _OF_EMBEDDINGS else "indices"
        else:
            part = {"thumbnails": "thumbnails", "tokens": "token_cache"}.get(folder, "other")
        sizes[part] += size
    return Storage(**sizes)


def size_of_folder(folder: Path) -> int:
    """Add up the sizes of the files below a folder, which need not be there."""
    return sum(size for _, size in _files_below(folder))


def _files_below(folder: Path) -> Iterator[tuple[Path, int]]:
    """Yield regular files with their sizes; those that are deleted meanwhile are left out."""
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            with suppress(OSError):
                status = path.lstat()
                if stat.S_ISREG(status.st_mode):
                    yield path, status.st_size

"""Find the image files that rows of a table name, also where their paths are spelled otherwise."""

import os
import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from urllib.parse import unquote

from retrieval.media import MediaKind
from retrieval.media.registry import kind_of
from retrieval.objects.paths import is_uri, shard_of

_MOST_FILES = 500_000
"""Files below a table's folder that are looked through for other spellings."""
_LISTED = 3
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


class ImageFiles:
    """The image files around one table.

    folder: of the table, absolute. A name is tried as it is written, relative to the folder, then
    with slashes for backslashes and without URL encoding, from the folder and the one above it. A
    file below the folder is also found if its path is that of the row, or the end of it, or the
    other way round, without regard to case and Unicode form: images in a folder that the table does
    not name, or a leading folder that is not there.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def find(self, name: str) -> tuple[str, str | None]:
        """Return the path of a row's image, and what is wrong: there is none, or there are several.

        name: not empty, no address. Where something is wrong, the path is where it would be.
        """
        spellings = list(dict.fromkeys(_spellings(name)))
        for spelling in spellings:
            path = self._join(self._folder, spelling)
            if os.path.isfile(path):  # noqa: PTH113 - names need not be valid text
                return path, None
        expected = self._join(self._folder, spellings[min(1, len(spellings) - 1)])
        found: list[str] = []
        for spelling in spellings:
            found = self._fitting(spelling)
            if found:
                break
        if len(found) == 1:
            return os.path.join(self._folder, found[0]), None  # noqa: PTH118
        if found:
            listed = ", ".join(sorted(found)[:_LISTED])
            more = ", ..." if len(found) > _LISTED else ""
            return expected, f"several images fit {name!r}: {listed}{more}"
        above = os.path.dirname(self._folder)  # noqa: PTH120
        for spelling in spellings:
            path = self._join(above, spelling)
            if os.path.isfile(path):  # noqa: PTH113
                return path, None
        return expected, f"its image {name!r} was not found"

    def _join(self, folder: str, name: str) -> str:
        return os.path.normpath(os.path.join(folder, name))  # noqa: PTH118

    def _fitting(self, name: str) -> list[str]:
        """Return the files below the folder that a name fits best, by its last parts."""
        wanted = [part for part in _key(name).split("/") if part not in {"", ".", ".."}]
        if not wanted:
            return []
        best: list[str] = []
        length = 0
        for path, parts in _images_below(self._folder).get(wanted[-1], ()):
            common = min(len(parts), len(wanted))
            if parts[-common:] == wanted[-common:]:
                if common > length:
                    best, length = [], common
                if common == length:
                    best.append(path)
        return best


class ObjectNames:
    """The images that a table names which is an object: by its folder, without asking for each.

    Names lead nowhere but to what is in the same bucket, on the same server or in the same shard.
    """

    def __init__(self, path: str) -> None:
        shard = shard_of(path)
        root = shard[0] if shard else path[: path.index("/", path.index("://") + 3)]
        self._root = root
        self._folder = path[len(root) + 1 :].rpartition("/")[0]

    def find(self, name: str) -> tuple[str, str | None]:
        """Return the path of a row's image; as `ImageFiles`."""
        plain = name.strip().replace("\\", "/").lstrip("/")
        way = os.path.normpath("/" + os.path.join(self._folder, plain)).lstrip("/")  # noqa: PTH118
        return f"{self._root}/{way}", None


def image_files_of(table: str) -> ImageFiles | ObjectNames:
    """Return what finds the images of a table by its path."""
    if is_uri(table) or shard_of(table) is not None:
        return ObjectNames(table)
    return ImageFiles(os.path.dirname(os.path.abspath(table)))  # noqa: PTH100, PTH120


def _spellings(name: str) -> Iterator[str]:
    name = name.strip()
    yield name
    plain = name.replace("\\", "/") if "\\" in name else name
    yield plain
    if _DRIVE.match(name):
        yield plain[2:].lstrip("/")
    if "%" in plain:
        yield unquote(plain)


def _key(path: str) -> str:
    """Spell a path so that those compare equal that differ in case, Unicode form or separator."""
    folded = unicodedata.normalize("NFC", path).casefold()
    return unicodedata.normalize("NFC", folded).replace(os.sep, "/")


@lru_cache(maxsize=4)
def _listed(folder: str, _mtime_ns: int) -> dict[str, list[tuple[str, list[str]]]]:
    """List the images below a folder by the key of their name: relative paths and their parts."""
    by_name: dict[str, list[tuple[str, list[str]]]] = {}
    count = 0
    for directory, _, names in os.walk(folder):
        inside = os.path.relpath(directory, folder)
        for name in names:
            if kind_of(name) not in {MediaKind.IMAGE, MediaKind.VIDEO}:
                continue
            path = name if inside == "." else os.path.join(inside, name)  # noqa: PTH118
            parts = _key(path).split("/")
            by_name.setdefault(parts[-1], []).append((path, parts))
            count += 1
        if count > _MOST_FILES:
            break
    return by_name


def _images_below(folder: str) -> dict[str, list[tuple[str, list[str]]]]:
    try:
        return _listed(folder, os.stat(folder).st_mtime_ns)  # noqa: PTH116
    except OSError:
        return {}

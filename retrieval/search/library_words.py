"""What a library has that words of a query may mean: cameras, folders, places, years."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any, Protocol, TypeVar

import regex

from retrieval.search.times import FIRST_YEAR, Period
from retrieval.search.tokens import key_of, query_words, tokenize

_T = TypeVar("_T")

_DATED = regex.compile(
    r"(?<!\d)(?P<year>(?:19|20)\d\d)(?:[-_. ]?(?P<month>0[1-9]|1[0-2])(?!\d{3}))?(?:\d\d)?(?!\d)"
)
_MONTH = regex.compile(r"(?P<month>0?[1-9]|1[0-2])(?!\d)(?:[-_. ]\D.*)?")


class Source(Protocol):
    """What is asked of a catalog; `Snapshot` has it."""

    def cameras(self) -> list[str]:
        """List camera names."""

    def folders(self) -> list[str]:
        """List the folders that hold files."""

    def sources(self) -> list[str]:
        """List the paths of the sources."""

    def places(self) -> list[str]:
        """List places: names, a line each."""

    def days(self) -> list[int]:
        """List the days of dates, since 1970."""

    def is_southern(self) -> bool:
        """Return whether most coordinates are south of the equator."""


@dataclass(frozen=True)
class Folder:
    """A folder at or below a source.

    keys: of the words of its name. year, month: that its name and those above it say. dated_to: the
    part of its path up to the end of that date.
    """

    path: str
    name: str
    keys: tuple[str, ...]
    year: int | None
    month: int | None
    dated_to: str


class LibraryWords:
    """Words of a library, each kind read when it is first asked for, and kept in `memory`."""

    def __init__(self, source: Source, memory: dict[str, Any]) -> None:
        self._source = source
        self._memory = memory

    def cameras(self) -> list[tuple[str, str]]:
        """List the keys of cameras with their names."""
        return self._once(
            "cameras", lambda: [(key_of(name), name) for name in self._source.cameras()]
        )

    def places(self) -> dict[str, str]:
        """Return names of cities, regions and countries by their keys."""

        def read() -> dict[str, str]:
            names = {name for place in self._source.places() for name in place.split("\n")}
            return {key_of(name): name for name in sorted(names)}

        return self._once("places", read)

    def folders(self) -> list[Folder]:
        """List the folders below the sources, and the sources themselves."""

        def read() -> list[Folder]:
            sources = [s.rstrip(os.sep) for s in self._source.sources()]
            return folders_below(sources, self._source.folders())

        return self._once("folders", read)

    def folders_named(self, key: str) -> list[Folder]:
        """List the folders whose names have some words one after the other."""
        words = tuple(token.key for token in tokenize(key))
        return [
            folder
            for folder in self._folders_by_word().get(words[0], ())
            if any(
                folder.keys[start : start + len(words)] == words
                for start in range(len(folder.keys) - len(words) + 1)
            )
        ]

    def folders_in(self, period: Period) -> list[Folder]:
        """List the folders whose names say a year or month that lies in a period."""
        return [
            folder
            for folder in self.folders()
            if folder.year is not None and _lies_in(folder.year, folder.month, period)
        ]

    def years(self) -> list[int]:
        """List the years of dates and of folders, at most the last 20."""

        def read() -> list[int]:
            dated = {1970 + int(day / 365.2425 // 1) for day in self._source.days()}
            named = {folder.year for folder in self.folders() if folder.year is not None}
            return sorted(year for year in dated | named if year >= FIRST_YEAR)[-20:]

        return self._once("years", read)

    def is_southern(self) -> bool:
        """Return whether its summer is in January."""
        return self._once("is_southern", self._source.is_southern)

    def _folders_by_word(self) -> dict[str, list[Folder]]:
        def read() -> dict[str, list[Folder]]:
            found: dict[str, list[Folder]] = {}
            for folder in self.folders():
                for key in set(folder.keys):
                    found.setdefault(key, []).append(folder)
            return found

        return self._once("folders_by_word", read)

    def _once(self, name: str, read: Callable[[], _T]) -> _T:
        if name not in self._memory:
            self._memory[name] = read()
        value: _T = self._memory[name]
        return value


def folders_below(sources: Sequence[str], folders: Iterable[str]) -> list[Folder]:
    """Read the names of folders at or below sources, and of those between, sorted by path."""
    found: dict[str, Folder] = {}
    for path in folders:
        above = max((s for s in sources if path == s or path.startswith(s + os.sep)), default=None)
        if above is None or not path.isprintable():
            continue
        here = above
        for name in ["", *Path(path).relative_to(above).parts]:
            parent = found.get(here) if name else None
            here = f"{here}{os.sep}{name}" if name else here
            if here not in found:
                found[here] = _read_folder(here, parent)
    return sorted(found.values(), key=lambda folder: folder.path)


def topmost(folders: Iterable[Folder]) -> list[Folder]:
    """Leave out folders that lie below others."""
    kept: list[Folder] = []
    for folder in sorted(folders, key=lambda folder: Path(folder.path).parts):
        if not kept or not folder.path.startswith(kept[-1].path + os.sep):
            kept.append(folder)
    return kept


def _read_folder(path: str, parent: Folder | None) -> Folder:
    name = Path(path).name
    year, month = (parent.year, parent.month) if parent else (None, None)
    dated_to = parent.dated_to if parent else ""
    head = path[: len(path) - len(name)]
    if match := _DATED.search(name):
        year, month = int(match["year"]), int(match["month"]) if match["month"] else None
        dated_to = head + name[: match.end("month" if month else "year")]
    elif year is not None and month is None:
        if match := _MONTH.fullmatch(name):
            month, dated_to = int(match["month"]), path
        elif named := _months().get(key_of(name)):
            month, dated_to = named, path
    return Folder(path, name, tuple(token.key for token in tokenize(name)), year, month, dated_to)


@cache
def _months() -> dict[str, int]:
    return {
        word: month
        for told in query_words()["time"].values()
        for word, month in (told["short_months"] | told["months"]).items()
    }


def _lies_in(year: int, month: int | None, period: Period) -> bool:
    since = date(year, month or 1, 1)
    last = month or 12
    before = date(year + last // 12, last % 12 + 1, 1)
    return (period.since is None or period.since <= since) and (
        period.before is None or before <= period.before
    )

"""What facets count: dates, folders, cameras, kinds and table columns, as arrays."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.orm import aliased

from retrieval.catalog.dialects.base import Dialect
from retrieval.catalog.records import FileState
from retrieval.catalog.schema import (
    AnnotationRecord,
    FileRecord,
    FolderRecord,
    ItemRecord,
    SourceRecord,
    raw_rows,
)
from retrieval.filters import ColumnValue
from retrieval.media import FIRST_SECOND, LAST_SECOND

LABELS: dict[str, Any] = {
    "camera": FileRecord.camera,
    "kind": FileRecord.kind,
    "place": FileRecord.place,
}
"""Text columns of files, with an index each, that are facets as they are.

`place` holds a name a line.
"""

DATE: Any = FileRecord.taken_local
"""The column, with an index, that years and months are taken from, in seconds since 1970."""

MOST_COLUMNS = 50
MOST_VALUES = 1000
"""A column with more different values is no facet."""
LONGEST_VALUE = 100

_CODES = MOST_VALUES + 2
_FOLDER_LEVELS = 2

Counts = list[tuple[str, int]]
"""Values with the number of items, those that are in none left out."""


@dataclass(frozen=True, eq=False)
class Labels:
    """One value of each file. codes: by file id, indices of values, -1 where it has none."""

    values: Sequence[str]
    codes: NDArray[np.int32]

    def count(self, file_ids: NDArray[np.int64]) -> Counts:
        """Count the values of the files of items, in their own order."""
        known = file_ids[file_ids < len(self.codes)]  # others came after this was read
        counts = np.bincount(self.codes[known] + 1, minlength=len(self.values) + 1)[1:]
        return [(self.values[code], int(counts[code])) for code in np.flatnonzero(counts).tolist()]


@dataclass(frozen=True, eq=False)
class FileFacets:
    """Months, folders and `LABELS` of files. sources: paths without a slash at the end."""

    months: Labels
    folders: Labels
    labels: Mapping[str, Labels]
    sources: Sequence[str]

    def count_folders(self, file_ids: NDArray[np.int64]) -> Counts:
        """Count items below each source and the first two levels of folders in it, by path."""
        counts: dict[str, int] = {}
        for folder, count in self.folders.count(file_ids):
            for path in self._shown(folder):
                counts[path] = counts.get(path, 0) + count
        return sorted(counts.items())

    def _shown(self, folder: str) -> Iterator[str]:
        """Yield the folders that stand for a folder, with a slash at its end, in the facet."""
        inside = [source for source in self.sources if folder.startswith(f"{source}{os.sep}")]
        if inside:
            path = max(inside, key=len)
            yield path or os.sep
            levels = Path(folder[len(path) + 1 :]).parts[:_FOLDER_LEVELS]
            for name in levels:
                path = f"{path}{os.sep}{name}"
                yield path


@dataclass(frozen=True, eq=False)
class ColumnFacet:
    """The values of a column, and who has them.

    of_files: (n, 2) int64, pairs of a file's id and the index of a value; of_items: of an item's.
    """

    values: Sequence[ColumnValue]
    of_files: NDArray[np.int64]
    of_items: NDArray[np.int64]

    def count(
        self, file_ids: NDArray[np.int64], item_ids: NDArray[np.int64]
    ) -> list[tuple[ColumnValue, int]]:
        """Count the values of items, given with their files."""
        counts = _times(self.of_files, file_ids, len(self.values))
        counts += _times(self.of_items, item_ids, len(self.values))
        return [(self.values[code], int(counts[code])) for code in np.flatnonzero(counts).tolist()]


def _times(pairs: NDArray[np.int64], ids: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Count the ids that are paired with each value, as often as they are given."""
    most = max(ids.max(initial=0), pairs[:, 0].max(initial=0))
    times = np.bincount(ids, minlength=most + 1)
    return np.bincount(pairs[:, 1], times[pairs[:, 0]], size).astype(np.int64)


class _ColumnReader:
    """Collects the values of one column until there are too many different ones."""

    def __init__(self) -> None:
        self._codes: dict[tuple[type, ColumnValue], int] = {}
        self._pairs: dict[bool, list[int]] = {False: [], True: []}

    @property
    def may_be_facet(self) -> bool:
        return len(self._codes) <= MOST_VALUES

    @property
    def is_facet(self) -> bool:
        return self.may_be_facet and len(self._codes) > 0

    def add(self, number: int, value: Any, *, is_item: bool) -> None:
        """Add a value, or those of a list, of a file or item."""
        for single in value if isinstance(value, list) else (value,):
            is_short = not isinstance(single, str) or 0 < len(single) <= LONGEST_VALUE
            if isinstance(single, str | int | float) and is_short and self.may_be_facet:
                code = self._codes.setdefault((type(single), single), len(self._codes))
                self._pairs[is_item].append(number * _CODES + code)

    def read(self) -> ColumnFacet:
        pairs = (np.unique(np.array(self._pairs[is_item], np.int64)) for is_item in (False, True))
        arrays = (np.stack(np.divmod(packed, _CODES), axis=1) for packed in pairs)
        return ColumnFacet([value for _, value in self._codes], *arrays)


def read_file_facets(connection: sa.Connection, dialect: Dialect) -> FileFacets:
    """Read months, folders and labels of all files."""
    size = (connection.scalar(sa.select(sa.func.max(FileRecord.id))) or 0) + 1
    dated = sa.select(FileRecord.id, DATE).where(DATE.between(FIRST_SECOND, LAST_SECOND))
    file_ids, dates = dialect.read_integers(connection, dated)
    folder: Any = FileRecord.folder_id
    in_folder = sa.select(FileRecord.id, folder).where(folder.is_not(None))
    in_folders, folder_ids = dialect.read_integers(connection, in_folder)
    folders = connection.execute(sa.select(FolderRecord.id, FolderRecord.path)).all()
    place_of = np.full(max((row.id for row in folders), default=0) + 1, -1, np.int32)
    place_of[[row.id for row in folders]] = np.arange(len(folders))
    return FileFacets(
        _months(file_ids, dates, size),
        Labels([row.path for row in folders], _codes(size, in_folders, place_of[folder_ids])),
        {
            name: _labels(dialect.read_groups(connection, column, FileRecord.id), size)
            for name, column in LABELS.items()
        },
        [source.rstrip(os.sep) for source in connection.scalars(sa.select(SourceRecord.path))],
    )


def _codes(size: int, file_ids: NDArray[np.int64], codes: NDArray[Any]) -> NDArray[np.int32]:
    of_files = np.full(size, -1, np.int32)
    of_files[file_ids] = codes
    return of_files


def _labels(groups: Iterable[tuple[str, NDArray[np.int64]]], size: int) -> Labels:
    codes = np.full(size, -1, np.int32)
    values: list[str] = []
    for value, file_ids in groups:
        if value:
            codes[file_ids] = len(values)
            values.append(value)
    return Labels(values, codes)


def _months(file_ids: NDArray[np.int64], dates: NDArray[np.int64], size: int) -> Labels:
    """Name months as 2019-05."""
    months = dates.astype("datetime64[s]").astype("datetime64[M]")
    first = months.min() if len(months) else np.datetime64("1970-01")
    since = (months - first).astype(np.int64)
    is_used = np.bincount(since, minlength=1) > 0
    numbers = np.cumsum(is_used) - 1
    values = [str(first + month) for month in np.flatnonzero(is_used)]
    return Labels(values if len(months) else [], _codes(size, file_ids, numbers[since]))


def read_column_facets(connection: sa.Connection) -> dict[str, ColumnFacet]:
    """Read the values of table columns with few different values."""
    table = aliased(FileRecord)
    annotated = (
        sa.select(FileRecord.id, sa.cast(AnnotationRecord.columns, sa.Text))
        .join_from(AnnotationRecord, FileRecord, FileRecord.path == AnnotationRecord.image_path)
        .join(table, table.id == AnnotationRecord.file_id)
        .where(table.state == FileState.INDEXED)
    )
    own = sa.select(ItemRecord.id, sa.cast(ItemRecord.columns, sa.Text)).where(
        ItemRecord.columns.is_not(None)
    )
    readers: dict[str, _ColumnReader] = {}
    for query, is_item in ((annotated, False), (own, True)):
        for number, columns in raw_rows(connection, query):
            for name, value in json.loads(columns).items():
                if name not in readers and len(readers) < MOST_COLUMNS:
                    readers[name] = _ColumnReader()
                if (reader := readers.get(name)) and reader.may_be_facet:
                    reader.add(number, value, is_item=is_item)
    return {name: readers[name].read() for name in sorted(readers) if readers[name].is_facet}

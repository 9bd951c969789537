"""What facets count: dates, folders, cameras, kinds and table columns, as arrays.

The codes of all files are kept in the catalog as arrays, since reading a column of a database takes
ten times as long: `refresh_codes` brings those of changed files up to date.
"""

import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from retrieval.catalog.cells import values_that_pass
from retrieval.catalog.dialects import dialect_of
from retrieval.catalog.dialects.base import Dialect
from retrieval.catalog.schema import (
    CellValueRecord,
    CodesRecord,
    FileCellRecord,
    FileRecord,
    FolderRecord,
    ItemCellRecord,
    LabelRecord,
    SourceRecord,
    chunks,
    next_id,
)
from retrieval.filters import ColumnTest, ColumnValue
from retrieval.media import FIRST_SECOND, LAST_SECOND

LABELS: dict[str, Any] = {
    "camera": FileRecord.camera,
    "kind": FileRecord.kind,
    "place": FileRecord.place,
}
"""Text columns of files that are facets as they are; a change of this needs a migration.

`place` holds a name a line.
"""

DATE: Any = FileRecord.taken_local
"""The column that years and months are taken from, in seconds since 1970."""

MOST_COLUMNS = 50
MOST_VALUES = 1000
"""A column with more different values is no facet."""
LONGEST_VALUE = 100

_MOST_LOOKED_AT = 4 * MOST_COLUMNS
_FOLDER_LEVELS = 2

_FILES_AT_ONCE = 5000
_FILES_A_RECORD = 1024
_CODE = np.dtype("<i4")
_WIDTH = 2 + len(LABELS)
"""Codes of a file: the id of its folder, its month, the ids of its labels."""
_MONTHS_TO_1970 = 1970 * 12

Counts = list[tuple[str, int]]
"""Values with the number of items, those that are in none left out."""


@dataclass(frozen=True, eq=False)
class Labels:
    """One value of each file. codes: by file id, 0 where it has none. name_of: values by code."""

    name_of: Callable[[int], str]
    codes: NDArray[np.int32]

    def count(self, file_ids: NDArray[np.int64]) -> Counts:
        """Count the values of the files of items, by code."""
        counts = np.bincount(self.codes[file_ids], minlength=1)
        counts[0] = 0
        return [(self.name_of(code), int(counts[code])) for code in np.flatnonzero(counts).tolist()]


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


def refresh_codes(connection: sa.Connection, file_ids: Iterable[int]) -> None:
    """Bring the codes of some files up to date with their folders, dates and labels."""
    columns = (FileRecord.id, FileRecord.folder_id, DATE, *LABELS.values())
    for chunk in chunks(sorted(set(file_ids)), _FILES_AT_ONCE):
        files = connection.execute(sa.select(*columns).where(FileRecord.id.in_(chunk))).all()
        if not files:
            continue
        ids, folders, dates, *values = zip(*files, strict=True)
        codes = np.zeros((len(files), _WIDTH), _CODE)
        codes[:, 0] = [folder_id or 0 for folder_id in folders]
        codes[:, 1] = months_of(dates)
        for place, (facet, of_files) in enumerate(zip(LABELS, values, strict=True), 2):
            label_ids = _label_ids(connection, facet, set(of_files) - {None, ""})
            codes[:, place] = [label_ids.get(value, 0) for value in of_files]
        _write(connection, np.array(ids, np.int64), codes)


def fill(connection: sa.Connection) -> None:
    """Make the codes of a catalog that has none."""
    refresh_codes(connection, connection.scalars(sa.select(FileRecord.id)).all())


def months_of(dates: Sequence[int | None]) -> NDArray[np.int64]:
    """Return months since the year 0, counting from 1; 0 for dates that cannot be written."""
    is_known = [date is not None and FIRST_SECOND <= date <= LAST_SECOND for date in dates]
    known = [date if fits else 0 for date, fits in zip(dates, is_known, strict=True)]
    months = np.array(known, "datetime64[s]").astype("datetime64[M]").astype(np.int64)
    return np.where(is_known, months + _MONTHS_TO_1970 + 1, 0)


def month_name(code: int) -> str:
    """Name a month as 2019-05."""
    year, month = divmod(code - 1, 12)
    return f"{year:04}-{month + 1:02}"


def _label_ids(connection: sa.Connection, facet: str, values: set[str]) -> dict[str, int]:
    """Return the ids of labels by value; adds those that are new."""
    of_facet = sa.select(LabelRecord.value, LabelRecord.id).where(LabelRecord.facet == facet)
    known: dict[str, int] = {
        value: label_id
        for chunk in chunks(sorted(values))
        for value, label_id in connection.execute(of_facet.where(LabelRecord.value.in_(chunk)))
    }
    if new := sorted(values - known.keys()):
        ids = range(first := next_id(connection, LabelRecord), first + len(new))
        rows = [(label_id, facet, value) for label_id, value in zip(ids, new, strict=True)]
        dialect_of(connection).insert_rows(connection, LabelRecord, ("id", "facet", "value"), rows)
        known |= dict(zip(new, ids, strict=True))
    return known


def _write(
    connection: sa.Connection, file_ids: NDArray[np.int64], codes: NDArray[np.int32]
) -> None:
    """Write the codes of files, which stand with those of the files of the next ids."""
    places = file_ids % _FILES_A_RECORD
    first_ids = file_ids - places
    wanted = np.unique(first_ids).tolist()
    written = dict(
        connection.execute(
            sa.select(CodesRecord.first_id, CodesRecord.codes).where(
                CodesRecord.first_id.in_(wanted)
            )
        ).all()
    )
    connection.execute(sa.delete(CodesRecord).where(CodesRecord.first_id.in_(written)))
    records = []
    for first_id in wanted:
        block = np.zeros((_FILES_A_RECORD, _WIDTH), _CODE)
        if first_id in written:
            block[:] = np.frombuffer(written[first_id], _CODE).reshape(block.shape)
        is_here = first_ids == first_id
        block[places[is_here]] = codes[is_here]
        records.append((first_id, block.tobytes()))
    dialect_of(connection).insert_rows(connection, CodesRecord, ("first_id", "codes"), records)


def read_file_facets(connection: sa.Connection) -> FileFacets:
    """Read months, folders and labels of all files, which takes some milliseconds."""
    records = connection.execute(sa.select(CodesRecord.first_id, CodesRecord.codes)).all()
    size = max((first_id for first_id, _ in records), default=0) + _FILES_A_RECORD
    codes = np.zeros((size, _WIDTH), _CODE)
    for first_id, block in records:
        codes[first_id : first_id + _FILES_A_RECORD] = np.frombuffer(block, _CODE).reshape(
            _FILES_A_RECORD, _WIDTH
        )
    folders, months, *labels = np.ascontiguousarray(codes.T)
    names = dict(connection.execute(sa.select(LabelRecord.id, LabelRecord.value)).all())
    folder_paths = dict(connection.execute(sa.select(FolderRecord.id, FolderRecord.path)).all())
    return FileFacets(
        Labels(month_name, months),
        Labels(folder_paths.__getitem__, folders),
        {
            facet: Labels(names.__getitem__, of_files)
            for facet, of_files in zip(LABELS, labels, strict=True)
        },
        [source.rstrip(os.sep) for source in connection.scalars(sa.select(SourceRecord.path))],
    )


def read_column_facets(connection: sa.Connection, dialect: Dialect) -> dict[str, ColumnFacet]:
    """Read the values of the first columns of tables by name that have few different ones."""
    names = dialect.distinct(CellValueRecord.name).subquery()
    found: dict[str, ColumnFacet] = {}
    query = sa.select(names.c[0]).where(names.c[0].is_not(None)).limit(_MOST_LOOKED_AT)
    for name in connection.scalars(query).all():
        of_name = sa.select(CellValueRecord.id).where(CellValueRecord.name == name)
        value_ids = connection.scalars(of_name.limit(MOST_VALUES + 1)).all()
        if len(value_ids) > MOST_VALUES:
            continue
        if (facet := _column_facet(connection, dialect, value_ids)).values:
            found[name] = facet
        if len(found) == MOST_COLUMNS:
            break
    return found


def read_column_facet(
    connection: sa.Connection, dialect: Dialect, name: str, part: str
) -> tuple[ColumnFacet, int]:
    """Read the values of one column that contain a text, in any case.

    Returns:
        At most `MOST_VALUES` values, and how many others there are. Without a text, those of a
        column with more are not read: nobody knows which ones are the most frequent.
    """
    passing = sa.select(CellValueRecord.id).where(CellValueRecord.name == name)
    if part:
        passing = values_that_pass(name, ColumnTest(contains=part), dialect, by_index=True)
    count = connection.scalar(sa.select(sa.func.count()).select_from(passing.subquery())) or 0
    value_ids: Sequence[int] = []
    if part or count <= MOST_VALUES:
        value_ids = connection.scalars(passing.limit(MOST_VALUES)).all()
    return _column_facet(connection, dialect, value_ids), count - len(value_ids)


def _column_facet(
    connection: sa.Connection, dialect: Dialect, value_ids: Sequence[int]
) -> ColumnFacet:
    values = {
        value_id: value
        for value_id, written in connection.execute(
            sa.select(CellValueRecord.id, CellValueRecord.value)
            .where(CellValueRecord.id.in_(value_ids))
            .order_by(CellValueRecord.id)
        )
        if _is_shown(value := json.loads(written))
    }
    codes = {value_id: code for code, value_id in enumerate(values)}
    pairs = (
        _pairs(connection, dialect, owner, record.value_id, codes)
        for owner, record in (
            (FileCellRecord.file_id, FileCellRecord),
            (ItemCellRecord.item_id, ItemCellRecord),
        )
    )
    return ColumnFacet(list(values.values()), *pairs)


def _is_shown(value: ColumnValue) -> bool:
    if isinstance(value, str):
        return 0 < len(value) <= LONGEST_VALUE
    return math.isfinite(value)


def _pairs(
    connection: sa.Connection, dialect: Dialect, owner: Any, value_id: Any, codes: dict[int, int]
) -> NDArray[np.int64]:
    """Return the owners of values, each with the code of the value, (n, 2)."""
    query = sa.select(value_id, owner).where(value_id.in_(list(codes)))
    groups = dialect.read_groups(connection, query)
    pairs = [np.column_stack((ids, np.full(len(ids), codes[found]))) for found, ids in groups]
    return np.concatenate([np.empty((0, 2), np.int64), *pairs])

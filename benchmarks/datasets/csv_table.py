"""CSV and TSV files with a column of image files and a column of texts."""

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Unpack

from benchmarks.datasets.annotations import NAME_THE_ENCODING, annotation_file, read_text
from benchmarks.datasets.base import RetrievalDataset
from benchmarks.datasets.table import ColumnNames, TableRow, choose_columns, dataset_from_rows
from retrieval.errors import UsageError

_FORM = "The format csv is a file with a line of column names and one text and its image a line."


def load_csv(
    path: Path,
    *,
    split: str | None = None,
    language: str | None = None,
    images: str | None = None,
    delimiter: str | None = None,
    encoding: str | None = None,
    **columns: Unpack[ColumnNames],
) -> RetrievalDataset:
    """Load a table by the names of its columns.

    Args:
        path: the file.
        split: which split to read, where there is a column of splits.
        language: CSV names none, so only None; `text` chooses among columns of translations.
        images: the folder of the images, else the file's own, else `images/` in it.
        delimiter: one character or `tab`; else a comma, in a .tsv file a tab.
        encoding: else UTF-8, or UTF-16 where the file starts so.
        columns: what the columns are called. Paths of image files are relative to `images`.

    Raises:
        NotFoundError: The file or all images are missing.
        UsageError: Unknown column, split or language, or a line with too many fields.
    """
    source = annotation_file(path, [], _FORM)
    separator = {"tab": "\t", None: "\t" if source.suffix.lower() == ".tsv" else ","}.get(
        delimiter, delimiter
    )
    if separator is None or len(separator) != 1 or separator in '"\r\n':
        raise UsageError(f"The delimiter '{delimiter}' is not one character, nor 'tab'.")
    rows = list(read_csv(source, read_text(source, encoding, way_out=NAME_THE_ENCODING), separator))
    if not rows:
        raise UsageError(f"{source} has no rows. {_FORM}")
    chosen = choose_columns(list(rows[0][1]), source, columns)
    table = [
        TableRow.of(
            f"{source.name}:{number}", row[chosen.image].strip(), [row[chosen.text]], row, chosen
        )
        for number, row in rows
    ]
    return dataset_from_rows(table, source, split=split, language=language, images=images)


def read_csv(source: Path, text: str, delimiter: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield rows by column name, with the number of their last line; skips blank lines.

    Strict, since an unclosed quote would otherwise silently swallow the rest of the file.
    """
    with _fields_of_any_size():
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        try:
            rows = [(reader.line_num, row) for row in reader if row]
        except csv.Error as error:
            raise UsageError(f"{source}:{reader.line_num}: not CSV: {error}.") from error
    if not rows:
        return
    header = [name.strip() for name in rows[0][1]]
    if len(set(header)) != len(header):
        raise UsageError(f"{source}:1: two columns have the same name: {', '.join(header)}.")
    for number, row in rows[1:]:
        if len(row) != len(header):
            raise UsageError(
                f"{source}:{number}: {len(row)} fields, where the first line names {len(header)}."
            )
        yield number, dict(zip(header, row, strict=True))


@contextmanager
def _fields_of_any_size() -> Iterator[None]:
    """Raise the field size limit of 128 KiB, which is global in the csv module."""
    before = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(before)

"""Read tables of texts, and of annotations of images: JSON Lines, CSV, TSV and Parquet."""

import codecs
import csv
import importlib
import itertools
import json
import math
import os
import re
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, time
from decimal import Decimal
from typing import Any, BinaryIO

from indexer.media.base import Annotation, Decoded, Locator, Piece, ReadOptions
from indexer.media.text import guess_encoding_at
from retrieval.errors import MissingExtraError, UnreadableFileError, import_errors_as
from retrieval.media import Modality
from retrieval.media.registry import CSV, JSON_LINES, TSV, format_of

_TEXT_NAMES = (
    *("caption", "captions", "text", "description", "title"),
    *("sentence", "body", "content"),
)
_IMAGE_NAMES = (
    *("image", "image_path", "img", "filename", "file_name", "filepath", "file_path"),
    *("path", "file", "photo"),
)

_ROWS_A_CALL = 500
_CHARACTERS_A_CALL = 4_000_000
_LONGEST_LINE = 16_000_000
_LONGEST_VALUE = 10_000
_ENCODING_SAMPLE = 200_000
_OFFSETS = 1 << 48
"""`next` of JSON Lines and CSV: rows read, times this, plus the byte offset of the next row."""


def read(path: str, start: int, options: ReadOptions) -> Decoded:
    """Read at most 500 rows: the texts of one column, and what each row says of its image.

    The columns are those that the options name, else the first of the usual names that there is,
    whatever its case; in JSON Lines, row by row. A text column may hold lists of texts. All other
    columns go with each text. Where a column names image files, relative to the table's folder,
    all other columns, the text too, become an annotation of the image. Rows count from 1, without
    blank lines.

    Values are made fit for JSON: bytes are dropped, dates become ISO 8601, what is not a number
    None, and what is longer than 10,000 characters is cut.

    Raises UnreadableFileError for a malformed row, by its line, and for a table that has none of
    the columns; MissingExtraError for Parquet where pyarrow is not installed.
    """
    format_ = format_of(path)
    # Not by `pathlib`: names need not be valid text.
    batch = _Batch(os.path.dirname(os.path.abspath(path)), options)  # noqa: PTH100, PTH120
    with open(path, "rb") as file:  # noqa: PTH123
        if not file.read(1):
            raise UnreadableFileError("the file is empty")
        row, offset = divmod(start, _OFFSETS)
        if format_ is JSON_LINES:
            return _read_json_lines(file, row, offset, batch)
        if format_ in {CSV, TSV}:
            return _read_csv(file, row, offset, batch, "\t" if format_ is TSV else ",\t;")
    return _read_parquet(path, start, batch)


@dataclass(frozen=True, slots=True)
class _Roles:
    """The columns of texts and of image file names."""

    text: str | None
    image: str | None

    @classmethod
    def among(cls, names: Sequence[str], options: ReadOptions) -> "_Roles":
        text = _choose(names, options.text_column, _TEXT_NAMES)
        return cls(
            text,
            _choose([name for name in names if name != text], options.image_column, _IMAGE_NAMES),
        )

    def require(self, names: Sequence[str], options: ReadOptions) -> None:
        """Raise UnreadableFileError if a wanted column is missing, or there is none at all."""
        listed = ", ".join(names) if len(names) <= 50 else f"{', '.join(names[:50])}, ..."
        for wanted, found, option in (
            (options.text_column, self.text, "--text-column"),
            (options.image_column, self.image, "--image-column"),
        ):
            if wanted is not None and found is None:
                raise UnreadableFileError(
                    f"has no column '{wanted}', which `{option}` names; its columns: {listed}"
                )
        if self.text is None and self.image is None:
            raise UnreadableFileError(
                "has no column of texts or images with a usual name; name one with "
                f"`--text-column` or `--image-column`; its columns: {listed}"
            )


def _choose(names: Sequence[str], wanted: str | None, usual: Sequence[str]) -> str | None:
    for sought in usual if wanted is None else [wanted]:
        if sought in names:
            return sought
        for name in names:
            if name.strip().casefold() == sought.casefold():
                return name
    return None


@dataclass
class _Batch:
    """The rows of one call, as they are taken in. `folder`: of the table, absolute."""

    folder: str
    options: ReadOptions
    rows: int = 0
    pieces: list[Piece] = field(default_factory=list)
    annotations: list[Annotation] = field(default_factory=list)

    def take(self, number: int, row: dict[str, Any], roles: _Roles) -> None:
        """Take a row in; raises ValueError for what cannot be a text."""
        self.rows += 1
        texts = _texts(row.get(roles.text)) if roles.text is not None else []
        annotation = {
            _clean(name): _for_json(value)
            for name, value in row.items()
            if not isinstance(value, bytes)
        }
        columns = {**annotation}
        if roles.text is not None:
            columns.pop(_clean(roles.text), None)
        for place, text in enumerate(texts, start=1):
            if text and not text.isspace():
                part = f"r{number}" if place == 1 else f"r{number}n{place}"
                locator = Locator(part, columns=columns)
                self.pieces.append(Piece(Modality.TEXT, text, locator))
        if roles.image is not None and (path := self._image_path(row.get(roles.image))):
            annotation.pop(_clean(roles.image), None)
            self.annotations.append(Annotation(path, annotation))

    def reading(self, following: int | None) -> Decoded:
        """Return the rows read so far, and where to continue."""
        return Decoded(tuple(self.pieces), next=following, annotations=tuple(self.annotations))

    def _image_path(self, value: object) -> str | None:
        # Hugging Face keeps images as records of their bytes and their path.
        name = value.get("path") if isinstance(value, dict) else value
        if not isinstance(name, str) or not name.strip() or re.match(r"\w+://", name):
            return None
        try:
            os.fsencode(name)
        except UnicodeEncodeError:
            return None
        # It is looked up among indexed files and never opened, so it may lead anywhere.
        return os.path.normpath(os.path.join(self.folder, name.strip()))  # noqa: PTH118


def _texts(value: object) -> list[str]:
    """Return the texts of a cell in order; "" for a missing one."""
    values = value if isinstance(value, list) else [value]
    texts = []
    for text in values:
        if isinstance(text, str):
            texts.append(_clean(text))
        elif text is None or (isinstance(text, float) and not math.isfinite(text)):
            texts.append("")
        elif isinstance(text, int | float | Decimal) and not isinstance(text, bool):
            texts.append(str(text))
        else:
            raise ValueError(f"a text is {type(text).__name__}, not a string")
    return texts


def _clean(text: str) -> str:
    """Replace lone surrogates, which no database stores."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="replace").decode()
    return text


def _for_json(value: Any) -> Any:
    """Convert a value to one that JSON can hold, of at most 10,000 characters."""
    if isinstance(value, dict | list | tuple | set):
        value = _nested_for_json(value)
        written = json.dumps(value, ensure_ascii=False)
        return value if len(written) <= _LONGEST_VALUE else written[: _LONGEST_VALUE - 1] + "…"
    value = _single_for_json(value)
    if isinstance(value, str) and len(value) > _LONGEST_VALUE:
        return value[: _LONGEST_VALUE - 1] + "…"
    return value


def _nested_for_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            _clean(str(name)): _nested_for_json(inner)
            for name, inner in value.items()
            if not isinstance(inner, bytes)
        }
    if isinstance(value, list | tuple | set):
        return [_nested_for_json(inner) for inner in value if not isinstance(inner, bytes)]
    return _single_for_json(value)


def _single_for_json(value: Any) -> str | int | float | bool | None:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float | Decimal):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, date | time):
        return value.isoformat()
    return _clean(str(value))


def _read_json_lines(file: BinaryIO, row: int, offset: int, batch: _Batch) -> Decoded:
    file.seek(offset)
    began = offset
    names: dict[str, None] = {}
    found = _Roles(None, None)
    line = b"\n"
    while line and batch.rows < _ROWS_A_CALL and offset - began < _CHARACTERS_A_CALL:
        line = file.readline(_LONGEST_LINE + 1)
        content = line.removeprefix(codecs.BOM_UTF8) if offset == 0 else line
        if content.strip():
            try:
                values = _parsed(content)
                roles = _Roles.among(tuple(values), batch.options)
                batch.take(row + batch.rows + 1, values, roles)
            except (ValueError, RecursionError) as error:
                raise _malformed(file, offset, str(error)) from error
            names.update(dict.fromkeys(values))
            found = _Roles(found.text or roles.text, found.image or roles.image)
        offset += len(line)
    if names and began == 0:
        found.require(tuple(names), batch.options)
    return batch.reading((row + batch.rows) * _OFFSETS + offset if line else None)


def _parsed(line: bytes) -> dict[str, Any]:
    if len(line) > _LONGEST_LINE:
        raise ValueError(f"longer than {_LONGEST_LINE // 1_000_000} MB")
    try:
        values = json.loads(line.decode())
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at character {error.colno}") from None
    if not isinstance(values, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - of the file, not of an argument
    return values


def _malformed(file: BinaryIO, offset: int, reason: str) -> UnreadableFileError:
    """Make an error that names the line at an offset; only here it pays to count lines."""
    file.seek(0)
    before = 0
    while offset > 0 and (content := file.read(min(offset, 1 << 20))):
        before += content.count(b"\n")
        offset -= len(content)
    return UnreadableFileError(f"line {before + 1}: {reason}")


class _Lines:
    """An iterator over lines from a byte offset on, that says how far it came, in bytes.

    The encoding is guessed from what is around; bytes that do not fit it become U+FFFD.
    """

    def __init__(self, file: BinaryIO, offset: int) -> None:
        self.offset = offset
        self._file = file
        self._encoding, self._guessed_to = "utf-8", offset
        file.seek(offset)
        # Lines of old end with a carriage return alone.
        self._lines = (line for raw in self._raw() for line in raw.splitlines(keepends=True))

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        text = self._decoded(line)
        if self.offset == 0:
            text = text.removeprefix("\ufeff")
        self.offset += len(line)
        return text

    def _raw(self) -> Iterator[bytes]:
        while raw := self._file.readline(_LONGEST_LINE + 1):
            if len(raw) > _LONGEST_LINE:
                raise ValueError(f"longer than {_LONGEST_LINE // 1_000_000} MB")
            yield raw

    def _decoded(self, line: bytes) -> str:
        if b"\0" in line:
            raise UnreadableFileError("is not text")
        try:
            return line.decode(self._encoding)
        except UnicodeDecodeError:
            if self.offset >= self._guessed_to:
                self._guess()
            return line.decode(self._encoding, "replace")

    def _guess(self) -> None:
        ahead = self._file.tell()
        self._encoding = guess_encoding_at(self._file, self.offset, _ENCODING_SAMPLE)
        self._guessed_to = self.offset + _ENCODING_SAMPLE
        self._file.seek(ahead)


def _read_csv(file: BinaryIO, row: int, offset: int, batch: _Batch, delimiters: str) -> Decoded:
    # The limit is one for the whole process. It is only ever raised, which no thread minds.
    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_LINE))
    header, first_offset, delimiter = _read_header(file, delimiters)
    if not header:
        return batch.reading(None)
    roles = _Roles.among(header, batch.options)
    roles.require(header, batch.options)
    lines = _Lines(file, offset or first_offset)
    rows = csv.reader(lines, delimiter=delimiter, strict=True)
    began = record = lines.offset
    try:
        while batch.rows < _ROWS_A_CALL and lines.offset - began < _CHARACTERS_A_CALL:
            record = lines.offset
            values = next(rows, None)
            if values is None:
                return batch.reading(None)
            if not values:
                continue
            batch.take(row + batch.rows + 1, _by_name(header, values), roles)
    except (ValueError, csv.Error) as error:
        raise _malformed(file, record, str(error)) from error
    return batch.reading((row + batch.rows) * _OFFSETS + lines.offset)


def _by_name(header: Sequence[str], values: Sequence[str]) -> dict[str, Any]:
    if len(values) != len(header):
        raise ValueError(f"{len(values)} fields, where the first line names {len(header)}")
    return dict(zip(header, values, strict=True))


def _read_header(file: BinaryIO, delimiters: str) -> tuple[list[str], int, str]:
    """Names of the columns, the offset of the first row, and what is between fields."""
    file.seek(0)
    if file.read(2) in {codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE}:
        raise UnreadableFileError("is a table in UTF-16; save it as UTF-8 to have it indexed")
    lines = _Lines(file, 0)
    try:
        first = next((line for line in lines if not line.isspace()), "")
        delimiter = max(delimiters, key=re.sub(r'"[^"]*"', "", first).count)
        # Names may hold line ends, so that the header may go on after its first line.
        reader = csv.reader(itertools.chain([first], lines), delimiter=delimiter, strict=True)
        header = next(reader, [])
    except (ValueError, csv.Error) as error:
        raise _malformed(file, 0, str(error)) from error
    names = [name.strip() or f"column {n}" for n, name in enumerate(header, start=1)]
    _require_distinct(names)
    return names, lines.offset, delimiter


def _require_distinct(names: Sequence[str]) -> None:
    if repeated := sorted(name for name, count in Counter(names).items() if count > 1):
        raise UnreadableFileError(f"has several columns of the same name: {', '.join(repeated)}")


class _ParquetRows:
    """Rows of a Parquet file, from the row group of a row on, without what is bytes.

    identity: the file as it was when it was opened. done: how many rows of the file are passed.
    """

    def __init__(self, path: str, identity: tuple[object, ...], start: int) -> None:
        self.identity = identity
        self._file = open(path, "rb")  # noqa: PTH123, SIM115 - as in read; closed by close()
        try:
            with _parquet_errors():
                self._begin(start)
        except BaseException:
            self.close()
            raise

    def _begin(self, start: int) -> None:
        parquet = importlib.import_module("pyarrow.parquet")
        # Not buffered ahead: a row group can be larger than memory.
        table = parquet.ParquetFile(self._file, pre_buffer=False, buffer_size=1 << 20)
        self.total: int = table.metadata.num_rows
        leaves = [table.schema.column(n) for n in range(len(table.schema))]
        paths = [leaf.path for leaf in leaves if not _is_bytes(leaf)]
        present = {path.partition(".")[0] for path in paths}
        self.all_names: list[str] = table.schema_arrow.names
        self.names = [name for name in self.all_names if name in present]
        self.done, group = 0, 0
        while group < table.num_row_groups:
            rows = table.metadata.row_group(group).num_rows
            if self.done + rows > start:
                break
            self.done += rows
            group += 1
        self._batches = table.iter_batches(
            batch_size=_ROWS_A_CALL, row_groups=range(group, table.num_row_groups), columns=paths
        )

    def next_from(self, start: int) -> list[dict[str, Any]]:
        """Read the batch of rows that begins at a row, at least one unless all are passed."""
        for records in self._batches:
            skipped = max(0, start - self.done)
            self.done += records.num_rows
            if self.done > start:
                return list(_in_microseconds(records.slice(skipped)).to_pylist())
        self.done = self.total
        return []

    def close(self) -> None:
        """Close the file."""
        self._file.close()


_of_thread = threading.local()
"""`rows`: the _ParquetRows that a thread read last, and may be asked to go on with."""


def _read_parquet(path: str, start: int, batch: _Batch) -> Decoded:
    """Go on where the last call of this thread ended or before, else from the row group's start.

    A row group cannot be entered in the middle and commonly has a million rows, so that beginning
    each call at its start would take quadratic time.
    """
    stat = os.stat(path)  # noqa: PTH116 - names need not be valid text
    identity = (os.path.abspath(path), stat.st_size, stat.st_mtime_ns, stat.st_ino)  # noqa: PTH100
    rows: _ParquetRows | None = getattr(_of_thread, "rows", None)
    _of_thread.rows = None
    if rows is not None and (rows.identity != identity or rows.done > start):
        rows.close()
        rows = None
    rows = rows or _ParquetRows(path, identity, start)
    try:
        _require_distinct(rows.all_names)
        roles = _Roles.among(rows.names, batch.options)
        roles.require(rows.names, batch.options)
        with _parquet_errors():
            values = rows.next_from(start)
        for number, row in enumerate(values, start=start + 1):
            try:
                batch.take(number, row, roles)
            except ValueError as error:
                raise UnreadableFileError(f"row {number}: {error}") from error
    except BaseException:
        rows.close()
        raise
    if rows.done >= rows.total:
        rows.close()
        return batch.reading(None)
    _of_thread.rows = rows
    return batch.reading(rows.done)


@contextmanager
def _parquet_errors() -> Iterator[None]:
    with import_errors_as(MissingExtraError("Parquet tables", "tables")):
        pyarrow = importlib.import_module("pyarrow")
        importlib.import_module("pyarrow.parquet")
    try:
        yield
    except (pyarrow.ArrowException, ValueError, OSError, OverflowError) as error:
        raise UnreadableFileError(f"is not Parquet that can be read: {error}") from error


def _is_bytes(leaf: Any) -> bool:
    return leaf.physical_type in {"BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY"} and (
        leaf.logical_type.type == "NONE"
    )


def _in_microseconds(records: Any) -> Any:
    """Convert nanoseconds, which Python's datetime has not."""
    pyarrow = importlib.import_module("pyarrow")
    for place, column in enumerate(records.schema):
        if pyarrow.types.is_timestamp(column.type) and column.type.unit == "ns":
            coarser = pyarrow.timestamp("us", column.type.tz)
            values = records.column(place).cast(coarser, safe=False)
            records = records.set_column(place, column.name, values)
    return records

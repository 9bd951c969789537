"""Read tables of texts, and of annotations of images: JSON, JSON Lines, CSV, TSV and Parquet."""

import codecs
import csv
import importlib
import io
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
from typing import Any, BinaryIO, NamedTuple

from indexer.media.base import Annotation, Decoded, Locator, Piece, ReadOptions
from indexer.media.table_images import ImageFiles, ObjectNames, image_files_of
from indexer.media.text import UNIT_BYTES, guess_encoding_at, marked_encoding
from retrieval.errors import MissingExtraError, UnreadableFileError, import_errors_as
from retrieval.media import MediaKind, Modality
from retrieval.media.registry import CSV, JSON_ARRAY, JSON_LINES, TSV, format_of, kind_of
from retrieval.objects.opening import open_path, status_of
from retrieval.objects.paths import is_object

_TEXT_NAMES = (
    *("caption", "captions", "text", "description", "title"),
    *("sentence", "body", "content", "comment"),
)
_IMAGE_NAMES = (
    *("image", "image_path", "img", "filename", "file_name", "filepath", "file_path"),
    *("path", "file", "photo", "image_name", "image_file"),
)

_ROWS_A_CALL = 500
_CHARACTERS_A_CALL = 4_000_000
_CHARACTERS_WITHOUT_ROW = 64_000_000
_LONGEST_LINE = 16_000_000
_LONGEST_VALUE = 10_000
_ENCODING_SAMPLE = 200_000
_MOST_NOTES = 100
"""Bad rows of a table that are named; the others are counted."""

_LIMB = 1 << 48
_COMMENT = re.compile(r"\s*#")
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE | re.DOTALL)


class _Place(NamedTuple):
    """Where a call begins: what `next` says, as one number, of 48 bits a field.

    bad: rows that could not be read so far. line: lines before `offset`, which is in bytes.
    """

    bad: int
    row: int
    line: int
    offset: int

    @classmethod
    def unpack(cls, start: int) -> "_Place":
        limbs = []
        for _ in cls._fields:
            start, limb = divmod(start, _LIMB)
            limbs.append(limb)
        return cls(*reversed(limbs))

    def pack(self) -> int:
        number = 0
        for limb in self:
            number = number * _LIMB + limb
        return number


def read(path: str, start: int, options: ReadOptions) -> Decoded:
    """Read at most 500 rows: the texts of one column, and what each row says of its image.

    The columns are those that the options name, else the first of the usual names that there is,
    whatever its case; in JSON Lines, row by row. A text column may hold lists of texts. All other
    columns go with each text. Where a column names image files, relative to the table's folder,
    all other columns, the text too, become an annotation of the image. Rows count from 1, without
    blank lines.

    Values are made fit for JSON: bytes are dropped, dates become ISO 8601, what is not a number
    None, and what is longer than 10,000 characters is cut.

    A row that cannot be read is left out and named in a note, by its line; a hundred of a table are
    named, the others are counted. Of CSV, missing last cells are empty, and empty cells beyond the
    header are dropped; a first line `sep=;` names what is between fields, and lines that begin with
    `#` are comments where they are no rows.

    Raises UnreadableFileError for a table that has none of the columns, or no row that can be read;
    MissingExtraError for Parquet where pyarrow is not installed.
    """
    format_ = format_of(path)
    batch = _Batch(image_files_of(path), options)
    with open_path(path) as file:
        if not file.read(1):
            raise UnreadableFileError("the file is empty")
        place = _Place.unpack(start)
        if format_ in {JSON_LINES, JSON_ARRAY}:
            if _begins_array(file):
                return _read_json_array(file, place, batch)
            return _read_json_lines(file, place, batch)
        if format_ in {CSV, TSV}:
            return _read_csv(file, place, batch, "\t,;|" if format_ is TSV else ",\t;|")
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
    """The rows of one call, as they are taken in. `images`: those around it.

    bad: rows of the table that could not be read, those of earlier calls too. notes: the reasons.
    """

    images: ImageFiles | ObjectNames
    options: ReadOptions
    rows: int = 0
    bad: int = 0
    notes: list[str] = field(default_factory=list)
    pieces: list[Piece] = field(default_factory=list)
    annotations: list[Annotation] = field(default_factory=list)

    def take(self, number: int, row: dict[str, Any], roles: _Roles, where: str) -> None:
        """Take a row in; `where` names it in notes. Raises ValueError for what is no text."""
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
        name = self._image_name(row.get(roles.image)) if roles.image is not None else None
        if name is not None:
            # It is never opened, so it may lead anywhere.
            path, problem = self.images.find(name)
            if problem:
                self.note(where, problem)
            annotation.pop(_clean(roles.image or ""), None)
            self.annotations.append(Annotation(path, annotation))

    def note(self, where: str, reason: str) -> None:
        """Count a row that could not be read, or not whole, and name it if few were before."""
        self.bad += 1
        if self.bad <= _MOST_NOTES:
            self.notes.append(f"{where}: {reason}")

    def reading(self, following: int | None) -> Decoded:
        """Return the rows read so far, and where to continue.

        Raises UnreadableFileError where that is all of the table, and no row could be read.
        """
        if following is None and self.bad > _MOST_NOTES:
            self.notes.append(f"{self.bad - _MOST_NOTES:,} more rows like these")
        return Decoded(
            tuple(self.pieces),
            next=following,
            annotations=tuple(self.annotations),
            notes=tuple(self.notes),
        )

    def goes_on(self, length: int) -> bool:
        """Return whether to read on in this call, after this many bytes."""
        most = _CHARACTERS_A_CALL if self.rows else _CHARACTERS_WITHOUT_ROW
        return self.rows < _ROWS_A_CALL and length < most

    def require_rows(self, earlier: int) -> None:
        """Raise UnreadableFileError where the whole table was read, and gave no row."""
        if not earlier and not self.rows and self.bad:
            first = self.notes[0] if self.notes else "no row can be read"
            more = f", and {self.bad - 1:,} more rows like it" if self.bad > 1 else ""
            raise UnreadableFileError(f"{first}{more}")

    @staticmethod
    def _image_name(value: object) -> str | None:
        # Hugging Face keeps images as records of their bytes and their path.
        name = value.get("path") if isinstance(value, dict) else value
        if not isinstance(name, str) or not name.strip("\0\t\r\n "):
            return None
        name = name.strip().removeprefix("file://")
        if re.match(r"\w+://", name) or "\0" in name:
            return None
        try:
            os.fsencode(name)
        except UnicodeEncodeError:
            return None
        return name


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


def _begins_array(file: BinaryIO) -> bool:
    """Return whether a file of JSON is one array of objects, and not one object a line."""
    file.seek(0)
    return re.match(rb"(?:\xef\xbb\xbf)?\s*\[\s*(?:[{\]]|$)", file.read(4096)) is not None


def _read_json_lines(file: BinaryIO, place: _Place, batch: _Batch) -> Decoded:
    batch.bad = place.bad
    lines = _Lines(
        file, place.offset, place.line, batch.options.text_encoding, line_feeds_only=True
    )
    names: dict[str, None] = {}
    found = _Roles(None, None)
    is_last = False
    while batch.goes_on(lines.offset - place.offset):
        where = f"line {lines.line + 1}"
        try:
            line = next(lines, None)
            if line is None:
                is_last = True
                break
            if not line.strip():
                continue
            values = _parsed(line)
            roles = _Roles.among(tuple(values), batch.options)
            batch.take(place.row + batch.rows + 1, values, roles, where)
        except (ValueError, RecursionError) as error:
            batch.note(where, str(error))
            continue
        names.update(dict.fromkeys(values))
        found = _Roles(found.text or roles.text, found.image or roles.image)
    if place.offset == 0 and names:
        found.require(tuple(names), batch.options)
    if is_last:
        batch.require_rows(place.row)
    following = _Place(batch.bad, place.row + batch.rows, lines.line, lines.offset)
    return batch.reading(None if is_last else following.pack())


def _parsed(line: str) -> dict[str, Any]:
    try:
        values = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at character {error.colno}") from None
    if not isinstance(values, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - of the file, not of an argument
    return values


_BETWEEN_OBJECTS = re.compile(r"[\s,\[\ufeff]*")
_NEXT_OBJECT = re.compile(r"\}\s*,\s*(?=\{)")


def _read_json_array(file: BinaryIO, place: _Place, batch: _Batch) -> Decoded:
    """Read the objects of one array, one after another, so that a damaged one costs only itself."""
    batch.bad = place.bad
    file.seek(place.offset)
    row, line, offset = place.row, place.line, place.offset
    names: dict[str, None] = {}
    found = _Roles(None, None)
    text, is_whole = "", False
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    at, is_last = 0, False
    while batch.goes_on(offset - place.offset):
        between = _BETWEEN_OBJECTS.match(text, at)
        begin = between.end() if between else at
        values, end, reason = _object_at(text, begin)
        if reason is not None and not is_whole and len(text) - begin < _LONGEST_LINE:
            raw = file.read(max(1 << 16, len(text) - begin))
            is_whole = not raw
            text, at = text[at:] + decoder.decode(raw, is_whole), 0
            continue
        where = f"line {line + text.count(chr(10), at, begin) + 1}"
        if begin == len(text) or text[begin] == "]":
            is_last = True
            if begin == len(text):
                batch.note(where, "the file ends within the array")
            break
        if reason is not None:
            batch.note(where, reason)
            onward = _NEXT_OBJECT.search(text, begin)
            if onward is None:
                is_last = True
                break
            end = onward.end()
        else:
            try:
                roles = _Roles.among(tuple(values), batch.options)
                batch.take(row + batch.rows + 1, values, roles, where)
                names.update(dict.fromkeys(values))
                found = _Roles(found.text or roles.text, found.image or roles.image)
            except ValueError as error:
                batch.note(where, str(error))
        line += text.count("\n", at, end)
        offset += len(text[at:end].encode())
        at = end
    if place.offset == 0 and names:
        found.require(tuple(names), batch.options)
    if is_last:
        batch.require_rows(place.row)
    following = _Place(batch.bad, row + batch.rows, line, offset)
    return batch.reading(None if is_last else following.pack())


def _object_at(text: str, begin: int) -> tuple[dict[str, Any], int, str | None]:
    """Parse the object at a place of a text: it, its end, and why there is none."""
    try:
        values, end = json.JSONDecoder().raw_decode(text, begin)
    except json.JSONDecodeError as error:
        return {}, begin, f"not JSON: {error.msg}"
    except (RecursionError, ValueError) as error:
        return {}, begin, f"not JSON: {error}"
    if not isinstance(values, dict):
        return {}, begin, "not a JSON object"
    return values, end, None


class _Lines:
    """An iterator over lines from a byte offset on, that says how far it came, in bytes and lines.

    Without a byte order mark the encoding is guessed from what is around a line that is not UTF-8;
    bytes that do not fit it become U+FFFD. `next` raises ValueError for a line that cannot be read,
    and goes on behind it. Lines can be given back.
    """

    def __init__(
        self,
        file: BinaryIO,
        offset: int,
        line: int,
        named: str | None,
        *,
        line_feeds_only: bool = False,
    ) -> None:
        self._named = named
        file.seek(0)
        self._marked, mark_length = marked_encoding(file.read(4))
        self.offset = max(offset, mark_length)
        self.line = line
        self._file = file
        self._encoding, self._guessed_to = "utf-8", self.offset
        file.seek(self.offset)
        self._line_feeds_only = line_feeds_only
        self._lines = self._wide_lines() if self._marked in UNIT_BYTES else self._byte_lines()
        self._given_back: list[tuple[str | ValueError, int]] = []
        self._returned: list[tuple[str | ValueError, int]] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line, size = self._given_back.pop() if self._given_back else next(self._lines)
        self._returned.append((line, size))
        self.offset += size
        self.line += 1
        if isinstance(line, ValueError):
            raise line
        return line

    def forget(self) -> None:
        """Forget the lines returned so far: they will not be given back."""
        self._returned.clear()

    def give_back(self) -> None:
        """Take back the lines returned since `forget`: they come again."""
        while self._returned:
            line, size = self._returned.pop()
            self._given_back.append((line, size))
            self.offset -= size
            self.line -= 1

    def returned(self) -> list[str]:
        """Return the lines since `forget` that could be read."""
        return [line for line, _ in self._returned if isinstance(line, str)]

    def is_one_line(self) -> bool:
        """Return whether one line came since `forget`."""
        return len(self._returned) == 1

    def _byte_lines(self) -> Iterator[tuple[str | ValueError, int]]:
        offset = self.offset
        while raw := self._file.readline(_LONGEST_LINE + 1):
            if len(raw) > _LONGEST_LINE:
                size = len(raw)
                while raw and not raw.endswith(b"\n"):
                    raw = self._file.readline(_LONGEST_LINE)
                    size += len(raw)
                yield ValueError(f"longer than {_LONGEST_LINE // 1_000_000} MB"), size
                offset += size
                continue
            # Lines of old end with a carriage return alone.
            for line in [raw] if self._line_feeds_only else raw.splitlines(keepends=True):
                yield self._decoded(line, offset), len(line)
                offset += len(line)

    def _wide_lines(self) -> Iterator[tuple[str | ValueError, int]]:
        """Lines of UTF-16 and UTF-32."""
        assert self._marked is not None
        newline = "\n" if self._line_feeds_only else ""
        reader = io.TextIOWrapper(self._file, self._marked, "replace", newline=newline)
        try:
            while line := reader.readline(_LONGEST_LINE):
                yield line, len(line.encode(self._marked, "replace"))
        finally:
            reader.detach()

    def _decoded(self, line: bytes, offset: int) -> str | ValueError:
        if b"\0" in line:
            return ValueError("is not text")
        try:
            return line.decode(self._encoding)
        except UnicodeDecodeError:
            pass
        try:
            if offset >= self._guessed_to:
                self._guess(offset)
            return line.decode(self._encoding, "replace")
        except UnreadableFileError as error:
            return ValueError(str(error))

    def _guess(self, offset: int) -> None:
        ahead = self._file.tell()
        try:
            self._encoding = guess_encoding_at(
                self._file, offset, _ENCODING_SAMPLE, named=self._named
            )
            self._guessed_to = offset + _ENCODING_SAMPLE
        finally:
            self._file.seek(ahead)


def _read_csv(file: BinaryIO, place: _Place, batch: _Batch, delimiters: str) -> Decoded:
    # The limit is one for the whole process. It is only ever raised, which no thread minds.
    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_LINE))
    batch.bad = place.bad
    lines = _Lines(file, 0, 0, batch.options.text_encoding)
    header, delimiter = _read_header(lines, delimiters, batch.options)
    if not header:
        return batch.reading(None)
    table = _Table(header, delimiter, _Roles.among(header, batch.options))
    table.roles.require(header, batch.options)
    if place.offset:
        lines = _Lines(file, place.offset, place.line, batch.options.text_encoding)
    began = lines.offset
    is_last = False
    while batch.goes_on(lines.offset - began):
        lines.forget()
        where = f"line {lines.line + 1}"
        try:
            values = table.next_row(lines)
            if values is None:
                is_last = True
                break
            if not values:
                continue
            if missing := table.missing(values):
                batch.note(where, missing)
            batch.take(place.row + batch.rows + 1, table.by_name(values), table.roles, where)
        except ValueError as error:
            batch.note(where, str(error))
    if is_last:
        batch.require_rows(place.row)
    following = _Place(batch.bad, place.row + batch.rows, lines.line, lines.offset)
    return batch.reading(None if is_last else following.pack())


@dataclass(frozen=True, slots=True)
class _Table:
    """How the rows of a CSV are read: the names of its columns and what is between fields."""

    header: Sequence[str]
    delimiter: str
    roles: _Roles

    def next_row(self, lines: _Lines) -> list[str] | None:
        """Read the fields of the next row; [] for a blank line or a comment, None at the end.

        A row that standard quoting does not explain is read with backslashes before quotes, then as
        one line whose quotes mean nothing. Raises ValueError for one that is none in any of these.
        """
        first = next(lines, None)
        if first is None:
            return None
        if first.isspace():
            return []
        if '"' not in first:
            values = self._split(first)
            if len(values) > len(self.header):
                raise ValueError(self._count(values))
            if len(values) < len(self.header) and _COMMENT.match(first):
                return []
            return values
        return self._quoted_row(lines)

    def _quoted_row(self, lines: _Lines) -> list[str]:
        """Read the row whose first line was the last to come, and has quotes."""
        reason: str | None = None
        short: list[str] | None = None
        for escape in (None, "\\"):
            if escape and not any('\\"' in line for line in lines.returned()):
                continue
            lines.give_back()
            try:
                reader = csv.reader(
                    lines,
                    delimiter=self.delimiter,
                    strict=True,
                    escapechar=escape,
                    doublequote=escape is None,
                )
                values = self._trimmed(next(reader, []))
            except (ValueError, csv.Error) as error:
                reason = reason or str(error)
                continue
            if len(values) == len(self.header) and not self._has_swallowed_rows(lines):
                return values
            reason = reason or self._count(values)
            if len(values) < len(self.header) and short is None and lines.is_one_line():
                short = values
        lines.give_back()
        first = next(lines)
        values = self._split(first)
        if len(values) == len(self.header):
            return values
        if short is not None:
            return [] if _COMMENT.match(first) else short
        raise ValueError(reason or self._count(values))

    def by_name(self, values: Sequence[str]) -> dict[str, Any]:
        """Name the fields of a row; missing last ones are empty."""
        padded = [*values, *[""] * (len(self.header) - len(values))]
        return dict(zip(self.header, padded, strict=True))

    def missing(self, values: Sequence[str]) -> str | None:
        """Say which column of texts or images a row is too short for."""
        for name in self.header[len(values) :]:
            if name in {self.roles.text, self.roles.image}:
                return f"{self._count(values)}; '{name}' is missing"
        return None

    def _split(self, line: str) -> list[str]:
        return self._trimmed(line.rstrip("\r\n").split(self.delimiter))

    def _trimmed(self, values: list[str]) -> list[str]:
        """Drop empty fields beyond the header, and blanks around those that a bar divides."""
        while len(values) > len(self.header) and not values[-1].strip():
            values.pop()
        return [value.strip() for value in values] if self.delimiter == "|" else values

    def _count(self, values: Sequence[str]) -> str:
        fields = "1 field" if len(values) == 1 else f"{len(values)} fields"
        return f"{fields}, where the first line names {len(self.header)}"

    def _has_swallowed_rows(self, lines: _Lines) -> bool:
        """Return whether a row of several lines is one stray quote that took other rows in."""
        rest = lines.returned()[1:]
        whole = [
            dict(zip(self.header, values, strict=True))
            for line in rest
            if len(values := self._split(line)) == len(self.header)
        ]
        if self.roles.image is not None:
            return any(
                kind_of(row[self.roles.image].strip('" \r\n')) is MediaKind.IMAGE for row in whole
            )
        return len(self.header) > 1 and len(rest) > 3 and 2 * len(whole) > len(rest)


def _read_header(lines: _Lines, delimiters: str, options: ReadOptions) -> tuple[list[str], str]:
    """Names of the columns and what is between fields; the lines come to the first row."""
    try:
        first = next((line for line in lines if not line.isspace()), "")
        if said := _SEPARATOR_LINE.fullmatch(first):
            delimiters = said[1]
            first = next((line for line in lines if not line.isspace()), "")
        while _COMMENT.match(first) and not _has_roles(first.lstrip("# \t"), delimiters, options):
            first = next((line for line in lines if not line.isspace()), "")
        if not first:
            return [], delimiters[0]
        # What names columns that are known decides, then the number of fields.
        delimiter = max(
            delimiters,
            key=lambda one: (_has_roles(first, one, options), _unquoted(first).count(one)),
        )
        # Names may hold line ends, so that the header may go on after its first line.
        start = _COMMENT.sub("", first, count=1)
        reader = csv.reader(_chained(start, lines), delimiter=delimiter, strict=True)
        header = next(reader, [])
    except (ValueError, csv.Error) as error:
        raise UnreadableFileError(f"line {max(lines.line, 1)}: {error}") from error
    while len(header) > 1 and not header[-1].strip():
        header.pop()
    names = [name.strip() or f"column {n}" for n, name in enumerate(header, start=1)]
    _require_distinct(names)
    return names, delimiter


def _chained(first: str, lines: _Lines) -> Iterator[str]:
    yield first
    yield from lines


def _unquoted(line: str) -> str:
    return re.sub(r'"[^"]*"', "", line)


def _has_roles(line: str, delimiters: str, options: ReadOptions) -> bool:
    """Return whether a line, divided at one of some characters, names a column that is wanted."""
    for delimiter in delimiters:
        names = [name.strip().strip('"') for name in line.split(delimiter)]
        roles = _Roles.among(names, options)
        if len(names) > 1 and (roles.text or roles.image):
            return True
    return False


def _require_distinct(names: Sequence[str]) -> None:
    if repeated := sorted(name for name, count in Counter(names).items() if count > 1):
        raise UnreadableFileError(f"has several columns of the same name: {', '.join(repeated)}")


class _ParquetRows:
    """Rows of a Parquet file, from the row group of a row on, without what is bytes.

    identity: the file as it was when it was opened. done: how many rows of the file are passed.
    """

    def __init__(self, path: str, identity: tuple[object, ...], start: int) -> None:
        self.identity = identity
        self._file = open_path(path)
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

    def next_from(self, start: int) -> list[tuple[dict[str, Any], str | None]]:
        """Read the batch of rows that begins at a row, at least one unless all are passed.

        Each comes with what could not be read of it; None: nothing.
        """
        for records in self._batches:
            skipped = max(0, start - self.done)
            self.done += records.num_rows
            if self.done > start:
                return _rows_of(_in_microseconds(records.slice(skipped)))
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
    batch.bad, start = divmod(start, _LIMB)
    inode = 0 if is_object(path) else os.stat(path).st_ino  # noqa: PTH116
    identity = (os.path.abspath(path), *status_of(path), inode)  # noqa: PTH100 - not valid text
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
        for number, (row, reason) in enumerate(values, start=start + 1):
            if reason:
                batch.note(f"row {number}", reason)
            try:
                batch.take(number, row, roles, f"row {number}")
            except ValueError as error:
                batch.note(f"row {number}", str(error))
    except BaseException:
        rows.close()
        raise
    if rows.done >= rows.total:
        rows.close()
        batch.require_rows(start)
        return batch.reading(None)
    _of_thread.rows = rows
    return batch.reading(batch.bad * _LIMB + rows.done)


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


def _rows_of(records: Any) -> list[tuple[dict[str, Any], str | None]]:
    """Convert rows to Python's values, without what it cannot hold, such as the year 12000."""
    try:
        return [(row, None) for row in records.to_pylist()]
    except (ValueError, OverflowError):
        pass
    rows: list[tuple[dict[str, Any], str | None]] = []
    for place in range(records.num_rows):
        row, lost = {}, []
        for name, column in zip(records.schema.names, records.columns, strict=True):
            try:
                row[name] = column[place].as_py()
            except (ValueError, OverflowError) as error:
                row[name] = None
                lost.append(f"the value of '{name}' cannot be read: {error}")
        rows.append((row, "; ".join(lost) or None))
    return rows

"""Vectors in files: `.npy` with a sidecar, `.parquet`, `.lance`, and folders of other tools.

A file of our own has a row an item: `vector`, and what `indexer.vectors.stored.record_of` tells;
`columns` is JSON text. Of `vectors.npy` the rows stand in `vectors.jsonl`, in the same order.
`.parquet` and `.lance` name the space of their vectors in the metadata of their schema.
Folders are those of clip-retrieval (`img_emb/*.npy` or `text_emb/*.npy` beside
`metadata/*.parquet`) and of autofaiss (`.npy` alone, or `.parquet` with a column of vectors).

Nothing is unpickled; files are mapped into memory, and read and written in batches.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexer.vectors.add import GivenItem, clean_columns
from indexer.vectors.stored import StoredBatch
from retrieval.encoders.base import Space
from retrieval.errors import MMSearchError, NotFoundError, UsageError, import_errors_as
from retrieval.files import valid_text
from retrieval.media import Modality

BATCH_ROWS = 4096
MOST_DIMENSIONS = 32_768
"""A row of a table that is longer would make each batch of rows as wide, in memory."""
_MOST_NUMBER = (1 << 63) - 1
ENDINGS = (".npy", ".parquet", ".lance")
_SPACE_KEY = b"mmsearch.space"

_VECTOR_COLUMNS = ("vector", "embedding", "embeddings", "image_embedding", "text_embedding", "emb")
_PATH_COLUMNS = ("path", "image_path", "file_name", "filename", "file", "image")
_ID_COLUMNS = ("id", "key", "uuid")
_TEXT_COLUMNS = ("text", "caption")
_NOT_PAYLOAD = {"kind", "modality", "part", "page", "time_s", "width", "height", "taken_local"} | {
    "taken_from",
    "columns",
}
_EMBEDDING_FOLDERS = {"img_emb": Modality.IMAGE, "text_emb": Modality.TEXT}

Batch = tuple[list[GivenItem], NDArray[Any]]


@dataclass(frozen=True)
class VectorFile:
    """Where vectors are, and how many.

    parts: pairs of a file of vectors and the file that tells of its rows, if there is one.
    modality: of rows that do not say it. space: id of their space, where they say it.
    """

    path: Path
    parts: tuple[tuple[Path, Path | None], ...]
    dimension: int
    modality: Modality = Modality.IMAGE
    space: str | None = None


def _pyarrow() -> Any:
    with import_errors_as(UsageError("Parquet files need pyarrow: pip install pyarrow")):
        import pyarrow.parquet
    return pyarrow


def _lance() -> Any:
    with import_errors_as(UsageError("Lance datasets need pylance: pip install pylance")):
        import lance
    return lance


def write_vectors(path: Path, batches: Iterable[StoredBatch], space: Space) -> int:
    """Write items with their vectors to a file by its ending, float32; returns their number.

    Args:
        path: of the file.
        batches: items with vectors of the space.
        space: named in the files that can name it.

    Raises UsageError for another ending, and where a package is missing.
    """
    writers = {".npy": _write_npy, ".parquet": _write_parquet, ".lance": _write_lance}
    if path.suffix not in writers:
        raise UsageError(f"Vectors are written to {', '.join(ENDINGS)}, not to {path.name!r}.")
    try:
        return writers[path.suffix](path, batches, space)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}.") from error


def sidecar_of(path: Path) -> Path:
    """Return the file that tells of the rows of a `.npy` file."""
    return path.with_suffix(".jsonl")


def _write_npy(path: Path, batches: Iterable[StoredBatch], space: Space) -> int:
    count, dimension = 0, space.dimension
    with path.open("wb") as file, sidecar_of(path).open("w", encoding="utf-8") as told:
        _write_npy_header(file, 0, dimension)
        begin = file.tell()
        for batch in batches:
            file.write(np.ascontiguousarray(batch.vectors, "<f4").tobytes())
            told.writelines(
                json.dumps(record, ensure_ascii=False) + "\n" for record in batch.records()
            )
            count += len(batch.items)
        file.seek(0)
        _write_npy_header(file, count, dimension)
        if file.tell() != begin:
            raise OSError("its header has another length")
    return count


def _write_npy_header(file: Any, count: int, dimension: int) -> None:
    # NumPy pads headers so that the number of rows may grow.
    header = {"descr": "<f4", "fortran_order": False, "shape": (count, dimension)}
    np.lib.format.write_array_header_1_0(file, header)


def _tables(batches: Iterable[StoredBatch], space: Space) -> Iterator[Any]:
    """Yield record batches of Arrow, all of one schema."""
    pa, dimension = _pyarrow(), space.dimension
    schema = _schema(pa, space)
    for batch in batches:
        records = batch.records()
        for record in records:
            record["columns"] = json.dumps(record["columns"], ensure_ascii=False)
        flat = pa.array(np.ascontiguousarray(batch.vectors, np.float32).reshape(-1))
        columns = [pa.array([r[f.name] for r in records], f.type) for f in list(schema)[:-1]]
        columns.append(pa.FixedSizeListArray.from_arrays(flat, dimension))
        yield pa.RecordBatch.from_arrays(columns, schema=schema)


def _schema(pa: Any, space: Space) -> Any:
    kinds = {
        "id": pa.int64(),
        "page": pa.int64(),
        "time_s": pa.float64(),
        "width": pa.int64(),
        "height": pa.int64(),
    }
    names = (
        "id path kind modality part page time_s width height text taken_local taken_from columns"
    )
    fields = [pa.field(name, kinds.get(name, pa.string())) for name in names.split()]
    vector = pa.field("vector", pa.list_(pa.float32(), space.dimension))
    return pa.schema([*fields, vector], metadata={_SPACE_KEY: space.id.encode()})


def _write_parquet(path: Path, batches: Iterable[StoredBatch], space: Space) -> int:
    pa, count = _pyarrow(), 0
    with pa.parquet.ParquetWriter(path, _schema(pa, space)) as writer:
        for table in _tables(batches, space):
            writer.write_batch(table)
            count += table.num_rows
    return count


def _write_lance(path: Path, batches: Iterable[StoredBatch], space: Space) -> int:
    lance, pa, counts = _lance(), _pyarrow(), [0]

    def counted() -> Iterator[Any]:
        for table in _tables(batches, space):
            counts.append(table.num_rows)
            yield table

    reader = pa.RecordBatchReader.from_batches(_schema(pa, space), counted())
    lance.write_dataset(reader, str(path), mode="overwrite")
    return sum(counts)


def find_vectors(path: Path) -> VectorFile:
    """Find the vectors of a file, or of a folder of clip-retrieval or autofaiss.

    Raises NotFoundError for a path that does not exist, UsageError where nothing there is vectors.
    """
    if not path.exists():
        raise NotFoundError(f"There is nothing at {path}.")
    modality = Modality.IMAGE
    if path.is_dir() and path.suffix != ".lance":
        inside = next((n for n in _EMBEDDING_FOLDERS if (path / n).is_dir()), None)
        folder = path / inside if inside else path
        modality = _EMBEDDING_FOLDERS[inside] if inside else modality
        files = sorted(folder.glob("*.npy")) or sorted(folder.glob("*.parquet"))
        if not files:
            raise UsageError(f"{path} has no .npy or .parquet files of vectors.")
        tables = sorted((path / "metadata").glob("*.parquet"))
        if tables and len(tables) != len(files):
            raise UsageError(
                f"{path} has {len(files):,} files of vectors and {len(tables):,} of metadata."
            )
        told: list[Path | None] = [*tables] or [_told_beside(file) for file in files]
        parts: tuple[tuple[Path, Path | None], ...] = tuple(zip(files, told, strict=True))
    elif path.suffix in ENDINGS:
        parts = ((path, _told_beside(path)),)
    else:
        raise UsageError(
            f"{path} is no file of vectors: give a {', '.join(ENDINGS)} file, or a folder of them."
        )
    dimensions = {_dimension(file) for file, _ in parts}
    if len(dimensions) > 1:
        raise UsageError(f"{path} has vectors of several dimensions: {sorted(dimensions)}.")
    spaces = {_space(file) for file, _ in parts}
    return VectorFile(
        path, parts, dimensions.pop(), modality, spaces.pop() if len(spaces) == 1 else None
    )


def _told_beside(file: Path) -> Path | None:
    if file.suffix != ".npy":
        return None
    beside = (file.with_suffix(ending) for ending in (".jsonl", ".parquet"))
    return next((one for one in beside if one.exists()), None)


def _dimension(file: Path) -> int:
    if file.suffix == ".npy":
        return int(_mapped(file).shape[1])
    first = next(iter(_arrow_batches(file, 1)), None)
    if first is None:
        raise UsageError(f"{file} has no rows.")
    return int(_vector_column(file, first)[1].shape[1])


def _space(file: Path) -> str | None:
    """Return the id of the space that a file names in the metadata of its schema."""
    if file.suffix == ".npy":
        return None
    batch = next(iter(_arrow_batches(file, 1)))
    named = (batch.schema.metadata or {}).get(_SPACE_KEY)
    return None if named is None else valid_text(named.decode("utf-8", "replace"))


def _mapped(file: Path) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UsageError(f"{file} is no array of NumPy: {error}.") from error
    if not isinstance(array, np.ndarray):
        raise UsageError(f"{file} is an archive of arrays, .npz; vectors are one array, .npy.")
    if array.ndim != 2 or array.dtype.kind not in "fiu" or not array.shape[1]:
        raise UsageError(
            f"{file} has {array.dtype} of the shape {array.shape}; vectors are numbers, (n, d)."
        )
    return array


def read_vectors(found: VectorFile, *, batch_rows: int = BATCH_ROWS) -> Iterator[Batch]:
    """Yield items with their vectors, (n, d), a batch at a time.

    Raises UsageError for a file that cannot be read, or tells of another number of rows.
    """
    numbers = iter(range(1 << 62))
    for file, told in found.parts:
        if file.suffix == ".npy":
            batches = _npy_batches(file, told, batch_rows)
        else:
            batches = _arrow_vectors(file, batch_rows)
        for records, vectors in batches:
            try:
                items = [
                    _item(record, next(numbers), found.modality)
                    for record in records or [{}] * len(vectors)
                ]
            except TypeError as error:
                raise UsageError(f"{told or file}: {error}") from error
            except RecursionError as error:
                raise UsageError(f"{told or file}: a row is nested too deeply.") from error
            yield items, vectors


def _npy_batches(
    file: Path, told: Path | None, size: int
) -> Iterator[tuple[Sequence[Mapping[str, Any]], NDArray[Any]]]:
    array = _mapped(file)
    records = iter(_records(told)) if told else None
    for begin in range(0, len(array), size):
        vectors = np.asarray(array[begin : begin + size])
        batch = [] if records is None else [r for _, r in zip(range(len(vectors)), records)]  # noqa: B905
        if records is not None and len(batch) < len(vectors):
            raise UsageError(f"{told} tells of {begin + len(batch):,} rows, {file} has more.")
        yield batch, vectors
    if records is not None and next(records, None) is not None:
        raise UsageError(f"{told} tells of more rows than {file} has, {len(array):,}.")


def _records(told: Path) -> Iterator[Mapping[str, Any]]:
    if told.suffix == ".parquet":
        for batch in _arrow_batches(told, BATCH_ROWS):
            yield from batch.to_pylist()
        return
    with told.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise UsageError(f"{told}, line {number}: {error}.") from error
            if not isinstance(record, dict):
                raise UsageError(f"{told}, line {number}: a row is a JSON object.")
            yield record


def _arrow_batches(file: Path, size: int) -> Iterator[Any]:
    try:
        if file.suffix == ".lance":
            yield from _lance().dataset(str(file)).to_batches(batch_size=size)
            return
        with _pyarrow().parquet.ParquetFile(file, memory_map=True) as table:
            yield from table.iter_batches(batch_size=size)
    except MMSearchError:
        raise
    except Exception as error:
        raise UsageError(f"{file} cannot be read: {str(error)[:200]}.") from error


def _arrow_vectors(
    file: Path, size: int
) -> Iterator[tuple[Sequence[Mapping[str, Any]], NDArray[Any]]]:
    for batch in _arrow_batches(file, size):
        name, vectors = _vector_column(file, batch)
        others = [column for column in batch.schema.names if column != name]
        yield batch.select(others).to_pylist(), vectors


def _vector_column(file: Path, batch: Any) -> tuple[str, NDArray[Any]]:
    """Return the name of the column of vectors and its values, (n, d); NaN where one is missing."""
    pa = _pyarrow()
    lists = {
        field.name: field
        for field in batch.schema
        if pa.types.is_list(field.type)
        or pa.types.is_large_list(field.type)
        or pa.types.is_fixed_size_list(field.type)
    }
    numeric = [
        name
        for name, field in lists.items()
        if pa.types.is_floating(field.type.value_type) or pa.types.is_integer(field.type.value_type)
    ]
    named = [name for name in _VECTOR_COLUMNS if name in numeric] or numeric
    if not named or (len(numeric) > 1 and named is numeric):
        raise UsageError(
            f"{file} has no column of vectors called {', '.join(_VECTOR_COLUMNS)}; its columns are "
            f"{', '.join(batch.schema.names)}."
        )
    column = batch.column(named[0])
    width = max((len(value) for value in column if value.is_valid), default=0)
    if width > MOST_DIMENSIONS:
        raise UsageError(
            f"{file} has a vector of {width:,} dimensions; at most {MOST_DIMENSIONS:,} are read."
        )
    vectors = np.full((len(column), width), np.nan, np.float32)
    for number, value in enumerate(column):
        if value.is_valid and len(value) == width:
            vectors[number] = value.values.to_numpy(zero_copy_only=False)
    return named[0], vectors


def _item(record: Mapping[str, Any], number: int, modality: Modality) -> GivenItem:
    """Make an item of a row; other columns are what is known of it."""
    told = {name: value for name, value in record.items() if value is not None}
    path = next((str(told.pop(name)) for name in _PATH_COLUMNS if _is_text(told, name)), None)
    item_id = next((str(told.pop(name)) for name in _ID_COLUMNS if name in told), str(number))
    text = next((str(told[name]) for name in _TEXT_COLUMNS if _is_text(told, name)), None)
    is_own = isinstance(told.get("columns"), str | dict)
    columns = told.get("columns", {})
    if isinstance(columns, str):
        with suppress(ValueError):
            columns = json.loads(columns)
    rest = {name: told[name] for name in told if name not in _NOT_PAYLOAD and name != "text"}
    payload = {**(columns if isinstance(columns, dict) else {}), **({} if is_own else rest)}
    with suppress(ValueError):
        modality = Modality(str(told.get("modality", modality)))
    return GivenItem(
        item_id,
        path,
        modality,
        part=str(told.get("part", "")),
        text=valid_text(text) if text is not None and _tells(is_own, modality) else None,
        page=_number(told, "page", int),
        time_s=_number(told, "time_s", float),
        width=_number(told, "width", int),
        height=_number(told, "height", int),
        columns=clean_columns(payload) or None,
    )


def _tells(is_own: bool, modality: Modality) -> bool:
    return is_own or modality is Modality.TEXT


def _is_text(told: Mapping[str, Any], name: str) -> bool:
    return isinstance(told.get(name), str) and bool(told[name])


def _number(told: Mapping[str, Any], name: str, kind: type) -> Any:
    value = told.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    # Also no NaN, nor what a database cannot keep.
    return kind(value) if -_MOST_NUMBER <= value <= _MOST_NUMBER else None

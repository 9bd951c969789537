"""Parquet files with a column of images, by name or by content, and a column of texts."""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Unpack

import xxhash

from benchmarks.datasets.base import RetrievalDataset
from benchmarks.datasets.builder import is_file
from benchmarks.datasets.table import ColumnNames, TableRow, choose_columns, dataset_from_rows
from retrieval.errors import NotFoundError, UsageError, import_errors_as
from retrieval.media import MediaKind
from retrieval.media.registry import kind_of


def load_parquet(
    path: Path,
    *,
    split: str | None = None,
    language: str | None = None,
    images: str | None = None,
    **columns: Unpack[ColumnNames],
) -> RetrievalDataset:
    """Read a file, or all `*.parquet` in a folder in the order of their names, as one table.

    The columns are chosen as in `load_csv`. A cell of texts may be a list. A cell of images is a
    file's name, or the image itself, as bytes or as a record of `bytes` and `path` (the form of
    Hugging Face).

    Args:
        path: the file or folder.
        split, language, columns: as for `load_csv`.
        images: folder of the image files; embedded images are extracted to it, each once, under
            the hash of its content.

    Raises:
        NotFoundError: The file or all images are missing.
        UsageError: pyarrow is not installed; invalid Parquet file; unknown column, split or
            language; embedded images without `images`, the folder to extract them to.
    """
    parquet = _pyarrow_parquet()
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not files or not is_file(files[0]):
        raise NotFoundError(f"{path} is neither a Parquet file nor a folder of *.parquet.")
    unpacked = Path(images).expanduser() if images else None
    rows = []
    for file in files:
        with _parquet_errors(file):
            table = parquet.ParquetFile(file)
        chosen = choose_columns(table.schema_arrow.names, file, columns)
        rows += [
            TableRow.of(
                where,
                image_name(row[chosen.image], unpacked, file),
                _texts(row[chosen.text], file),
                row,
                chosen,
            )
            for where, row in _read(table, chosen.used, file)
        ]
    return dataset_from_rows(
        rows, path if path.is_file() else files[0], split=split, language=language, images=images
    )


def read_parquet(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the rows of a file as records, each with its place.

    Raises UsageError where pyarrow is not installed, or for an invalid file.
    """
    parquet = _pyarrow_parquet()
    with _parquet_errors(file):
        table = parquet.ParquetFile(file)
    yield from _read(table, table.schema_arrow.names, file)


def _pyarrow_parquet() -> Any:
    needs = UsageError("Reading Parquet needs pyarrow: pip install 'mmsearch[parquet]'.")
    with import_errors_as(needs):
        return importlib.import_module("pyarrow.parquet")


def _read(table: Any, columns: list[str], file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    batches = iter(table.iter_batches(batch_size=256, columns=columns))
    number = 0
    while True:
        with _parquet_errors(file):
            batch = next(batches, None)
        if batch is None:
            return
        for row in batch.to_pylist():
            number += 1
            yield f"{file.name}: row {number}", row


@contextmanager
def _parquet_errors(file: Path) -> Iterator[None]:
    """Say of a file what is wrong with it; pyarrow's own errors derive from these."""
    try:
        yield
    except (ValueError, OSError, NotImplementedError) as error:
        raise UsageError(f"{file}: not Parquet that can be read: {error}.") from error


def _texts(cell: object, file: Path) -> list[str | None]:
    texts: list[str | None] = []
    for words in cell if isinstance(cell, list) else [cell]:
        if words is not None and not isinstance(words, str):
            raise UsageError(f"{file}: a text is {type(words).__name__}, not a string.")
        texts.append(words)
    return texts


def image_name(cell: object, folder: Path | None, file: Path | str) -> str:
    """Return the name of an image's file, writing an embedded one into a folder.

    Args:
        cell: name, bytes, or a record of `bytes` and `path`.
        folder: where embedded images are extracted to, each under the hash of its content.
        file: where the cell is, for errors.
    """
    record = cell if isinstance(cell, dict) else {"path": cell}
    content, name = record.get("bytes"), record.get("path")
    if isinstance(name, bytes):
        content, name = name, None
    if name is not None and not isinstance(name, str):
        raise UsageError(f"{file}: an image is {type(name).__name__}, not a name or bytes.")
    if not isinstance(content, bytes):
        return (name or "").strip()
    if folder is None:
        raise UsageError(
            f"{file} holds the images themselves. Name a folder to unpack them into: "
            "'?images=FOLDER' after the path."
        )
    ending = Path(name).suffix if name and kind_of(name) is MediaKind.IMAGE else ".jpg"
    target = folder / f"{xxhash.xxh3_128_hexdigest(content)}{ending}"
    if not is_file(target) or target.stat().st_size != len(content):
        folder.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return target.name

"""Retrieval datasets, one module per format, all loaded by `load_dataset`.

    dataset = load_dataset("jsonl:flickr8k", split="val", language="en")
    dataset.queries("t2i"), dataset.items("t2i"), dataset.qrels("t2i")

Nothing is downloaded: if public data is missing, the error names its source and where to put it.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from benchmarks.datasets.annotations import SplitError
from benchmarks.datasets.base import ProblemKind, RetrievalDataset, safe_id
from benchmarks.datasets.beir import load_beir
from benchmarks.datasets.coco import load_coco
from benchmarks.datasets.csv_table import load_csv
from benchmarks.datasets.flickr30k_csv import load_flickr30k_csv
from benchmarks.datasets.image_folder import load_image_folder
from benchmarks.datasets.jsonl import jsonl_languages, load_jsonl
from benchmarks.datasets.karpathy import load_karpathy
from benchmarks.datasets.parquet_table import load_parquet
from benchmarks.datasets.table import ColumnNames
from benchmarks.datasets.vidore import load_vidore
from retrieval.errors import UsageError

__all__ = [
    "FORMATS",
    "ProblemKind",
    "RetrievalDataset",
    "languages_of",
    "load_dataset",
    "options_of",
    "safe_id",
    "splits_of",
]

FORMATS: dict[str, Callable[..., RetrievalDataset]] = {
    "jsonl": load_jsonl,
    "karpathy": load_karpathy,
    "coco": load_coco,
    "flickr30k-csv": load_flickr30k_csv,
    "image-folder": load_image_folder,
    "csv": load_csv,
    "parquet": load_parquet,
    "beir": load_beir,
    "vidore": load_vidore,
}
"""Loader of each format; its keyword arguments are the options of the format."""

_CAPTIONS = "captions"
_NO_SPLIT = "(none)"
"""Name that no split has."""


def options_of(format_name: str) -> list[str]:
    """List the options of a format, as in `?images=FOLDER` after the path."""
    parameters = inspect.signature(FORMATS[format_name]).parameters
    columns = ColumnNames.__annotations__ if "columns" in parameters else ()
    not_options = {"path", "split", "language", "columns", "extra"}
    options = [*columns, *(name for name in parameters if name not in not_options)]
    return options if format_name in {"beir", "vidore"} else [*options, _CAPTIONS]


def load_dataset(
    specification: str,
    split: str | None = None,
    language: str | None = None,
    *,
    extra: Sequence[Path] = (),
) -> RetrievalDataset:
    """Load `FORMAT:PATH` or `FORMAT:PATH?OPTION=VALUE&OPTION=VALUE`.

    For example `karpathy:coco/dataset_coco.json?images=/data/coco&captions=5`. Each format's
    options are the keyword arguments of its loader in `FORMATS`, and for formats with images
    `captions=N`, which selects the first N texts of each image. Values are percent-decoded (`%26`
    is `&`); the path of an existing file may contain question marks.

    Args:
        specification: Format, path and options.
        split: The split to load; `all` loads all. (default: the only one, else `test`)
        language: The language of the captions. (default: the only one, else the format's)
        extra: Files with further captions of the same images, for format jsonl only.

    Raises:
        NotFoundError: A file or folder is missing; the message names the source of public data.
        UsageError: Unknown format, option, split or language; a malformed file, with its line.
    """
    format_name, path, options = _parse(specification)
    captions = options.pop(_CAPTIONS, None)
    if captions is not None and not (captions.isascii() and captions.isdigit()):
        raise UsageError(f"captions={captions}: expected the number of texts per image.")
    if extra:
        _require_jsonl(format_name)
        options["extra"] = extra
    dataset = FORMATS[format_name](path, split=split, language=language, **options)
    if captions is not None:
        dataset = dataset.first_captions(int(captions))
    return replace(dataset, specification=specification)


def languages_of(
    specification: str, split: str | None = None, extra: Sequence[Path] = ()
) -> tuple[str | None, ...]:
    """List the caption languages of a split; only format jsonl has several.

    Formats with one language or none give `(None,)`: the default of `load_dataset`. Raises as
    `load_dataset`.
    """
    format_name, path, _ = _parse(specification)
    if format_name == "jsonl":
        return jsonl_languages(path, split, extra)
    if extra:
        _require_jsonl(format_name)
    return (None,)


def splits_of(specification: str) -> tuple[str, ...]:
    """List the splits of a dataset, none where it is not divided. Raises as `load_dataset`."""
    try:
        load_dataset(specification, split=_NO_SPLIT)
    except SplitError as error:
        return error.splits
    return ()


def _require_jsonl(format_name: str) -> None:
    if format_name != "jsonl":
        raise UsageError(f"Only datasets of format jsonl take more captions, not {format_name}.")


def _parse(specification: str) -> tuple[str, Path, dict[str, Any]]:
    format_name, _, rest = specification.partition(":")
    if format_name not in FORMATS or not rest:
        raise UsageError(
            f"'{specification}' is not FORMAT:PATH with one of the formats {', '.join(FORMATS)}."
        )
    return format_name, *_split_options(format_name, rest)


def _split_options(format_name: str, rest: str) -> tuple[Path, dict[str, str]]:
    whole = Path(rest).expanduser()
    path, mark, query = rest.rpartition("?")
    if not mark or whole.exists():
        return whole, {}
    known = options_of(format_name)
    options: dict[str, str] = {}
    for assignment in query.split("&"):
        name, equals, value = assignment.partition("=")
        if not equals or not value or name not in known or name in options:
            raise UsageError(
                f"'{assignment}' after the path is not an option of format {format_name}. "
                f"There are: {', '.join(known)}; each once, as OPTION=VALUE."
            )
        options[name] = unquote(value)
    return Path(path).expanduser(), options

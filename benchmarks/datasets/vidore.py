"""ViDoRe (Faysse et al. 2024): queries in words for page images, as its datasets lie on the hub.

Version 1 has rows of a query and its page; versions 2 and 3, and the BEIR form of version 1, have
folders `corpus`, `queries` and `qrels`. The benchmark's figure is nDCG@5.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.datasets.annotations import ALL_SPLITS, choose_split, in_split, read_json_lines
from benchmarks.datasets.base import ProblemKind, RetrievalDataset, safe_id
from benchmarks.datasets.builder import DatasetBuilder
from benchmarks.datasets.parquet_table import image_name, read_parquet
from retrieval.errors import NotFoundError, UsageError

_FETCH = (
    "The datasets are listed at https://huggingface.co/vidore; download one and name its folder, "
    "which holds corpus, queries and qrels, each a folder of .parquet files, or .parquet files of "
    "queries with their pages."
)
_Row = tuple[str, dict[str, Any]]


def load_vidore(
    path: Path,
    *,
    split: str | None = None,
    language: str | None = None,
    images: str | None = None,
) -> RetrievalDataset:
    """Load a folder of parts, each one or more files of Parquet or JSON Lines.

    Splits are the files named `SPLIT.parquet` or `SPLIT-00000-of-00001.parquet` (default: test).
    Pages without a query are found among the others, as they should be. Equal queries of version 1
    are one, whose pages are all relevant. Gains of 0 and below mean judged and not relevant.

    Args:
        path: the folder.
        split: of the files; `all` loads all.
        language: of the queries, as their column `language` says (default: all languages).
        images: folder of the image files; embedded images are extracted to it, each once, under
            the hash of its content.

    Raises:
        NotFoundError: a part is missing.
        UsageError: pyarrow is not installed; a file that cannot be read; unknown split or language;
            embedded images without `images`.
    """
    parts = {part: _files(path, part) for part in ("corpus", "queries", "qrels")}
    unpacked = Path(images).expanduser() if images else None
    image_of = partial(_image, folder=unpacked or path, unpacked=unpacked)
    if all(parts.values()):
        split = _choose(parts["qrels"], split, path)
        builder = DatasetBuilder(path.resolve().name, split, language)
        _add_parts(builder, parts, image_of)
    elif any(parts.values()):
        lacks = ", ".join(part for part, files in parts.items() if not files)
        raise NotFoundError(f"{path} has no {lacks}. {_FETCH}")
    else:
        files = {file: _split_of(file) for file in sorted(path.glob("**/*.parquet"))}
        if not files:
            raise NotFoundError(f"{path} has no corpus, queries, qrels, nor *.parquet. {_FETCH}")
        split = _choose(files, split, path)
        builder = DatasetBuilder(path.resolve().name, split, language)
        _add_pairs(builder, files, image_of)
    if not builder.relevance:
        among = f" in '{language}'" if language else ""
        raise UsageError(f"{path}: not one query of split '{split}'{among} has a relevant page.")
    return builder.build(fetch_hint=_FETCH)


def _add_parts(
    builder: DatasetBuilder, parts: Mapping[str, Mapping[Path, str]], image_of: Callable[..., Path]
) -> None:
    split, language = builder.split, builder.language
    page_of: dict[str, str] = {}
    for where, row in _rows(parts["corpus"], split):
        page = _id(row, "corpus", where)
        if page in page_of:
            builder.report(ProblemKind.DUPLICATE_ID, where, f"page {page} again: left out")
            continue
        page_of[page] = builder.add_image(page, image_of(row, where))
    languages = set()
    for where, row in _rows(parts["queries"], split):
        languages.add(row.get("language"))
        if language is None or row.get("language") == language:
            _add_query(builder, safe_id(_id(row, "query", where)), row, where)
    _require_language(language, languages)
    _add_judgments(builder, parts["qrels"], page_of)
    for query in [query for query in builder.query_texts if query not in builder.relevance]:
        del builder.query_texts[query]
        builder.report(ProblemKind.QUERY_WITHOUT_ANSWER, query, "left out")


def _add_judgments(
    builder: DatasetBuilder, qrels: Mapping[Path, str], page_of: Mapping[str, str]
) -> None:
    unasked = set()
    for where, row in _rows(qrels, builder.split):
        query, page = safe_id(_id(row, "query", where)), _id(row, "corpus", where)
        gain = row.get("score")
        if isinstance(gain, bool) or not isinstance(gain, int):
            raise UsageError(f"{where}: 'score' is not a whole number.")
        if query not in builder.query_texts:
            unasked.add(query)
        elif page not in page_of:
            builder.report(ProblemKind.UNKNOWN_ID, where, f"page {page} is not in the corpus")
        elif gain > 0:
            gains = builder.relevance.setdefault(query, {})
            gains[page_of[page]] = max(gain, gains.get(page_of[page], 0))
    for query in sorted(unasked) if builder.language is None else ():
        builder.report(ProblemKind.UNKNOWN_ID, query, "is not among the queries")


def _add_pairs(
    builder: DatasetBuilder, files: Mapping[Path, str], image_of: Callable[..., Path]
) -> None:
    number_of: dict[str, str] = {}
    languages = set()
    for where, row in _rows(files, builder.split):
        name = row.get("image_filename")
        page = image_of(row, where)
        image = builder.add_image(name if isinstance(name, str) and name else page.name, page)
        if row.get("query") is None:  # a page that no query asks for
            continue
        languages.add(row.get("language"))
        if builder.language is not None and row.get("language") != builder.language:
            continue
        words = str(row["query"])
        query = number_of.setdefault(words, str(len(number_of)))
        if query not in builder.query_texts:
            _add_query(builder, query, row, where)
        if query in builder.query_texts:
            builder.relevance.setdefault(query, {})[image] = 1
    _require_language(builder.language, languages)


def _add_query(builder: DatasetBuilder, query: str, row: dict[str, Any], where: str) -> None:
    words = row.get("query")
    if words is not None and not isinstance(words, str):
        raise UsageError(f"{where}: 'query' is not a string.")
    if query in builder.query_texts:
        builder.report(ProblemKind.DUPLICATE_ID, where, f"query {query} again: left out")
        return
    cleaned = builder.cleaned(words, f"query {query}", where)
    if cleaned is not None:
        builder.query_texts[query] = cleaned


def _require_language(language: str | None, there_are: set[Any]) -> None:
    if language is not None and language not in there_are:
        known = ", ".join(sorted(map(str, there_are - {None}))) or "none is named"
        raise UsageError(f"No query is in the language '{language}'. There are: {known}.")


def _files(path: Path, part: str) -> dict[Path, str]:
    """Find the files of a part, each with its split."""
    found = [
        file
        for ending in ("parquet", "jsonl")
        for pattern in (f"{part}/*.{ending}", f"{part}.{ending}", f"{part}-*.{ending}")
        for file in sorted(path.glob(pattern))
    ]
    return {file: _split_of(file, part) for file in found}


def _split_of(file: Path, part: str = "") -> str:
    """Return the split in a file's name; `test` where there is none."""
    stem = re.sub(r"-\d+-of-\d+$", "", file.stem)
    return "test" if stem in {part, ""} else stem.removeprefix(f"{part}-") or "test"


def _choose(files: Mapping[Path, str], split: str | None, path: Path) -> str | None:
    sizes: dict[str, int] = {}
    for name in files.values():
        sizes[name] = sizes.get(name, 0) + 1
    return choose_split(sizes, split, path)


def _rows(files: Mapping[Path, str], split: str | None) -> Iterator[_Row]:
    """Yield the rows of a split; of all files where a part has no file of it."""
    chosen = [file for file, name in files.items() if in_split(name, split)]
    for file in chosen or (files if split != ALL_SPLITS else ()):
        read: Callable[[Path], Iterator[_Row]] = (
            read_json_lines if file.suffix == ".jsonl" else read_parquet
        )
        yield from read(file)


def _id(row: dict[str, Any], what: str, where: str) -> str:
    found = row.get(f"{what}-id", row.get(f"{what}_id"))
    if isinstance(found, bool) or not isinstance(found, str | int) or found == "":
        raise UsageError(f"{where}: expected '{what}-id'.")
    return str(found)


def _image(row: dict[str, Any], where: str, *, folder: Path, unpacked: Path | None) -> Path:
    name = image_name(row.get("image"), unpacked, where)
    if not name:
        raise UsageError(f"{where}: expected 'image', a file's name or its content.")
    return folder / name

"""BEIR (Thakur et al. 2021): `corpus.jsonl`, `queries.jsonl` and `qrels/SPLIT.tsv`, text only."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.datasets.annotations import (
    choose_split,
    numbered_lines,
    only_language,
    read_json_lines,
    read_text,
)
from benchmarks.datasets.base import ProblemKind, RetrievalDataset, safe_id
from benchmarks.datasets.builder import DatasetBuilder, is_file
from retrieval.errors import NotFoundError, UsageError

_FETCH = (
    "The BEIR datasets are listed at https://github.com/beir-cellar/beir, one ZIP each; unpack "
    "one and name its folder, which holds corpus.jsonl, queries.jsonl and qrels/test.tsv."
)
_Judgment = tuple[str, str, str, int]
"""Position, query, document, gain."""


def load_beir(
    path: Path, *, split: str | None = None, language: str | None = None
) -> RetrievalDataset:
    """Load a BEIR folder; the splits are the files in `qrels/` (default: test).

    A document is its title and its text. Only queries with judgements in the split are queries.
    Gains of 0 and below mean judged and not relevant, which our metrics treat like not judged; they
    are dropped.

    Raises:
        NotFoundError: A file is missing.
        UsageError: Malformed line, or unknown split or language.
    """
    only_language(language, None, path)
    for part in ("corpus.jsonl", "queries.jsonl"):
        if not is_file(path / part):
            raise NotFoundError(f"{path / part} does not exist. {_FETCH}")
    files = {file.stem: file for file in sorted(path.glob("qrels/*.tsv"))}
    if not files:
        raise NotFoundError(f"{path / 'qrels'} holds no *.tsv. {_FETCH}")
    split = choose_split({name: _lines(file) for name, file in files.items()}, split, path)
    judged = [files[split]] if split in files else list(files.values())

    builder = DatasetBuilder(path.resolve().name, split)
    for where, row in read_json_lines(path / "corpus.jsonl"):
        words = f"{_field(row, 'title', where, path)} {_field(row, 'text', where, path)}"
        builder.add_text(_id(row, where, path), words, where)
    queries: dict[str, tuple[str, str]] = {}
    for where, row in read_json_lines(path / "queries.jsonl"):
        query = _id(row, where, path)
        if query in queries:
            builder.report(ProblemKind.DUPLICATE_ID, where, f"query {query} again: left out")
        else:
            queries[query] = (_field(row, "text", where, path), where)
    _add_judgments(builder, [row for file in judged for row in _read_qrels(file)], queries)
    if not builder.relevance:
        raise UsageError(f"{path}: not one query of split '{split}' has a relevant document.")
    return builder.build()


def _read_qrels(file: Path) -> Iterator[_Judgment]:
    for number, line in numbered_lines(read_text(file)):
        judgment = _parse_judgment(line, file, number)
        if judgment:
            yield f"{file.name}:{number}", *judgment


def _add_judgments(
    builder: DatasetBuilder, judgments: list[_Judgment], queries: dict[str, tuple[str, str]]
) -> None:
    for query in dict.fromkeys(query for _, query, _, _ in judgments):
        words, where = queries.get(query, (None, ""))
        if words is None:
            continue
        cleaned = builder.cleaned(words, f"query {query}", where)
        if cleaned is not None:
            builder.query_texts[query] = cleaned
    for where, query, item, gain in judgments:
        if query not in queries:
            builder.report(ProblemKind.UNKNOWN_ID, where, f"query {query} is not in queries.jsonl")
        elif query in builder.query_texts and gain > 0:
            _add_gain(builder, query, item, gain, where)
    for query in [query for query in builder.query_texts if query not in builder.relevance]:
        del builder.query_texts[query]
        builder.report(ProblemKind.QUERY_WITHOUT_ANSWER, queries[query][1], f"{query}: left out")


def _add_gain(builder: DatasetBuilder, query: str, item: str, gain: int, where: str) -> None:
    if item not in builder.texts:
        builder.report(
            ProblemKind.UNKNOWN_ID, where, f"document {item} is not in corpus.jsonl, or has no text"
        )
        return
    gains = builder.relevance.setdefault(query, {})
    if item in gains:
        builder.report(
            ProblemKind.DUPLICATE_ID, where, f"{query} and {item} again: the higher gain counts"
        )
    gains[item] = max(gain, gains.get(item, 0))


def _parse_judgment(line: str, file: Path, number: int) -> tuple[str, str, int] | None:
    """Parse query, document and gain; None for the header, which some collections lack."""
    fields = [field.strip() for field in line.split("\t")]
    if len(fields) == 3 and fields[0] and fields[1]:
        try:
            return safe_id(fields[0]), safe_id(fields[1]), int(fields[2])
        except ValueError:
            if number == 1:
                return None
    raise UsageError(
        f"{file}:{number}: expected query id, document id and a whole number, split by tabs."
    )


def _lines(file: Path) -> int:
    return sum(1 for _ in numbered_lines(read_text(file))) - 1


def _id(row: dict[str, Any], where: str, path: Path) -> str:
    identifier = row.get("_id")
    if not isinstance(identifier, str | int) or isinstance(identifier, bool) or identifier == "":
        raise UsageError(f"{path / where}: expected an object with '_id' and 'text'.")
    return safe_id(str(identifier))


def _field(row: dict[str, Any], name: str, where: str, path: Path) -> str:
    words = row.get(name) or ""
    if not isinstance(words, str):
        raise UsageError(f"{path / where}: '{name}' is not a string.")
    return words

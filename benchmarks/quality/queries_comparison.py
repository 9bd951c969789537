"""Compare results of `mmsearch bench queries`, kind by kind of queries."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality.comparison import Change, Changes, ComparisonRow, split_changes
from benchmarks.quality.queries import ALL, AbsentFigures, FoundPhoto, QueryFigures
from benchmarks.quality.query_words import Kind
from benchmarks.quality.significance import paired_test_of_means
from retrieval.errors import NotFoundError, UsageError

METRICS: dict[str, Callable[[QueryFigures], float]] = {
    "precision@10": lambda query: query.precision_at_10,
    "map": lambda query: query.ap,
    "ndcg": lambda query: query.ndcg,
    "shown_f1": lambda query: query.shown_f1,
}
"""Figures of queries that have right photos."""

NOTHING_SHOWN = "nothing_shown"
"""Figure of absent queries: the share for which no photo is shown."""

_TYPES: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("right", "unsure", "shown"), int),
    **dict.fromkeys(
        ("precision_at_10", "ap", "ndcg", "shown_recall", "shown_f1", "best_f1"), float
    ),
}


@dataclass(frozen=True)
class QueriesRecord:
    """The queries of one run. label: encoder and reranker. name: of the reranker."""

    label: str
    name: str
    queries: tuple[QueryFigures, ...]
    absent: tuple[AbsentFigures, ...]


def is_queries_result(file: Path) -> bool:
    """Return whether a file is a result of `bench queries`; raises NotFoundError, UsageError."""
    body = _read(file)
    return isinstance(body, dict) and "runs" in body


def read_queries_records(file: Path) -> list[QueriesRecord]:
    """Read the runs of a file of `bench queries --json-file`; raises NotFoundError, UsageError."""
    body = _read(file)
    try:
        return [
            QueriesRecord(
                f"{body['encoder']}"
                + (f", rerank {run['reranker']}" * (run["reranker"] != "none")),
                str(run["reranker"]),
                tuple(map(_query, run["queries"])),
                tuple(
                    AbsentFigures(str(each["text"]), int(each["shown"]))
                    for each in run.get("absent", ())
                ),
            )
            for run in body["runs"]
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(
            f"{file} is not a result of `mmsearch bench queries --json-file` ({error!r})."
        ) from error


def paired_runs(files: Sequence[Sequence[QueriesRecord]]) -> list[list[QueriesRecord]]:
    """Group the runs of several results by the rerankers of the first one.

    Raises UsageError where no reranker is common.
    """
    groups = [
        [base, *(run for file in files[1:] for run in file if run.name == base.name)]
        for base in files[0]
    ]
    groups = [group for group in groups if len(group) > 1]
    if not groups:
        raise UsageError("The results have no reranker in common with the first one.")
    return groups


def compare_queries(
    runs: Sequence[QueriesRecord],
    metrics: Sequence[str] = (*METRICS, NOTHING_SHOWN),
    *,
    seed: int = 0,
) -> list[ComparisonRow]:
    """Compare runs with the first one, for each kind of queries and metric.

    Absent queries have no right photo, so of them only `nothing_shown` is compared.

    Raises:
        UsageError: An unknown metric, or runs on different queries.
    """
    for metric in metrics:
        if metric not in METRICS and metric != NOTHING_SHOWN:
            raise UsageError(
                f"'{metric}' is no metric of queries. There are: "
                f"{', '.join((*METRICS, NOTHING_SHOWN))}."
            )
    rows = []
    for run in runs[1:]:
        _require_same(runs[0], run)
    for kind, values in _values_by_kind(runs[0]):
        for metric in (name for name in metrics if name in values):
            base = values[metric]
            rows.append(ComparisonRow(runs[0].label, kind, metric, float(base.mean())))
            for run in runs[1:]:
                other = dict(_values_by_kind(run))[kind][metric]
                test = paired_test_of_means(other, base, seed=seed)
                rows.append(ComparisonRow(run.label, kind, metric, float(other.mean()), *test))
    return rows


def find_query_changes(runs: Sequence[QueriesRecord], *, rank: int) -> list[Changes]:
    """Find the failures of the first run that each other mends, and those that it adds, by kind."""
    found = []
    for run in runs[1:]:
        _require_same(runs[0], run)
        by_kind: dict[str, list[Change]] = {}
        for before, after in zip(runs[0].queries, run.queries, strict=True):
            by_kind.setdefault(before.kind, []).append(
                Change(
                    before.text,
                    _rank_of(before),
                    _rank_of(after),
                    tuple(photo.path for photo in before.found),
                    tuple(photo.path for photo in after.found),
                )
            )
        found += [split_changes(run.label, kind, each, rank) for kind, each in by_kind.items()]
    return found


def _values_by_kind(
    run: QueriesRecord,
) -> Iterator[tuple[str, Mapping[str, NDArray[np.float64]]]]:
    by_kind: dict[str, list[QueryFigures]] = {}
    for query in run.queries:
        by_kind.setdefault(query.kind, []).append(query)
    if len(by_kind) > 1:
        by_kind[ALL] = list(run.queries)
    for kind, queries in by_kind.items():
        yield (
            kind,
            {
                name: np.array([value(query) for query in queries])
                for name, value in METRICS.items()
            },
        )
    if run.absent:
        nothing = np.array([float(query.shown == 0) for query in run.absent])
        yield Kind.ABSENT.value, {NOTHING_SHOWN: nothing}


def _require_same(first: QueriesRecord, other: QueriesRecord) -> None:
    asked = [
        ([(q.kind, q.text, q.right) for q in run.queries], [q.text for q in run.absent])
        for run in (first, other)
    ]
    if asked[0] != asked[1]:
        raise UsageError(
            f"The results answer different queries ({len(first.queries):,} and "
            f"{len(other.queries):,}, absent {len(first.absent):,} and {len(other.absent):,}). "
            "Compare results on the same photos, measured by the same version of mmsearch."
        )


def _rank_of(query: QueryFigures) -> float:
    return np.inf if query.first_rank is None else query.first_rank


def _query(stored: Mapping[str, Any]) -> QueryFigures:
    if "first_rank" not in stored:
        raise ValueError("it was written by an earlier version: measure again")
    rank = stored["first_rank"]
    return QueryFigures(
        text=str(stored["text"]),
        kind=str(stored["kind"]),
        **{name: type_(stored[name]) for name, type_ in _TYPES.items()},
        shown_precision=stored["shown_precision"],
        first_rank=None if rank is None else int(rank),
        found=tuple(FoundPhoto(str(each["path"]), int(each["gain"])) for each in stored["found"]),
        wanted=tuple(map(str, stored["wanted"])),
    )


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NotFoundError(f"There is no result at {file}.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{file} is not a result of `mmsearch bench` ({error}).") from error

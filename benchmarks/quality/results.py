"""Results as JSON files: all metrics, and the ranks that they are computed from."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.metrics import Judgments, evaluate, rsum
from benchmarks.quality.retrieval import DirectionResult, QualityResult
from benchmarks.quality.significance import confidence_interval
from retrieval.errors import NotFoundError, UsageError

FORMAT = 1
DEFAULT_METRICS = (
    "hit_recall@1",
    "hit_recall@5",
    "hit_recall@10",
    "recall@10",
    "median_rank",
    "mean_rank",
    "map",
    "map@10",
    "map@r",
    "r_precision",
    "mrr",
    "ndcg@10",
)


@dataclass(frozen=True)
class Figure:
    """Value of a metric with its bootstrap 95% confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False, kw_only=True)
class DirectionRecord(DirectionResult):
    """Result of one direction with its metrics."""

    metrics: dict[str, Figure]


@dataclass(frozen=True, eq=False)
class QualityRecord:
    """A result with its provenance: dataset, space, setup, environment, reranker.

    reranker: name, identity, match_weight and depth; empty without a reranker.
    """

    dataset: dict[str, Any]
    space: dict[str, Any]
    setup: dict[str, Any]
    environment: dict[str, Any]
    directions: dict[str, DirectionRecord]
    reranker: dict[str, Any] = field(default_factory=dict)

    @property
    def rsum(self) -> float | None:
        """Sum of hit recall at 1, 5, 10 of both directions in percent, if both were measured."""
        if not {"t2i", "i2t"} <= self.directions.keys():
            return None
        return rsum(self.directions["t2i"].judgments, self.directions["i2t"].judgments)

    @property
    def label(self) -> str:
        """Short name for tables: encoder, index, reranker, language."""
        setup, language = self.setup, self.dataset["language"]
        index = next(iter(self.directions.values())).index
        refined = " refined" if setup["refine"] and index != "flat" else ""
        name = f"{self.space['encoder']}, {index}{refined}"
        if any(direction.reranked for direction in self.directions.values()):
            name += f", rerank {self.reranker['name']}@{self.reranker['depth']}"
        return name + (f", {language}" if language else "")


def record_of(result: QualityResult, metrics: tuple[str, ...] = DEFAULT_METRICS) -> QualityRecord:
    """Compute the metrics of a result. Raises UsageError for an unknown metric."""
    directions = {}
    for direction, measured in result.directions.items():
        values = evaluate(measured.judgments, metrics)
        rounded = {name: round(ms, 3) for name, ms in measured.milliseconds.items()}
        figures = {
            name: Figure(
                values[name],
                *confidence_interval(
                    measured.judgments, name, groups=measured.groups, seed=result.setup.seed
                ),
            )
            for name in metrics
        }
        directions[direction] = DirectionRecord(
            **vars(measured) | {"milliseconds": rounded, "metrics": figures}
        )
    return QualityRecord(
        dataset=result.dataset,
        space={"id": result.space.id, **asdict(result.space)},
        setup={**asdict(result.setup), "directions": list(result.setup.directions)},
        environment=result.environment,
        directions=directions,
        reranker=asdict(result.reranker) if result.reranker else {},
    )


def write_records(records: Sequence[QualityRecord], file: Path) -> None:
    """Write the results of one or several languages as JSON; `read_records` is the inverse."""
    file.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(records_body(records), ensure_ascii=False, allow_nan=False)
    file.write_text(text, encoding="utf-8")


def records_body(records: Sequence[QualityRecord]) -> dict[str, Any]:
    """Convert results to one JSON object: the first one, and `languages` if there are several."""
    bodies = {str(record.dataset["language"]): record_body(record) for record in records}
    body = record_body(records[0])
    return body if len(records) == 1 else {**body, "languages": bodies}


def record_body(record: QualityRecord) -> dict[str, Any]:
    """Convert a result to a JSON object; infinity becomes null."""
    return {
        "format": FORMAT,
        "dataset": record.dataset,
        "space": record.space,
        "setup": record.setup,
        "environment": record.environment,
        "reranker": record.reranker,
        "rsum": record.rsum,
        "directions": {
            direction: {
                "items": measured.items,
                "queries": len(measured.judgments),
                "index": measured.index,
                "reranked": measured.reranked,
                "milliseconds": measured.milliseconds,
                "truncated_texts": measured.truncated_texts,
                "metrics": {
                    name: {key: _finite(value) for key, value in asdict(figure).items()}
                    for name, figure in measured.metrics.items()
                },
                "judgments": _plain_judgments(measured.judgments),
                "groups": list(measured.groups),
                "found": list(measured.found),
            }
            for direction, measured in record.directions.items()
        },
    }


_AS_THEY_ARE = ("items", "index", "milliseconds", "truncated_texts")


def read_records(file: Path) -> list[QualityRecord]:
    """Read the results of a file, one a language.

    Raises NotFoundError, UsageError for a file that holds no result.
    """
    try:
        body = json.loads(file.read_text(encoding="utf-8"))
        if body["format"] != FORMAT:
            raise UsageError(f"{file} has format {body['format']}; this version reads {FORMAT}.")
        return [_record(each) for each in body.get("languages", {"": body}).values()]
    except FileNotFoundError:
        raise NotFoundError(f"There is no result at {file}.") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{file} is not a result of `mmsearch bench retrieval --json` ({error})."
        ) from error


def _record(body: Mapping[str, Any]) -> QualityRecord:
    return QualityRecord(
        **{name: body[name] for name in ("dataset", "space", "setup", "environment")},
        directions={
            direction: DirectionRecord(
                direction=direction,
                **{name: stored[name] for name in _AS_THEY_ARE},
                metrics={
                    name: Figure(**{key: _number(value) for key, value in figure.items()})
                    for name, figure in stored["metrics"].items()
                },
                judgments=_judgments(stored["judgments"]),
                groups=tuple(stored["groups"]),
                reranked=stored.get("reranked", 0),
                found=tuple(map(tuple, stored.get("found", ()))),
            )
            for direction, stored in body["directions"].items()
        },
        reranker=body.get("reranker", {}),
    )


def _plain_judgments(judgments: Judgments) -> dict[str, Any]:
    return {
        "query_ids": list(judgments.query_ids),
        "offsets": judgments.offsets.tolist(),
        "ranks": [_finite(rank) for rank in judgments.ranks.tolist()],
        "gains": judgments.gains.tolist(),
        "ranked": judgments.ranked.tolist(),
        "without_relevant": list(judgments.without_relevant),
    }


def _judgments(plain: Mapping[str, Any]) -> Judgments:
    return Judgments(
        query_ids=tuple(plain["query_ids"]),
        offsets=np.array(plain["offsets"], dtype=np.int64),
        ranks=np.array([_number(rank) for rank in plain["ranks"]], dtype=np.float64),
        gains=np.array(plain["gains"], dtype=np.float64),
        ranked=np.array(plain["ranked"], dtype=np.int64),
        without_relevant=tuple(plain["without_relevant"]),
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _number(value: float | None) -> float:
    return math.inf if value is None else value

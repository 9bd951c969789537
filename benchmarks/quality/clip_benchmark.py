"""Results in the form of CLIP_benchmark's tables (Cherti et al. 2022), to stand in them as rows."""

import csv
import io
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

from benchmarks.metrics import parse_metric
from benchmarks.quality.results import QualityRecord, published_name
from retrieval.errors import UsageError
from retrieval.files import write_atomically

_DIRECTIONS = {"t2i": "image_retrieval_recall", "i2t": "text_retrieval_recall"}
_K = 5
"""Of the recall in the published tables."""


def check_output(file: Path, directions: Iterable[str]) -> None:
    """Raise UsageError for a file of another kind, and where a direction is not measured."""
    if file.suffix.lower() not in {".csv", ".json"}:
        raise UsageError(f"--clip-benchmark writes .csv or .json, not {file.name}.")
    if missing := _DIRECTIONS.keys() - set(directions):
        raise UsageError(
            f"--clip-benchmark needs both directions: add {' and '.join(sorted(missing))} to "
            "--directions."
        )


def result_body(record: QualityRecord) -> dict[str, Any]:
    """Convert a result to what `clip_benchmark eval` writes as JSON.

    Its recall at k is 1 for a query with any relevant item among the first k, which is
    `hit_recall@k` here: at 5, as in the published tables, and at each k among the result's metrics.
    The model is that of open_clip with its `pretrained`; of another encoder its name, with the
    checksum of its weights, and of a folder only the folder's name. An index other than exact
    search, and a reranker, are named with the model.
    """
    model, pretrained = _model(record)
    if record.method != "flat":
        reranker = record.reranker | {"name": published_name(record.reranker.get("name", ""))}
        model = f"{model}, {replace(record, reranker=reranker).method}"
    measured = {name for each in record.directions.values() for name in each.metrics}
    found = (re.fullmatch(r"hit_recall@(\d+)", name) for name in measured)
    recalls = {
        k: parse_metric(f"hit_recall@{k}")
        for k in sorted({_K, *(int(match[1]) for match in found if match)})
    }
    return {
        "dataset": record.dataset["name"],
        "model": model,
        "pretrained": pretrained,
        "task": "zeroshot_retrieval",
        "metrics": {
            f"{name}@{k}": recall.of(record.directions[direction].judgments)
            for k, recall in recalls.items()
            for direction, name in _DIRECTIONS.items()
        },
        "language": record.dataset["language"],
    }


def write_rows(records: Sequence[QualityRecord], file: Path) -> None:
    """Write results, one a language, as `clip_benchmark build` (.csv) or `eval` (.json) does.

    In JSON, several have a file each, with the language in its name. Raises as `check_output`.
    """
    for record in records:
        check_output(file, record.directions)
    bodies = [result_body(record) for record in records]
    if file.suffix.lower() == ".json":
        for body in bodies:
            own = f"{file.stem}.{body['language']}{file.suffix}" if len(bodies) > 1 else file.name
            _write(file.with_name(own), json.dumps(body, ensure_ascii=False))
        return
    rows = [
        {
            **{name: value for name, value in body.items() if name != "metrics"},
            **body["metrics"],
            "model_fullname": f"{body['model']} {body['pretrained']}",
        }
        for body in bodies
    ]
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    _write(file, table.getvalue())


def _model(record: QualityRecord) -> tuple[str, str]:
    encoder = str(record.space["encoder"])
    kind, _, which = encoder.partition(":")
    if kind == "open_clip":
        model, _, pretrained = which.partition("/")
        return model, PurePath(pretrained).name
    return published_name(encoder), str(record.space["weights"])


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, text.encode("utf-8"))

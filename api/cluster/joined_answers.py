"""Answers of all shards, joined into the answer of one library."""

from collections.abc import Callable, Sequence
from typing import Any

Answer = dict[str, Any]

_MOST_SAMPLES = 5


def _sum(answers: Sequence[Answer], name: str) -> Any:
    """Add up numbers, or the numbers of a mapping by their keys."""
    values = [answer[name] for answer in answers]
    if isinstance(values[0], dict):
        keys = dict.fromkeys(key for value in values for key in value)
        return {key: sum(value.get(key, 0) for value in values) for key in keys}
    return sum(values)


def _union(answers: Sequence[Answer], name: str) -> list[Any]:
    return sorted({value for answer in answers for value in answer[name]})


def _concatenated(answers: Sequence[Answer], name: str) -> list[Any]:
    return [value for answer in answers for value in answer[name]]


def _joined(
    answers: Sequence[Answer], sums: Sequence[str] = (), unions: Sequence[str] = ()
) -> Answer:
    """Join answers: the first one, with sums and unions in the place of its own values."""
    joined = dict(answers[0])
    joined |= {name: _sum(answers, name) for name in sums}
    joined |= {name: _union(answers, name) for name in unions}
    return joined


def _stats(answers: Sequence[Answer]) -> Answer:
    counts = [name for name in answers[0] if name.startswith("files_")]
    joined = _joined(
        answers,
        ["images", "texts", "sounds", "items_hidden", "kinds", *counts],
        ["sources", "missing_sources", "cameras", "warnings"],
    )
    times = [answer["taken_between"] for answer in answers if answer["taken_between"]]
    if times:
        joined["taken_between"] = [min(t[0] for t in times), max(t[1] for t in times)]
    columns: dict[str, list[Any]] = {}
    for answer in answers:
        for name, samples in answer["columns"].items():
            known = columns.setdefault(name, [])
            known += [value for value in samples if value not in known]
    joined["columns"] = {name: columns[name][:_MOST_SAMPLES] for name in sorted(columns)}
    joined["indices"] = [
        _joined(indices, ["rows", "rows_covered"])
        for indices in zip(*(answer["indices"] for answer in answers), strict=True)
    ]
    return joined


def _storage(answers: Sequence[Answer]) -> Answer:
    joined = _joined(answers, ["bytes", "token_cache_limit"], ["warnings"])
    joined["spaces"] = [
        _joined(spaces, ["images", "texts", "sounds", "files_behind"])
        for spaces in zip(*(answer["spaces"] for answer in answers), strict=True)
    ]
    return joined


def _changes(answers: Sequence[Answer]) -> Answer:
    joined = _joined(answers, ["revision", "images", "texts", "sounds", "jobs"])
    joined["last_item"] = max(answer["last_item"] for answer in answers)
    return joined


def _notes(answers: Sequence[Answer]) -> Answer:
    joined = _joined(answers, ["files_failed", "files_noted", "reasons"])
    for name in ("failures", "notes"):
        joined[name] = _concatenated(answers, name)
    return joined


def _map(answers: Sequence[Answer]) -> Answer:
    """Take the points of all: those of one cell stay apart where several shards have some."""
    points = sorted(
        _concatenated(answers, "points"), key=lambda point: (-point["count"], point["item_id"])
    )
    return {"total": _sum(answers, "total"), "points": points}


def _collections(answers: Sequence[Answer]) -> Answer:
    by_id: dict[int, list[Answer]] = {}
    for one in _concatenated(answers, "collections"):
        by_id.setdefault(one["id"], []).append(one)
    return {"collections": [_joined(same, ["items"]) for same in by_id.values()]}


JOINED: dict[str, Callable[[Sequence[Answer]], Answer]] = {
    "/v1/stats": _stats,
    "/v1/storage": _storage,
    "/v1/changes": _changes,
    "/v1/notes": _notes,
    "/v1/map": _map,
    "/v1/collections": _collections,
    "/v1/searches": lambda answers: answers[0],
}
"""How the answers of a path are joined."""

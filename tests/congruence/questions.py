"""Questions to a rich library, with and without filters, drawn from a seed; how answers compare."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from retrieval.filters import Filter

TOLERANCE = 1e-3
"""Of scores, and so of the order of hits."""

_WORDS = (
    *("a red boat", "dog in the snow", "the sea near Rome", "whales", "IMG 003", "Berlin"),
    *("paragraph 7", "second words", "FUJIFILM", "Paris beach", "row of a table", "bo", "x"),
)


@dataclass(frozen=True)
class Question:
    """What is asked: arguments of `Library.search`."""

    text: str | None
    like: tuple[int, ...]
    where: Filter | None
    mode: str
    modality: str
    k: int

    def __str__(self) -> str:
        where = None if self.where is None else self.where.model_dump_json(exclude_none=True)
        return f"{self.text!r} like {self.like}, {self.mode}, {self.modality}, {self.k}: {where}"


Hits = dict[tuple[str, str, str], tuple[float, float | None]]
"""Similarity and words by path, modality and part, in their order."""


def questions(library: Any, seed: int, count: int) -> Iterator[Question]:
    """Yield questions to a library, half of them with a filter.

    Items are named by their ids in the library: `asked` finds them in another one.
    """
    chance = random.Random(seed)
    items = [hit.item for hit in library.search("x", k=500, rerank="none")]
    [folder] = library_sources(library)
    for number in range(count):
        text = chance.choice(_WORDS) if chance.random() < 0.8 else None
        like = () if text and chance.random() < 0.9 else (chance.choice(items).id,)
        mode = "auto" if text is None else chance.choice(["auto", "vector", "text", "hybrid"])
        mode = "vector" if like else mode
        where = _filter(chance, folder) if number % 2 else None
        modality = chance.choice(["image", "text"])
        yield Question(text, like, where, mode, modality, chance.choice([1, 5, 20, 200]))


def library_sources(library: Any) -> list[str]:
    with library.catalog.snapshot() as snapshot:
        return list(snapshot.sources())


def _filter(chance: random.Random, folder: str, depth: int = 0) -> Filter:
    number = chance.randrange(6)
    simple: list[dict[str, Any]] = [
        {"source": f"{folder}/{chance.choice(['dogs', '2018', 'camera', 'table0.jsonl'])}"},
        {"path": chance.choice(["*.jpg", "**/dogs/*", "IMG_?_00[0-4].jpg", "2019/**", "*odd*"])},
        {"kind": chance.choice([("image",), ("text", "table"), ("document",)])},
        {"taken_at": {"since": f"202{number}-01-01"}},
        {"taken_at": {"before": f"202{number}-06-01T12:00:00Z"}},
        {"taken_at": {"recorded": True, "since": "2020"}},
        {"width": {"min": 60 + 10 * (number % 4)}, "height": {"max": 45}},
        {"camera": chance.choice(["fuji", "canon", "nikon"])},
        {"camera_name": chance.choice(["Canon EOS", "canon eos"])},
        {"place": chance.choice(["Berlin", "italy", "Mitte", "Paris"])},
        {"gps": {"south": 40, "north": 45, "west": 10, "east": 14}},
        {"gps": {"south": -90, "north": 90, "west": 20, "east": 14}},
        {"columns": {"stars": {"min": number % 4}}},
        {"columns": {"stars": {"equals": number}}},
        {"columns": {"caption": {"contains": "BOAT"}}},
        {"columns": {"tags": {"equals": chance.choice(["x", "sea;Boat", "sea;boat"])}}},
        {"columns": {"ok": {"equals": True}}},
        {"columns": {"list": {"equals": chance.choice(["a", 1, "1"])}}},
        {"columns": {"n": {"max": 2}}},
        {"rating": {"min": 1}},
        {"keyword": "sea"},
        {"collection": "holidays"},
        {"hidden": chance.choice([True, False, "any"])},
        {"columns": {"it's \" a \\ name": {"equals": "'; DROP TABLE files; --"}}},
    ]
    if depth < 2 and chance.random() < 0.4:
        parts = [_filter(chance, folder, depth + 1) for _ in range(2)]
        kind = chance.choice(["and", "or", "not"])
        return Filter.model_validate({kind: parts[0] if kind == "not" else parts})
    return Filter.model_validate(chance.choice(simple))


def asked(library: Any, question: Question, original: Any) -> Hits:
    """Ask a library the question about another one; returns its hits."""
    answer = library.search(
        question.text,
        like=[same_item(library, original, item_id) for item_id in question.like],
        k=question.k,
        where=question.where,
        mode=question.mode,
        modality=question.modality,
        rerank="none",
    )
    found = {}
    for hit in answer:
        key = (hit.path, str(hit.item.modality), hit.item.part)
        assert key not in found, f"{key} is there twice"
        found[key] = (hit.similarity, hit.words)
    return found


def same_item(library: Any, original: Any, item_id: int) -> int:
    """Find the item of a library that is one of another one there."""
    if library is original:
        return item_id
    with original.catalog.snapshot() as snapshot:
        item = snapshot.item(item_id)
        space_id = original.space().id
    with library.catalog.snapshot() as snapshot:
        for other in snapshot.items(space_id, where=Filter(hidden="any"), limit=10_000):
            if (other.path, other.modality, other.part) == (item.path, item.modality, item.part):
                return int(other.id)
    raise AssertionError(f"{item} is not there")


def differences(expected: Hits, found: Hits, k: int) -> list[str]:
    """Say how the hits of two libraries differ, but for the order of equal ones."""
    if len(expected) != len(found):
        return [f"{len(found)} hits instead of {len(expected)}: {expected.keys() ^ found.keys()}"]
    told = []
    for place, ((key, scores), (other, others)) in enumerate(
        zip(expected.items(), found.items(), strict=True)
    ):
        if not _alike(scores, others):
            told.append(f"place {place}: {other} {others} instead of {key} {scores}")
        if key in found and not _alike(scores, found[key]):
            told.append(f"{key}: {found[key]} instead of {scores}")
    if len(expected) < k and expected.keys() != found.keys():
        told.append(f"{expected.keys() ^ found.keys()} are not in both")
    return told


def _alike(scores: tuple[float, float | None], others: tuple[float, float | None]) -> bool:
    if (scores[1] is None) != (others[1] is None):
        return False
    return all(
        abs(one - other) <= TOLERANCE * max(1.0, abs(one))
        for one, other in zip(scores, others, strict=True)
        if one is not None and other is not None
    )

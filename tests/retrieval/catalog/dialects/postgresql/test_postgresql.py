"""A library answers alike whichever database holds its catalog."""

import json
import os
import random
import shutil
from dataclasses import asdict

import numpy as np
import pytest
from PIL import Image

from indexer.pipeline import index_sources, remove_paths
from retrieval.filters import Filter
from retrieval.library import create_library, open_library

pytestmark = pytest.mark.slow

OLD = 1_700_000_000
"""A modification time, seconds since 1970, before any test."""
NOUNS = [
    "dog",
    "dogs",
    "beach",
    "Strand",
    "海滩",
    "mountain",
    "O'Neil",
    "beach2019",
    "café",
    "雪山",
]
FILTERS = [
    {"path": "*.png"},
    {"path": "**/b/*"},
    {"path": "[!0-4]*"},
    {"kind": ["image", "table"]},
    {"width": {"min": 30.5}},
    {"height": {"max": 40}},
    {"columns": {"stars": {"min": 2}}},
    {"columns": {"stars": {"equals": "3"}}},
    {"columns": {"caption": {"contains": "DOG"}}},
    {"columns": {"caption": {"contains": "%"}}},
    {"taken_at": {"since": "2020"}},
    {"taken_at": {"recorded": True}},
    {"none_of": {"path": "**/a/*"}},
    {"any_of": [{"path": "1*"}, {"columns": {"stars": {"equals": 1}}}]},
    {"collection": "best"},
    {"hidden": True},
]


def write_pictures(folder, numbers, draw):
    for number in numbers:
        path = folder / draw.choice("ab") / f"{number} {draw.choice(NOUNS)}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        size = draw.choice([24, 32]), draw.choice([32, 48]), 3
        pixels = np.random.default_rng(number).integers(0, 256, size, dtype=np.uint8)
        Image.fromarray(pixels).save(path)


def write_table(folder, draw):
    """Write captions, and let all files be older than the run that indexes them."""
    rows = [
        {
            "image": str(path.relative_to(folder)),
            "caption": " ".join(draw.choices(NOUNS, k=4)) + draw.choice(["", " 100%"]),
            "stars": draw.choice([1, 2, 3, "3", 2.5]),
        }
        for path in sorted(folder.rglob("*.png"))
    ]
    lines = "\n".join(map(json.dumps, rows))
    (folder / "captions.jsonl").write_text(lines, encoding="utf-8")
    for path in folder.rglob("*.*"):
        if path.stat().st_mtime > OLD + 10**7:
            os.utime(path, (OLD + draw.randrange(10**6),) * 2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder, draw = tmp_path_factory.mktemp("sources"), random.Random(0)
    write_pictures(folder, range(24), draw)
    for name in ("a", "b"):
        words = " ".join(draw.choices(NOUNS, k=300))
        (folder / name / f"{name}.txt").write_text(words, encoding="utf-8")
    write_table(folder, draw)
    return folder


@pytest.fixture(scope="module")
def libraries(folder, new_schema, tmp_path_factory, tiny_encoder):
    """Two libraries of the same folder, each opened again after it was made."""
    made = []
    for catalog in (None, new_schema()):
        path = tmp_path_factory.mktemp("libraries") / "library"
        library = create_library(path, tiny_encoder.space, catalog=catalog)
        index_sources(library, tiny_encoder, [folder])
        library.close()
        library = open_library(path)
        library.collections.create("best")
        library.collections.add("best", range(1, 8))
        library.hide([9, 10])
        made.append(library)
    yield made
    for library in made:
        library.close()


def queries(seed):
    draw = random.Random(seed)
    for number in range(100):
        conditions = [] if number % 3 == 0 else draw.sample(FILTERS, draw.randint(1, 2))
        yield {
            "text": " ".join(draw.choices(NOUNS, k=draw.randint(1, 3))),
            "modality": draw.choice(["image", "text", "any"]),
            "mode": draw.choice(["vector", "text", "hybrid", "auto"]),
            "where": Filter.model_validate({"all_of": conditions}) if conditions else None,
            "sort": draw.choice(["relevance", "relevance", "date", "name"]),
            "group_by_file": draw.random() < 0.2,
            "rerank": "none",
        }


def assert_alike(libraries, seed):
    theirs, ours = libraries
    found = 0
    for query in queries(seed):
        hits = [list(library.search(**query)) for library in libraries]
        items = [[asdict(hit.item) for hit in found] for found in hits]
        assert items[0] == items[1], query
        for left, right in zip(*hits, strict=True):
            for name in ("similarity", "relevance", "words"):
                assert getattr(left, name) == pytest.approx(getattr(right, name), abs=1e-3)
        found += len(hits[0])
    assert found > 100
    for where in [None, *map(Filter.model_validate, FILTERS)]:
        facets = [asdict(library.facets(where=where)) for library in libraries]
        assert facets[0] == facets[1]
    space = theirs.space().id
    for read in (
        lambda s: s.counts(space),
        lambda s: s.columns(),
        lambda s: s.folders(),
        lambda s: s.days(),
        lambda s: s.collections(),
        lambda s: sorted(s.files_below(["/"], space), key=lambda file: file.path),
        lambda s: s.items(space, limit=1000),
        lambda s: s.items_by_name(space, limit=1000),
        lambda s: s.items_by_date(space, limit=1000),
    ):
        seen = []
        for library in (theirs, ours):
            with library.catalog.snapshot() as snapshot:
                seen.append(read(snapshot))
        assert without_times(seen[0]) == without_times(seen[1])


def without_times(value):
    """Leave out when collections were made."""
    if isinstance(value, list) and value and hasattr(value[0], "created_at"):
        return [(one.id, one.name, one.items) for one in value]
    return value


def test_two_hundred_queries_have_the_same_answers(libraries, folder, tiny_encoder):
    assert_alike(libraries, seed=1)
    draw = random.Random(2)
    gone = sorted(folder.rglob("*.png"))[:5]
    write_pictures(folder, range(24, 32), draw)
    for path in gone[:3]:
        path.unlink()
    shutil.move(gone[3], folder / "moved dog.png")
    write_table(folder, draw)
    for library in libraries:
        index_sources(library, tiny_encoder, [])
        remove_paths(library, [gone[4]])
    assert_alike(libraries, seed=2)

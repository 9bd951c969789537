"""Measure what is asked of a large library for the first time: filters, facets, words, searches."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median

import numpy as np
import xxhash
from PIL import Image

from benchmarks.catalog.library_maker import SPACE
from retrieval.encoders.base import Inputs, Pixels, Space, Vectors
from retrieval.filters import Filter
from retrieval.library import Library
from retrieval.media import Modality
from retrieval.search.engine import Engine
from retrieval.search.query import Mode, Query, Reranking, TextPart

NO_RERANKING = Reranking("none")

FILTERS: dict[str, tuple[Filter, ...]] = {
    "camera": tuple(
        Filter(camera=name) for name in ("model 5", "nikon", "canon model 1", "sony model 2")
    ),
    "year": tuple(
        Filter.model_validate(
            {"taken_at": {"since": f"{year}-01-01", "before": f"{year + 1}-01-01"}}
        )
        for year in (2010, 2013, 2016, 2019)
    ),
    "folder pattern": tuple(
        Filter(path=pattern) for pattern in ("2012/**", "**/rome/*.jpg", "201*/home/**", "*/oslo/*")
    ),
    "name pattern": tuple(
        Filter(path=pattern) for pattern in ("*.mp4", "*7.jpg", "IMG_0001*", "IMG_*55.jpg")
    ),
    "kind": tuple(
        Filter.model_validate({"kind": [kind]}) for kind in ("video", "document", "image")
    ),
    "place": tuple(
        Filter.model_validate(
            {"gps": {"south": south, "north": south + 10, "west": -20, "east": 20}}
        )
        for south in (-50, -20, 10, 40)
    ),
    "column": tuple(
        Filter.model_validate({"columns": test})
        for test in (
            {"album": {"equals": "travel"}},
            {"rating": {"min": 5}},
            {"caption": {"contains": "dog"}},
        )
    ),
}
WORDS = ("dog", "red boat", "sunset market", "birthday")


@dataclass(frozen=True)
class Timing:
    """Milliseconds of several different requests of one kind, each asked for the first time.

    cpu_ms: median of the time of the processor, which other programs disturb less. found: mean
    number of items that pass the filter, are counted, or are hits.
    """

    what: str
    median_ms: float
    slowest_ms: float
    cpu_ms: float
    found: float


class RandomEncoder:
    """Encodes texts as random unit vectors, the same for the same text."""

    space: Space = SPACE
    modalities = frozenset(Modality)
    context_length = 77
    input_side = 32

    def preprocess(self, image: Image.Image) -> Pixels:
        """Resize, as encoders do."""
        return np.asarray(image.resize((self.input_side, self.input_side)))

    def encode(self, modality: Modality, inputs: Inputs) -> Vectors:
        """Draw a vector for each input, (n, d) float32."""
        vectors = np.empty((len(inputs), self.space.dimension), np.float32)
        for row, value in enumerate(inputs):
            seed = xxhash.xxh32_intdigest(str(value).encode())
            drawn = np.random.default_rng(seed).standard_normal(self.space.dimension)
            vectors[row] = drawn / np.linalg.norm(drawn)
        return vectors

    def token_count(self, text: str) -> int:
        """Count words."""
        return len(text.split())


class RandomEngine(Engine):
    """An engine whose encoder needs no weights, as what is measured is the rest."""

    @property
    def encoder(self) -> RandomEncoder:
        """Return the random encoder."""
        return RandomEncoder()


def measure(
    library: Library, *, rounds: int = 3, on_step: Callable[[str], None] = lambda _: None
) -> list[Timing]:
    """Time requests of each kind, with the caches as after a commit and a search.

    Args:
        library: made by `make_library`.
        rounds: number of times that all are asked, with new caches; the median of a request counts.
        on_step: called with a line of text before each step.
    """
    times: dict[str, dict[str, list[tuple[float, float]]]] = {}
    totals: dict[str, list[int]] = {}
    for round_ in range(rounds):
        on_step(f"round {round_ + 1} of {rounds}")
        for what, name, (found, *ms) in _requests(library):
            times.setdefault(what, {}).setdefault(name, []).append((ms[0], ms[1]))
            totals.setdefault(what, []).append(found)
    timings = []
    for what, by_name in times.items():
        wall, cpu = (
            [median(asked[clock] for asked in rounds_) for rounds_ in by_name.values()]
            for clock in (0, 1)
        )
        timings.append(
            Timing(what, median(wall), max(wall), median(cpu), float(np.mean(totals[what])))
        )
    return timings


def _requests(library: Library) -> Iterator[tuple[str, str, tuple[int, float, float]]]:
    """Ask each request once: its kind, its name, the number of items found, wall and CPU ms."""
    engine = RandomEngine(library)

    def search(text: str, mode: Mode = Mode.VECTOR, where: Filter | None = None) -> int:
        query = Query((TextPart(text),), mode=mode, where=where)
        return len(engine.search(query, NO_RERANKING).hits)

    def count(where: Filter | None = None) -> int:
        return engine.facets(where=where).total

    search("a first query")
    where = FILTERS["camera"][0]
    yield "first filter after a commit", "camera", _timed(partial(search, "a query", where=where))
    yield "first facets after a commit", "all", _timed(count)
    for name in ("one", "two", "three"):
        yield "search, warm", name, _timed(partial(search, name))
    for what, filters in FILTERS.items():
        for where in filters:
            name = where.model_dump_json(exclude_none=True)
            _, *ms = _timed(partial(search, "a query", where=where))
            counted = _timed(partial(count, where))
            yield f"filter by {what}", name, (counted[0], ms[0], ms[1])
            yield f"facets by {what}", name, counted
    yield "facets of all", "all", _timed(count)
    for words in WORDS:
        yield "words", words, _timed(partial(search, words, Mode.TEXT))


def _timed(call: Callable[[], int]) -> tuple[int, float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    found = call()
    return found, (time.perf_counter() - wall) * 1000, (time.process_time() - cpu) * 1000


def timings_table(items: int, timings: Sequence[Timing]) -> str:
    """Write timings as a Markdown table."""
    lines = [
        f"| {items:,} items | median ms | slowest ms | CPU ms | found (mean) |",
        "| --- | ---: | ---: | ---: | ---: |",
        *(
            f"| {timing.what} | {timing.median_ms:.1f} | {timing.slowest_ms:.1f} | "
            f"{timing.cpu_ms:.1f} | {timing.found:,.0f} |"
            for timing in timings
        ),
    ]
    return "\n".join(lines) + "\n"

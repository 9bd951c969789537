"""Rates of a machine, from the JSON of the benchmarks that users run themselves."""

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib.resources import files
from pathlib import Path
from statistics import median
from typing import Any, Literal

from benchmarks.capacity.encoders import short_name
from benchmarks.vectors.measurement import Point
from benchmarks.vectors.search import MethodResult
from retrieval.errors import UsageError

Resource = Literal["core", "gpu"]

BUNDLED = ("throughput.json", "vectors.json", "catalog.json")
"""JSON of `mmsearch bench throughput`, `vectors --growth` and `catalog`; `measured` says where."""


@dataclass(frozen=True)
class Decoding:
    """Reading a photo: CPU seconds to read, hash and decode it, and bytes of its file."""

    megapixels: float
    core_s: float
    file_bytes: float


@dataclass(frozen=True)
class Encoding:
    """Encoding an image: seconds of one core or one GPU, and where that is from."""

    seconds: float
    resource: Resource
    source: str
    measured: bool = True


@dataclass(frozen=True)
class Filtering:
    """A filter that is asked for the first time: CPU seconds a row, beyond a warm search."""

    items: int
    row_s: float


@dataclass(frozen=True)
class IndexedVectors:
    """A vector engine, measured over rows of a dimension."""

    dimension: int
    method: MethodResult


@dataclass(frozen=True)
class Measurements:
    """What was measured. decoding: by megapixels. vectors: by number of rows."""

    decoding: tuple[Decoding, ...] = ()
    encoding: Mapping[str, Encoding] = field(default_factory=dict)
    commit_core_s: float = 0.0
    vectors: tuple[IndexedVectors, ...] = ()
    filtering: Filtering | None = None
    sources: Mapping[str, str] = field(default_factory=dict)

    def updated(self, other: "Measurements") -> "Measurements":
        """Return these with what the other ones have in place of the same."""
        return Measurements(
            decoding=other.decoding or self.decoding,
            encoding={**self.encoding, **other.encoding},
            commit_core_s=other.commit_core_s or self.commit_core_s,
            vectors=other.vectors or self.vectors,
            filtering=other.filtering or self.filtering,
            sources={**self.sources, **other.sources},
        )


def bundled_measurements() -> Measurements:
    """Read the measurements that come with the program."""
    found = Measurements()
    for name in BUNDLED:
        resource = files("benchmarks.capacity").joinpath(name)
        told = json.loads(resource.read_text(encoding="utf-8"))
        found = found.updated(parse_measurements(told, told["measured"]))
    return found


def read_measurements(paths: Sequence[Path]) -> Measurements:
    """Read the bundled measurements, replaced by the user's own of the same benchmarks.

    Raises UsageError for a file that is not the JSON output of such a benchmark.
    """
    found = bundled_measurements()
    for path in paths:
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UsageError(f"--measured {path} cannot be read: {error}") from error
        try:
            own = parse_measurements(told, str(path))
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise _no_measurement(path) from error
        if own == Measurements():
            raise _no_measurement(path)
        found = found.updated(own)
    return found


def _no_measurement(path: Path) -> UsageError:
    return UsageError(
        f"--measured {path} is not the output of `mmsearch bench throughput --json`, of "
        "`mmsearch bench vectors --growth LIST --json` or of `mmsearch bench catalog --json`."
    )


def parse_measurements(told: Mapping[str, Any], source: str) -> Measurements:
    """Take the rates out of a benchmark's JSON object; none where it is of another benchmark."""
    if "sizes" in told:
        return _of_throughput(told, source)
    if "results" in told:
        return _of_vectors(told, source)
    if "timings" in told:
        return _of_catalog(told, source)
    return Measurements()


def _of_throughput(told: Mapping[str, Any], source: str) -> Measurements:
    sizes = told["sizes"]
    first = sizes[0]["encoder"]
    decoding = [
        Decoding(
            _positive(size["megapixels"]),
            _middle(size["stages"]["decode"]["processor_s"]),
            _positive(size["file_bytes"]),
        )
        for size in sizes
        if size["megapixels"] is not None and size["encoder"] == first
    ]
    on_gpu = not str(told.get("device", "cpu")).startswith("cpu")
    encoding: dict[str, Encoding] = {}
    for size in sizes:
        stage = size["stages"]["encode"]
        seconds = 1 / _middle(stage["rates"]) if on_gpu else _middle(stage["processor_s"])
        name = short_name(size["encoder"])
        if name not in encoding or seconds < encoding[name].seconds:  # the fastest runtime
            encoding[name] = Encoding(seconds, "gpu" if on_gpu else "core", source)
    commits = [rate for size in sizes for rate in size["stages"]["commit"]["processor_s"]]
    return Measurements(
        decoding=tuple(sorted(decoding, key=lambda one: one.megapixels)),
        encoding=encoding,
        commit_core_s=_middle(commits),
        sources={"decoding": source} if decoding else {},
    )


def _of_vectors(told: Mapping[str, Any], source: str) -> Measurements:
    names = {each.name for each in fields(MethodResult)}
    found = []
    for result in told["results"]:
        method = {name: value for name, value in result["methods"][0].items() if name in names}
        points = tuple(Point(**point) for point in method.pop("points"))
        found.append(
            IndexedVectors(int(result["dimension"]), MethodResult(**method, points=points))
        )
    return Measurements(
        vectors=tuple(sorted(found, key=lambda one: one.method.rows)),
        sources={"vectors": source},
    )


def _of_catalog(told: Mapping[str, Any], source: str) -> Measurements:
    spent = {timing["what"]: float(timing["cpu_ms"]) for timing in told["timings"]}
    filters = [ms - spent["search, warm"] for what, ms in spent.items() if "filter by" in what]
    items = int(told["items"])
    return Measurements(
        filtering=Filtering(items, max(median(filters), 0.0) / 1000 / items),
        sources={"filtering": source},
    )


def _middle(numbers: Sequence[float]) -> float:
    return _positive(median(numbers))


def _positive(number: float) -> float:
    if not 0 < number < float("inf"):
        raise ValueError(f"{number} is no measurement")
    return float(number)


def decoding_of(megapixels: float, measured: Sequence[Decoding]) -> Decoding:
    """Compute what a photo of a size takes, by straight lines through the measured sizes.

    Beyond the smallest and the largest the lines go on, and nothing falls below a tenth of the
    nearest size in proportion.

    Raises UsageError where photos of fewer than two sizes were measured.
    """
    if len(measured) < 2:
        raise UsageError(
            "Photos of at least two sizes must have been measured: `mmsearch bench throughput DIR "
            "--megapixels 0.05,2,12 --json`."
        )
    pairs = list(itertools.pairwise(measured))
    small, large = next((pair for pair in pairs if megapixels <= pair[1].megapixels), pairs[-1])
    share = (megapixels - small.megapixels) / (large.megapixels - small.megapixels)

    def between(first: float, second: float) -> float:
        least = 0.1 * first * min(1.0, megapixels / small.megapixels)
        return max(first + share * (second - first), least)

    return replace(
        small,
        megapixels=megapixels,
        core_s=between(small.core_s, large.core_s),
        file_bytes=between(small.file_bytes, large.file_bytes),
    )

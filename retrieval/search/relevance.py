"""How likely a hit is what was asked for: a number in 0..1 in place of a raw similarity.

A cosine means little by itself: what is high differs from encoder to encoder and from query to
query. So each query has a logistic curve of its own (Platt 1999). Its parameters are predicted from
its cohort, the similarities with a sample of the library, and from what is known of its words
(`Vocabulary`): learned where captions say what photos show (`retrieval.training.relevance`).
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from retrieval.encoders.base import Space
from retrieval.encoders.exports.store import LOCAL_DIR
from retrieval.encoders.trust import is_trusted
from retrieval.errors import UsageError
from retrieval.media import Modality
from retrieval.search.vocabulary import Known, KnownWords, Vocabulary, Word

QueryKind = Modality
"""By what a query asks: by text where any of its parts is one."""

FORMAT = "mmsearch-relevance-2"
FIRST_FORMAT = "mmsearch-relevance-1"
"""Files of this format hold a `LogisticCalibration` of each kind of query."""

Curve = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""From similarities of one query, (n,), to relevances, (n,) float32."""

FEATURES = (
    "one",
    "rows",
    "location",
    "scale",
    "upper",
    "tail",
    "top",
    "words",
    "single",
    "known",
    "share",
    "next_share",
    "threshold",
    "next_threshold",
    "single_share",
    "single_threshold",
    "level",
    "next_level",
    "single_level",
)
"""Of a query. rows: logarithm of its cohort's. location, scale: as `CohortStatistics`. upper, tail,
top: how many scales the highest tenth, the highest 3% and the highest three of the cohort lie above
the location. words: logarithm of their number, single: 1 for one word. The others: as `KnownWords`,
of the rarest word and the next."""

OF_SCALE = ("location", "scale", "threshold", "next_threshold", "single_threshold")
"""Those that depend on the scale of an encoder's scores."""

SAMPLE_ROWS = 1024
OWN_FILE = "relevance.json"
"""A calibration that a space's directory may hold; it goes before those of the package."""

_SHIPPED = Path(__file__).parent / "calibrations"
_GENERIC = _SHIPPED / "generic.json"
_FARTHEST = 20.0
"""Spreads beyond which a hit stands out no more, so that no logit overflows."""

_THRESHOLD = FEATURES.index("threshold")
_FEWEST_ROWS = 4
"""Rows of the smallest libraries that calibrations are learned on."""
_STEEPEST = 50.0
"""Largest logit."""

_LOW_TENTH = 1.2815515655446004
"""How many standard deviations below the mean the lowest tenth of a normal distribution ends."""


@dataclass(frozen=True)
class CohortStatistics:
    """A query's similarities with a sample of the library, summed up.

    location: their median. scale: their spread below it, in standard deviations of a normal
    distribution: what fits the query stands above, and does not count. rows: how many there were.
    """

    location: float
    scale: float
    rows: int

    @classmethod
    def of(cls, similarities: NDArray[np.float32]) -> Self:
        """Sum up (m,) similarities; those that are not finite do not count."""
        finite = similarities[np.isfinite(similarities)].astype(np.float64)
        if not len(finite):
            return cls(0.0, 0.0, 0)
        low, location = np.quantile(finite, (0.1, 0.5))
        return cls(float(location), float((location - low) / _LOW_TENTH), len(finite))


@dataclass(frozen=True)
class Reference:
    """What cohorts of a space look like, for libraries too small to have one of their own.

    location, scale: those of a typical query's cohort.
    """

    location: float
    scale: float

    def blended_with(self, own: CohortStatistics, weight: float) -> CohortStatistics:
        """Statistics mixed with the reference, which counts as much as `weight` rows."""
        share = own.rows / (own.rows + weight)
        location = share * own.location + (1 - share) * self.location
        scale = math.sqrt(share * own.scale**2 + (1 - share) * self.scale**2)
        return CohortStatistics(location, scale, own.rows)


@dataclass(frozen=True)
class LogisticCalibration:
    """One logistic model over two features of a hit, for all queries: of FIRST_FORMAT.

    z: weight of the spreads by which a hit stands out of its cohort, above 0. rows: weight of
    the logarithm of the cohort's rows: of many photos, more stand out by chance. reference:
    what the cohort of a small library is mixed with; without one, the relevance is drawn to
    `prior` instead, the share of relevant hits where it was learned. reference_rows: how many rows
    of a sample count as much as either.
    """

    intercept: float
    z: float
    rows: float
    prior: float
    reference_rows: float
    reference: Reference | None = None

    def __post_init__(self) -> None:
        numbers = (self.intercept, self.z, self.rows, self.prior, self.reference_rows)
        if not np.isfinite(numbers).all() or self.z <= 0 or self.reference_rows <= 0:
            raise UsageError(
                f"A calibration needs finite numbers, z and reference_rows above 0: {asdict(self)}."
            )

    def known(self, text: str) -> Known:
        """Return SOME: nothing is known of words."""
        return Known.SOME

    def curve(self, cohort: NDArray[np.float32], text: str = "") -> Curve:
        """Return the curve of a query by its cohort alone; see `Calibration.curve`."""
        return partial(self._relevance, CohortStatistics.of(cohort))

    def _relevance(
        self, known: CohortStatistics, similarity: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        features = self.features(similarity, known)
        chance = 1 / (1 + np.exp(-(features @ (self.intercept, self.z, self.rows))))
        if self.reference is None:
            share = known.rows / (known.rows + self.reference_rows)
            chance = share * chance + (1 - share) * self.prior
        return np.where(np.isnan(similarity), 0.0, chance).astype(np.float32)

    def features(
        self, similarity: NDArray[np.float32], cohort: CohortStatistics
    ) -> NDArray[np.float64]:
        """Compute the features of each hit, (n, 3): 1, z and the logarithm of the rows."""
        known = cohort
        if self.reference is not None:
            known = self.reference.blended_with(cohort, self.reference_rows)
        features = np.zeros((len(similarity), 3))
        features[:, 0] = 1
        if known.scale > 0:
            finite = np.nan_to_num(similarity).astype(np.float64)
            z = (finite - known.location) / known.scale
            features[:, 1] = np.clip(z, -_FARTHEST, _FARTHEST)
        features[:, 2] = math.log(max(known.rows, 1))
        return features


@dataclass(frozen=True)
class Calibration:
    """From a query to the curve of its relevances: logistic, with predicted parameters.

    offset, spread, cosine: weights of FEATURES for the intercept, for the slope over the spreads
    by which a hit stands out of its cohort, and for that over its cosine, from `threshold` on. Both
    slopes are softplus of their weighted sums, log(1 + e^x), and so never negative. Without
    `cosine`, nothing depends on the scale of the scores. reference: features of a typical query's
    cohort, with which those of a small library are mixed. reference_rows: how many rows of a sample
    count as much as it.
    """

    offset: Mapping[str, float]
    spread: Mapping[str, float]
    cosine: Mapping[str, float]
    reference: Mapping[str, float]
    reference_rows: float
    vocabulary: Vocabulary | None = None

    def __post_init__(self) -> None:
        mappings = (self.offset, self.spread, self.cosine, self.reference)
        if unknown := {name for each in mappings for name in each} - set(FEATURES):
            raise UsageError(f"A calibration has no features {', '.join(sorted(unknown))}.")
        numbers = [number for each in mappings for number in each.values()]
        if not np.isfinite([*numbers, self.reference_rows]).all() or self.reference_rows <= 0:
            raise UsageError("A calibration needs finite numbers, and reference_rows above 0.")

    @cached_property
    def _weights(self) -> NDArray[np.float64]:
        """Weights of the three parameters, (3, f)."""
        parameters = (self.offset, self.spread, self.cosine)
        return np.array([[each.get(name, 0.0) for name in FEATURES] for each in parameters])

    def known(self, text: str) -> Known:
        """Return how many words of a text are known: ALL if each is known well.

        SOME also where the text has no words, or nothing is known of any.
        """
        if self.vocabulary is None:
            return Known.SOME
        words = self.vocabulary.look_up(text)
        if words.count and not words.known:
            return Known.NONE
        return Known.ALL if words.well_known else Known.SOME

    def curve(self, cohort: NDArray[np.float32], text: str = "") -> Curve:
        """Return the curve of a query: from similarities, (n,), to relevances, (n,) float32.

        Relevances are in 0..1; they never fall as the similarity rises, and are 0 where it is not
        a number.

        cohort: (m,), similarities of the query with the rows of `sample_rows`. text: of the query.
        """
        features, location, scale = self.features(cohort, text)
        offset, spread, cosine = self._weights @ features
        return partial(
            _platt,
            offset,
            (location, float(np.logaddexp(0.0, spread)) / scale if scale > 0 else 0.0),
            (features[_THRESHOLD], float(np.logaddexp(0.0, cosine)) if self.cosine else 0.0),
        )

    def features(
        self, cohort: NDArray[np.float32], text: str
    ) -> tuple[NDArray[np.float64], float, float]:
        """Compute FEATURES of a query, (f,), and the location and scale of its cohort."""
        own = cohort[np.isfinite(cohort)].astype(np.float64)
        share = len(own) / (len(own) + self.reference_rows)
        shape, (location, scale) = self.reference, (0.0, 0.0)
        if len(own):
            shape, location, scale = _shape_of(own)
        if "location" in self.reference:
            usual = self.reference
            location = share * location + (1 - share) * usual["location"]
            scale = math.sqrt(share * scale**2 + (1 - share) * usual["scale"] ** 2)
        elif share:
            scale /= share
        words = self.vocabulary.look_up(text) if self.vocabulary else KnownWords.none()
        count = words.count or len(text.split())
        single = float(count == 1)
        values = {
            "one": 1.0,
            "rows": math.log1p(max(len(own), _FEWEST_ROWS)),
            "location": location,
            "scale": scale,
            **{
                name: share * shape[name] + (1 - share) * self.reference[name]
                for name in ("upper", "tail", "top")
            },
            "words": math.log1p(count),
            "single": single,
            "known": words.known,
            "share": words.shares[0],
            "next_share": words.shares[1],
            "threshold": words.thresholds[0],
            "next_threshold": words.thresholds[1],
            "single_share": single * words.shares[0],
            "single_threshold": single * words.thresholds[0],
            "level": words.levels[0],
            "next_level": words.levels[1],
            "single_level": single * words.levels[0],
        }
        return np.array([values[name] for name in FEATURES]), location, scale


def _shape_of(own: NDArray[np.float64]) -> tuple[dict[str, float], float, float]:
    """Compute how far the upper end of (m,) finite similarities lies above their median.

    Returns it in spreads below the median, with the median and the spread.
    """
    low, location, upper, tail = np.quantile(own, (0.1, 0.5, 0.9, 0.97)).tolist()
    few = min(3, len(own))
    top = float(np.partition(own, -few)[-few:].mean())
    scale = (location - low) / _LOW_TENTH
    if not scale > 0:
        return {"upper": 0.0, "tail": 0.0, "top": 0.0}, location, 0.0
    ends = {"upper": upper, "tail": tail, "top": top}
    shape = {name: min((end - location) / scale, _FARTHEST) for name, end in ends.items()}
    return shape, location, scale


def _platt(
    offset: float,
    spread: tuple[float, float],
    cosine: tuple[float, float],
    similarity: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Compute a logistic curve over similarities, (n,) -> (n,) float32.

    spread, cosine: from where on each counts, and its slope.
    """
    known = np.nan_to_num(similarity).astype(np.float64)
    logits = np.full(len(known), offset)
    for start, slope in (spread, cosine):
        logits += np.clip(slope * (known - start), -_STEEPEST, _STEEPEST)
    chance = 1 / (1 + np.exp(-np.clip(logits, -_STEEPEST, _STEEPEST)))
    return np.where(np.isnan(similarity), 0.0, chance).astype(np.float32)


AnyCalibration = Calibration | LogisticCalibration


@dataclass(frozen=True)
class CalibrationFile:
    """A calibration of each kind of query, and what is to be known of them.

    encoder, space_id: whose scores they were learned with; the generic file names no space.
    by_kind: of text and image queries at least. card: data, recipe, quality, limits.
    """

    encoder: str
    space_id: str
    by_kind: Mapping[QueryKind, AnyCalibration]
    card: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file. Raises UsageError for one that is damaged or of another format."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            version = content.pop("format")
            if version not in {FORMAT, FIRST_FORMAT}:
                raise ValueError(f"not of the format {FORMAT}")  # noqa: TRY301
            vocabulary = _vocabulary(content.pop("vocabulary", None))
            kinds = [k for k in QueryKind if k in content or k in {Modality.TEXT, Modality.IMAGE}]
            by_kind: dict[QueryKind, AnyCalibration] = {}
            for kind in kinds:
                fields = content.pop(kind)
                if version == FIRST_FORMAT:
                    by_kind[kind] = _logistic_calibration(fields)
                else:
                    words = vocabulary if kind is Modality.TEXT else None
                    by_kind[kind] = Calibration(**fields, vocabulary=words)
            return cls(**content, by_kind=by_kind)
        except (OSError, ValueError, TypeError, KeyError, AttributeError, UsageError) as error:
            raise UsageError(
                f"The calibration {path} cannot be read: {error}. Recreate it with `mmsearch "
                "train relevance`, or remove it."
            ) from error

    def write(self, path: Path) -> None:
        """Write the file, in a form that people can read: a line for each word."""
        fields = asdict(self)
        by_kind, card = fields.pop("by_kind"), fields.pop("card")
        vocabularies = [each.pop("vocabulary", None) for each in by_kind.values()]
        is_first = any(isinstance(each, LogisticCalibration) for each in self.by_kind.values())
        content = {"format": FIRST_FORMAT if is_first else FORMAT, **fields, **by_kind}
        words: list[str] = []
        if vocabulary := next(filter(None, vocabularies), None):
            words = [
                f"      {json.dumps(stem, ensure_ascii=False)}: {json.dumps(facts)}"
                for stem, facts in sorted(vocabulary.pop("words").items())
            ]
            content["vocabulary"] = vocabulary | {"words": {}}
        text = json.dumps(content | {"card": card}, indent=2, ensure_ascii=False)
        if words:
            lines = ",\n".join(words)
            text = text.replace('"words": {}', f'"words": {{\n{lines}\n    }}', 1)
        path.write_text(text + "\n", encoding="utf-8")


def calibration_for(
    space: Space, query_kind: QueryKind, own: Path | None = None, *, pictures: bool = True
) -> AnyCalibration:
    """Return the calibration of a space for a kind of query, or that for texts.

    own: the space's directory, whose `relevance.json` goes before that of the encoder's folder (of
    `local-dir:`, if the user trusts it), and before those of the package. A space that no file is
    for gets the generic one, which was learned with the scores of `starter` too, but uses nothing
    of their scale: how well it fits another encoder was not measured. So does what the files were
    not learned on: searches for other than pictures, and queries that mix texts with images or
    items (pictures: False).
    """
    generic = _read(_GENERIC)
    file = _file_for(space, own) or generic
    found = file.by_kind.get(query_kind, file.by_kind[Modality.TEXT])
    if not pictures and isinstance(found, Calibration):
        return generic.by_kind.get(query_kind, generic.by_kind[Modality.TEXT])
    return found


def is_calibrated(space: Space, own: Path | None = None) -> bool:
    """Return whether a calibration was learned with the scores of a space; else it is generic.

    own: as for `calibration_for`.
    """
    return _file_for(space, own) is not None


def _file_for(space: Space, own: Path | None) -> CalibrationFile | None:
    """Find the file that was learned with the scores of a space."""
    folders = [own, _folder_of_encoder(space.encoder)]
    paths = [each / OWN_FILE for each in folders if each and (each / OWN_FILE).exists()]
    paths += [path for path in sorted(_SHIPPED.glob("*.json")) if path != _GENERIC]
    space_id = space.id
    return next((file for file in map(_read, paths) if file.space_id == space_id), None)


def _folder_of_encoder(name: str) -> Path | None:
    """Return the folder of a `local-dir:` encoder, unless a library alone names it."""
    if not name.startswith(LOCAL_DIR):
        return None
    folder = Path(name.removeprefix(LOCAL_DIR))
    return folder if (folder / OWN_FILE).exists() and is_trusted(folder) else None


def sample_rows(row_count: int, live: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
    """Choose at most SAMPLE_ROWS of [0, row_count) for a cohort, ascending (m,) int64.

    live: (row_count,), which rows may be chosen; None: all. The choice is always the same, and
    as rows are added it changes little: those with the lowest hashes are taken, so that a new row
    takes the place of at most one.
    """
    rows = np.arange(row_count) if live is None else np.flatnonzero(live[:row_count])
    if len(rows) <= SAMPLE_ROWS:
        return rows.astype(np.int64)
    chosen = np.argpartition(hashes(rows), SAMPLE_ROWS)[:SAMPLE_ROWS]
    return np.sort(rows[chosen]).astype(np.int64)


def hashes(rows: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Hash row numbers by SplitMix64 (Steele et al. 2014); `sample_rows` takes the lowest."""
    mixed = (rows.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _logistic_calibration(fields: dict[str, Any]) -> LogisticCalibration:
    reference = fields.pop("reference")
    return LogisticCalibration(**fields, reference=reference and Reference(**reference))


def _vocabulary(fields: dict[str, Any] | None) -> Vocabulary | None:
    if fields is None:
        return None
    lines: dict[str, Any] = {}
    for name in ("line", "level_line"):
        if name in fields:
            intercept, slope = fields.pop(name)
            lines[name] = (intercept, slope)
    words = {stem: Word(*facts) for stem, facts in fields.pop("words").items()}
    return Vocabulary(**fields, **lines, words=words)


@cache
def _read(path: Path) -> CalibrationFile:
    return CalibrationFile.read(path)

"""How likely a hit is what was asked for: a number in 0..1 in place of a raw similarity.

A cosine means little by itself: what is high differs from encoder to encoder and from query to
query. So scores are normalised by a cohort, the similarities of the same query with a sample of
the library: by how many spreads it stands out. A logistic model, learned where captions say what
photos show (`retrieval.training.relevance`), turns that into a probability (Platt 1999).
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from retrieval.encoders.base import Space
from retrieval.errors import UsageError
from retrieval.media import Modality

QueryKind = Modality
"""By what a query asks: by text where any of its parts is one."""

FORMAT = "mmsearch-relevance-1"
SAMPLE_ROWS = 1024
DEFAULT_MIN_RELEVANCE = 0.1
"""What a page shows at least, of text queries. On 30 to 2,004 photos of Flickr8k, of 60 texts about
what they do not show 40% to 73% got no hit and 83% to 100% at most three, while of captions whose
photo was there 4% to 7% got none (`mmsearch bench relevance`). At 0.15 it is 58% to 83%, 88% to
100%, and 9% to 17%. Relevances of image queries are lower: few photos would have the same caption.
"""

OWN_FILE = "relevance.json"
"""A calibration that a space's directory may hold; it goes before those of the package."""

_SHIPPED = Path(__file__).parent / "calibrations"
_GENERIC = _SHIPPED / "generic.json"
_FARTHEST = 20.0
"""Spreads beyond which a hit stands out no more, so that no logit overflows."""

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
class Calibration:
    """From similarities of one query to relevances: a logistic model over two features of a hit.

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

    def relevance(
        self,
        similarity: NDArray[np.float32],
        cohort: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        """Probabilities, (n,) float32 in 0..1, that hits are what their query asked for.

        similarity: (n,), of the hits. cohort: (m,), of the same query with the rows of
        `sample_rows`.

        Never falls as the similarity rises. A similarity that is not a number has relevance 0.
        """
        known = CohortStatistics.of(cohort)
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
class CalibrationFile:
    """A calibration of each kind of query, and what is to be known of them.

    encoder, space_id: whose scores they were learned with; the generic file names no space.
    by_kind: of text and image queries at least. card: data, recipe, quality, limits.
    """

    encoder: str
    space_id: str
    by_kind: Mapping[QueryKind, Calibration]
    card: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file. Raises UsageError for one that is damaged or of another format."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content.pop("format") != FORMAT:
                raise ValueError(f"not of the format {FORMAT}")  # noqa: TRY301
            kinds = [k for k in QueryKind if k in content or k in {Modality.TEXT, Modality.IMAGE}]
            by_kind = {kind: _calibration(content.pop(kind)) for kind in kinds}
            return cls(**content, by_kind=by_kind)
        except (OSError, ValueError, TypeError, KeyError, AttributeError, UsageError) as error:
            raise UsageError(
                f"The calibration {path} cannot be read: {error}. Recreate it with `mmsearch "
                "train relevance`, or remove it."
            ) from error

    def write(self, path: Path) -> None:
        """Write the file, in a form that people can read."""
        fields = asdict(self)
        by_kind, card = fields.pop("by_kind"), fields.pop("card")
        content = {"format": FORMAT, **fields, **by_kind, "card": card}
        text = json.dumps(content, indent=2, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")


def calibration_for(space: Space, query_kind: QueryKind, own: Path | None = None) -> Calibration:
    """Return the calibration of a space for a kind of query, or that for texts.

    own: the space's directory, whose `relevance.json` goes before those of the package. A space
    that no file is for gets the generic one, which was learned with the scores of `starter` too,
    but uses nothing of their scale: how well it fits another encoder was not measured.
    """
    path = own / OWN_FILE if own else None
    file = _read(path) if path and path.exists() else None
    if file is None or file.space_id != space.id:
        shipped = (_read(path) for path in sorted(_SHIPPED.glob("*.json")) if path != _GENERIC)
        file = next((one for one in shipped if one.space_id == space.id), _read(_GENERIC))
    return file.by_kind.get(query_kind, file.by_kind[Modality.TEXT])


def is_calibrated(space: Space, own: Path | None = None) -> bool:
    """Return whether a calibration was learned with the scores of a space; else it is generic.

    own: as for `calibration_for`.
    """
    paths = [own / OWN_FILE] if own and (own / OWN_FILE).exists() else []
    paths += [path for path in sorted(_SHIPPED.glob("*.json")) if path != _GENERIC]
    return any(_read(path).space_id == space.id for path in paths)


def sample_rows(row_count: int, live: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
    """Choose at most SAMPLE_ROWS of [0, row_count) for a cohort, ascending (m,) int64.

    live: (row_count,), which rows may be chosen; None: all. The choice is always the same, and
    as rows are added it changes little: those with the lowest hashes are taken, so that a new row
    takes the place of at most one.
    """
    rows = np.arange(row_count) if live is None else np.flatnonzero(live[:row_count])
    if len(rows) <= SAMPLE_ROWS:
        return rows.astype(np.int64)
    chosen = np.argpartition(_hashes(rows), SAMPLE_ROWS)[:SAMPLE_ROWS]
    return np.sort(rows[chosen]).astype(np.int64)


def _hashes(rows: NDArray[np.int64]) -> NDArray[np.uint64]:
    """SplitMix64 (Steele et al. 2014) of row numbers."""
    mixed = (rows.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _calibration(fields: dict[str, Any]) -> Calibration:
    reference = fields.pop("reference")
    return Calibration(**fields, reference=reference and Reference(**reference))


@cache
def _read(path: Path) -> CalibrationFile:
    return CalibrationFile.read(path)

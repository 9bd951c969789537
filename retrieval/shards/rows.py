"""Rows of all shards, by their numbers in the whole library: looked up where they are."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.filters import Filter
from retrieval.indices.base import AllowedRows
from retrieval.media import Modality
from retrieval.search.relevance import SAMPLE_ROWS, hashes
from retrieval.shards.callers import SpaceOfShards

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Sample:
    """The sample of the library for calibration. numbers: (m,) ascending. vectors: (m, d)."""

    numbers: Ints
    vectors: NDArray[np.float32]

    @classmethod
    def of(cls, shards: SpaceOfShards, modality: Modality, row_limit: int) -> "Sample":
        """Draw the sample: of all rows those with the lowest hashes, as `sample_rows` does."""
        parts = shards.all("sample", modality, row_limit)
        numbers = np.concatenate([numbers for numbers, _ in parts])
        vectors = np.concatenate([vectors for _, vectors in parts]).astype(np.float32)
        chosen = np.arange(len(numbers))
        if len(numbers) > SAMPLE_ROWS:
            chosen = np.argpartition(hashes(numbers), SAMPLE_ROWS)[:SAMPLE_ROWS]
        chosen = chosen[np.argsort(numbers[chosen])]
        return cls(numbers[chosen], vectors[chosen])


class AllowedAnywhere(AllowedRows):
    """The rows of all shards that pass a filter; None: all. Only their number is known here.

    passing: those of the sample.
    """

    def __init__(self, where: Filter | None, count: int, passing: Ints, sample: Sample) -> None:
        is_passing = np.isin(sample.numbers, passing)
        super().__init__(is_passing, where)
        # Asked which rows of the sample pass, whatever their numbers: `_outlook` asks no more.
        self.__dict__["bitmap"] = _OfSample(is_passing)
        self.__dict__["count"] = count


class _OfSample:
    """Stands for a bitmap, and knows it for the sample."""

    def __init__(self, is_passing: NDArray[np.bool_]) -> None:
        self._is_passing = is_passing

    def __getitem__(self, rows: Any) -> NDArray[np.bool_]:
        return self._is_passing


class MatchingRows:
    """Rows that pass a filter, before they are counted; stands for a bitmap in `Engine._plan`."""

    def __init__(self, matches_any: Callable[[], bool]) -> None:
        self._matches_any = matches_any

    def any(self) -> bool:
        """Return whether there are any."""
        return self._matches_any()

    def __getitem__(self, part: slice) -> "MatchingRows":
        return self


class RemoteRows:
    """The vectors of all shards, (n, d): those that are indexed are fetched.

    owners: which shard has some rows, as far as known from candidates.
    """

    def __init__(
        self,
        shards: SpaceOfShards,
        modality: Modality,
        row_limit: int,
        dimension: int,
        owners: Mapping[int, int],
    ) -> None:
        self._shards = shards
        self._modality = modality
        self._owners = owners
        self.shape = (row_limit, dimension)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> Any:
        if isinstance(rows, slice):
            limit = len(range(*rows.indices(len(self))))
            return RemoteRows(self._shards, self._modality, limit, self.shape[1], self._owners)
        numbers = np.asarray(rows, np.int64)
        found = np.zeros((len(numbers), self.shape[1]), np.float16)
        owners = np.array([self._owners[row] for row in numbers.tolist()], np.int64)
        parts = {shard: np.flatnonzero(owners == shard) for shard in np.unique(owners).tolist()}
        asked = {shard: (self._modality, numbers[places]) for shard, places in parts.items()}
        vectors = self._shards.some("vectors", asked)
        for places, fetched in zip(parts.values(), vectors, strict=True):
            found[places] = fetched
        return found

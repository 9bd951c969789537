"""The sample of all shards is that of one library."""

import numpy as np
import pytest

from retrieval.media import Modality
from retrieval.search.relevance import SAMPLE_ROWS, hashes, sample_rows
from retrieval.shards.rows import AllowedAnywhere, RemoteRows, Sample


class _Shards:
    """Shards of rows whose vectors are their numbers."""

    def __init__(self, numbers: list[np.ndarray]) -> None:
        self._numbers = numbers
        self.asked: list[str] = []

    def all(self, method: str, modality: Modality, row_limit: int) -> list[tuple[object, ...]]:
        parts = []
        for numbers in self._numbers:
            kept = numbers[numbers < row_limit]
            chosen = np.sort(kept[np.argsort(hashes(kept))[:SAMPLE_ROWS]])
            parts.append((chosen, np.repeat(chosen[:, None], 2, axis=1).astype(np.float16)))
        return parts

    def some(self, method: str, asked: dict[int, tuple[object, np.ndarray]]) -> list[np.ndarray]:
        self.asked.append(method)
        return [np.repeat(rows[:, None], 2, axis=1) for _, rows in asked.values()]


@pytest.mark.parametrize("count", [10, 1024, 3000])
def test_the_sample_is_that_of_all_rows(count: int) -> None:
    homes = np.random.default_rng(0).integers(0, 3, count)
    shards = _Shards([np.flatnonzero(homes == shard) for shard in range(3)])
    sample = Sample.of(shards, Modality.IMAGE, count)  # type: ignore[arg-type]
    np.testing.assert_array_equal(sample.numbers, sample_rows(count))
    np.testing.assert_array_equal(sample.vectors[:, 0], sample.numbers.astype(np.float16))
    passing = sample.numbers[::2]
    allowed = AllowedAnywhere(None, 77, passing, sample)
    assert allowed.count == 77
    np.testing.assert_array_equal(sample.numbers[allowed.bitmap[sample_rows(count)]], passing)


def test_vectors_are_fetched_where_they_are() -> None:
    shards = _Shards([])
    owners = {5: 0, 7: 1, 9: 0}
    rows = RemoteRows(shards, Modality.IMAGE, 10, 2, owners)  # type: ignore[arg-type]
    assert len(rows[:4]) == 4
    np.testing.assert_array_equal(rows[np.array([9, 7, 5])][:, 0], [9, 7, 5])
    assert shards.asked == ["vectors"]

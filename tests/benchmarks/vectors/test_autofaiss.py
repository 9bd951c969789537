import pytest

from benchmarks.vectors.autofaiss import autofaiss_factory


@pytest.mark.parametrize(
    ("rows", "memory_a_row", "factory"),
    [
        (500, 80, "Flat"),
        (5_000, 80, "HNSW15"),
        (100_000, 80, "OPQ64_448,IVF1024_HNSW32,PQ64x8"),
        (20_000, 40, "OPQ32_224,IVF512,PQ32x8"),
        (100_000, 2_100, "IVF1024,Flat"),
        (100_000, 2_200, "HNSW19"),
        (1_000_000, 80, "OPQ64_448,IVF16384_HNSW32,PQ64x8"),
        (1_000_000, 16_000, "HNSW32"),
        (100_000_000, 30, "OPQ16_112,IVF65536_HNSW32,PQ16x8"),
    ],
)
def test_autofaiss_is_set_by_its_own_rules(rows, memory_a_row, factory):
    assert autofaiss_factory(rows, 512, memory_a_row * rows) == factory

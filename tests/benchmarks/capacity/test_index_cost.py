import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.capacity.index_cost import (
    build_core_s,
    faiss_bytes,
    faiss_kind,
    pq_bytes,
    rabitq_bytes,
    search_core_s,
)
from benchmarks.capacity.measurements import bundled_measurements
from retrieval.errors import UsageError
from retrieval.indices.choice import EXACT_UP_TO_ROWS

VECTORS = bundled_measurements().vectors
ROWS = st.integers(1, 10**11)
DIMENSIONS = st.sampled_from([32, 512, 768, 1024, 1152])


@given(ROWS, st.integers(0, 10**10), DIMENSIONS)
def test_more_rows_take_no_less(rows, more, dimension):
    for cost in (faiss_bytes, rabitq_bytes, pq_bytes):
        assert cost(rows, dimension) <= cost(rows + more, dimension)
    assert build_core_s(rows, dimension, VECTORS) <= build_core_s(rows + more, dimension, VECTORS)
    if rows > 10**6:
        few, many = (search_core_s(n, dimension, 0.95, VECTORS) for n in (rows, rows + more))
        assert 0 < few <= many


def test_few_rows_have_no_index():
    assert faiss_bytes(EXACT_UP_TO_ROWS, 512) == 0
    assert faiss_kind(EXACT_UP_TO_ROWS, 512) == "exact"
    assert build_core_s(EXACT_UP_TO_ROWS, 512, VECTORS) == 0


def test_bytes_a_row():
    assert faiss_kind(10**6, 512).startswith("IVF1953,PQ128x4fs")
    assert faiss_bytes(10**6, 512) / 10**6 == pytest.approx(78, abs=0.1)  # docs/benchmarks.md
    assert rabitq_bytes(10**6, 512) / 10**6 == pytest.approx(512 / 8 + 8 + 8, abs=1)
    assert pq_bytes(10**6, 512) / 10**6 == pytest.approx(512 / 8 + 8, abs=1.5)


def test_vectors_that_do_not_fit_the_page_cache_get_codes_of_signs():
    assert faiss_kind(10**9, 768, 10**12 * 2).endswith("PQ128x4fs")
    assert faiss_kind(10**9, 768, 10**12).endswith("RaBitQ")
    assert faiss_bytes(10**9, 768, 10**12) == pytest.approx(rabitq_bytes(10**9, 768), rel=0.01)


def test_building_what_was_measured_takes_what_was_measured():
    largest = VECTORS[-1].method
    assert build_core_s(largest.rows, 512, VECTORS) == pytest.approx(largest.build_core_s)
    assert build_core_s(100 * largest.rows, 512, VECTORS) > 100 * largest.build_core_s


def test_a_recall_that_was_not_reached_is_refused():
    with pytest.raises(UsageError, match=r"reaches a recall of 0\.\d+ at most, not 0\.9999"):
        search_core_s(10**6, 512, 0.9999, VECTORS)
    with pytest.raises(UsageError, match="at least two sizes"):
        search_core_s(10**6, 512, 0.9, VECTORS[:1])


def test_a_higher_recall_is_no_faster():
    assert search_core_s(10**7, 512, 0.9, VECTORS) <= search_core_s(10**7, 512, 0.97, VECTORS)

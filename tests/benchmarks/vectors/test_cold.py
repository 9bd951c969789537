"""Refine with a cold page cache."""

import os

import numpy as np
import pytest

from benchmarks.vectors.cold import _pages, cold_markdown, measure_cold
from benchmarks.vectors.workload import synthetic_workload
from retrieval.errors import UsageError

pytestmark = pytest.mark.skipif(
    not hasattr(os, "posix_fadvise"), reason="this system cannot drop pages"
)


def test_pages_are_counted_once():
    rows = np.zeros((100, 512), np.float16)  # four a page
    assert _pages(np.array([0, 1, 3]), rows) == 1
    assert _pages(np.array([0, 4, 99]), rows) == 3
    assert _pages(np.array([1]), np.zeros((100, 3000), np.float16)) == 2


@pytest.mark.slow
def test_both_kinds_are_tuned_and_measured(tmp_path):
    workload = synthetic_workload(tmp_path, "clip", 4000, dimension=64, queries=100, seed=0)
    told = []
    methods = ("factory:IVF16,PQ16x4fs", "factory:RR64,IVF16,RaBitQ")
    results = measure_cold(workload, methods, target_recall=0.8, queries=20, on_step=told.append)
    assert len(results) == 4
    for one in results:
        assert one.recall > 0.7
        assert one.candidates == 10 * one.overfetch
        assert 0 < one.pages <= one.candidates
        assert one.cold_ms > 0
        assert (one.query_bits is None) == ("RaBitQ" not in one.kind)
    assert {one.modality for one in results} == {"image", "text"}
    assert "RR64,IVF16,RaBitQ | image" in cold_markdown(results)
    assert len(told) == 6


@pytest.mark.parametrize("method", ["exact", "autofaiss", "mmsearch", "signs"])
def test_what_has_no_candidates_to_read_is_refused(tmp_path, method):
    workload = synthetic_workload(tmp_path, "clip", 100, dimension=16, queries=10, seed=0)
    with pytest.raises(UsageError):
        measure_cold(workload, [method])

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.vectors.lifecycle import index_markdown, measure_index
from retrieval.errors import MMSearchError
from retrieval.indices import build as build_module
from retrieval.indices import choice
from retrieval.indices import searcher as searcher_module
from retrieval.indices.faiss import ivf
from retrieval.indices.faiss.ivf import FactoryIndex


@pytest.fixture
def few_rows_are_many(monkeypatch):
    """An index from 1,000 rows, and filters answered by it from 50."""
    for module in (choice, build_module):
        monkeypatch.setattr(module, "EXACT_UP_TO_ROWS", 1000)
    monkeypatch.setattr(searcher_module, "FEW_ROWS", 50)
    monkeypatch.setattr(ivf, "_LEAST_POINTS", 2000)


@pytest.fixture
def measure(tmp_path, few_rows_are_many):
    def run(**options):
        wanted = {"dimension": 32, "queries": 40, "filter_queries": 2, "removed": 300, "added": 300}
        return measure_index(tmp_path / "cache", 3000, folder=tmp_path, **(wanted | options))

    return run


@pytest.mark.slow
def test_an_index_is_followed_through_its_life(measure):
    steps = []
    result = measure(on_step=steps.append)
    assert (result.rows, result.built.rows, result.dimension) == (3000, 3000, 32)
    assert result.build_s > 0
    assert {"Training", "Tuning", "Recall", "Adding 300 rows"} <= set(steps)
    for recalls in (result.recalls, result.addition.recalls, result.removal.recalls):
        assert [one.modality for one in recalls] == ["image", "text"]
        assert min(one.recall for one in recalls) >= 0.95
    assert min(one.recall for one in result.masking.recalls) >= 0.95
    assert len(result.filters) == 2 * 3 * 5
    assert result.addition.found == 1.0
    assert not result.addition.needs_build
    assert result.removal.rows == 300
    assert result.removal.unchanged == 1.0
    assert result.removal.filled > 0.95
    assert result.masking.no_worse > 0.95
    text = index_markdown(result)
    assert "300 rows added call for no build; they could be found after" in text
    assert "300 rows removed: in 100.00% of the lists" in text
    many = replace(result, addition=replace(result.addition, needs_build=True))
    assert "300 rows added call for a build; they could" in index_markdown(many)


@pytest.mark.slow
def test_an_index_that_is_kept_is_not_built_again(measure):
    first = measure()
    again = measure()
    assert again.build_s is None
    assert again.built == first.built
    assert "kept from an earlier run" in index_markdown(again)


@pytest.mark.slow
def test_it_notices_an_index_that_loses_rows(measure, monkeypatch):
    search = FactoryIndex.search

    def careless(self, queries, k, allowed=None, effort=None):
        scores, rows = search(self, queries, k, allowed, effort)
        return scores, np.where(rows % 3 == 0, -1, rows)

    measure()
    monkeypatch.setattr(FactoryIndex, "search", careless)
    result = measure()
    assert max(one.recall for one in result.recalls) < 0.9


def test_rows_without_an_index_are_an_error(tmp_path):
    with pytest.raises(MMSearchError, match="searched exactly"):
        measure_index(tmp_path / "cache", 1000, dimension=32, queries=50, folder=tmp_path)

"""The benchmark of a table's index, small, without a cluster."""

from pathlib import Path

import pytest

pytest.importorskip("lance", reason="needs Lance: pip install 'mmsearch[cluster]'")

from benchmarks.vectors.table_index import measure_table_index, table_index_markdown
from benchmarks.vectors.workload import synthetic_workload
from retrieval.lance import index_build
from retrieval.lance.index_settings import IVF_RQ

pytestmark = pytest.mark.slow


def test_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_build, "_QUERIES", 40)
    monkeypatch.setattr(index_build, "TIMED_QUERIES", 2)
    workload = synthetic_workload(tmp_path, "clip", 1200, dimension=32, queries=60, seed=0)
    result = measure_table_index(workload, tmp_path, kinds=[IVF_RQ], target_recall=0.8)
    table, faiss = result.indices
    assert (table.kind, table.workers) == (IVF_RQ, 1)
    assert table.points[0].recall > 0.7
    # So few rows are searched exactly.
    assert (faiss.points[0].recall, faiss.points[1].recall) == (1.0, 1.0)
    text = table_index_markdown(result)
    assert text.count("\n| Lance IVF_RQ |") == 2
    assert "1,200 x 32" in text

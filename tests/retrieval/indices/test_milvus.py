"""What is Milvus's own; `test_conformance` and `test_server` have the rest."""

import numpy as np
import pytest

from retrieval.indices import milvus
from retrieval.indices.base import AllowedRows, Effort, load_engine
from retrieval.indices.milvus import MilvusIndex, _expression
from retrieval.indices.row_fields import InRanges, Selection

NONE = np.empty(0, np.int64)


def test_a_selection_is_written_as_a_filter():
    wide = InRanges("width", ((1, 2), (5, 9)))
    assert _expression(Selection(wide, NONE, NONE)) == (
        "((width >= 1 and width <= 2) or (width >= 5 and width <= 9))"
    )
    assert _expression(Selection(wide, np.array([7]), np.array([1, 2]))) == (
        "(((width >= 1 and width <= 2) or (width >= 5 and width <= 9)) or id in [7]) "
        "and id not in [1, 2]"
    )
    assert _expression(Selection(None, np.array([7]), NONE, only_included=True)) == "id in [7]"
    assert _expression(Selection(None, NONE, np.array([7]))) == "id not in [7]"


@pytest.mark.slow
def test_many_rows_are_picked_from_longer_lists(milvus_server, tmp_path, monkeypatch):
    monkeypatch.setenv(MilvusIndex.variable, milvus_server)
    monkeypatch.setattr(milvus, "_MOST_NAMED", 10)
    rows = np.random.default_rng(0).normal(size=(500, 16))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)
    index = load_engine("milvus").create(tmp_path / "image.milvus", rows, "FLAT")
    index.add(rows)
    asked = []
    ask = MilvusIndex._ask
    monkeypatch.setattr(
        MilvusIndex, "_ask", lambda self, *told: asked.append(told[2]) or ask(self, *told)
    )
    bitmap = np.arange(500) % 2 == 0
    queries = rows[:3].astype(np.float32)
    _, found = index.search(queries, 10, AllowedRows(bitmap), Effort(breadth=8))
    scores = np.where(bitmap, queries @ rows.astype(np.float32).T, -9)
    assert found.tolist() == np.argsort(-scores, axis=1)[:, :10].tolist()
    assert asked == [""]
    # Where that leaves too few, they are named after all.
    bitmap = queries[0] @ rows.astype(np.float32).T < 0
    _, [found] = index.search(queries[:1], 10, AllowedRows(bitmap), Effort(breadth=8))
    assert bitmap[found].all()
    assert [text[:3] for text in asked[1:]] == ["", "id "]
    index.abandon()
    index.close()

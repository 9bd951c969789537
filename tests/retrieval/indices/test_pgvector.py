"""What is pgvector's own; `test_conformance` and `test_server` have the rest."""

import numpy as np
import pytest

from retrieval.indices.base import AllowedRows, Effort, load_engine
from retrieval.indices.pgvector import PgvectorIndex, _where
from retrieval.indices.row_fields import InRanges, Selection

NONE = np.empty(0, np.int64)


def test_few_rows_are_named_and_many_sent_as_a_bitmap():
    bitmap = np.arange(3000) % 2 == 0
    allowed = AllowedRows(bitmap)
    assert _where(None, None) == ("", {})
    few = Selection(InRanges("width", ((1, 2),)), np.array([5]), np.array([1, 2]))
    text, values = _where(few, allowed)
    assert text == (
        "where (((width >= 1 and width <= 2)) or id = any(%(included)s)) "
        "and id <> all(%(excluded)s)"
    )
    assert values == {"included": [5], "excluded": [1, 2]}
    only = Selection(None, np.array([5]), NONE, only_included=True)
    assert _where(only, allowed)[0] == "where id = any(%(included)s)"
    text, values = _where(Selection(None, allowed.ids, NONE, only_included=True), allowed)
    assert "get_bit" in text
    assert values["count"] == 3000
    assert np.unpackbits(np.frombuffer(values["bitmap"], np.uint8), bitorder="little").sum() == 1500


@pytest.mark.slow
def test_a_bitmap_selects_what_it_says(pgvector_server, tmp_path, monkeypatch):
    monkeypatch.setenv(PgvectorIndex.variable, pgvector_server)
    rows = np.random.default_rng(0).normal(size=(4000, 16))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)
    index = load_engine("pgvector").create(tmp_path / "image.pgvector", rows, "IVFFLAT,lists=8")
    index.add(rows)
    bitmap = np.random.default_rng(1).random(4000) < 0.5
    scores, found = index.search(
        rows[:5].astype(np.float32), 4000, AllowedRows(bitmap), Effort(breadth=8)
    )
    for row in found:
        assert sorted(row[row >= 0].tolist()) == np.flatnonzero(bitmap).tolist()
    assert (np.diff(scores[:, : bitmap.sum()]) <= 0).all()
    index.abandon()
    index.close()

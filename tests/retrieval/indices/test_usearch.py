"""What is usearch's own; `test_conformance` has the rest."""

import numpy as np
import pytest

from retrieval.indices.base import Effort
from retrieval.indices.usearch import UsearchIndex

pytest.importorskip("usearch")

ROWS = np.eye(16, dtype=np.float16)


@pytest.mark.parametrize(("kind", "precision"), [("", "f16"), ("f16", "f16"), ("i8", "i8")])
def test_the_kind_names_the_precision_and_opens_the_index_again(kind, precision, tmp_path):
    index = UsearchIndex.create(tmp_path / "graph", ROWS, kind)
    index.add(ROWS)
    index.save(tmp_path / "graph")
    assert index.kind.startswith(f"HNSW, {precision}, connectivity ")
    again = UsearchIndex.open(tmp_path / "graph", ROWS, index.kind)
    assert (again.kind, len(again)) == (index.kind, 16)
    scores, rows = again.search(ROWS[3:4], 1)
    assert rows.tolist() == [[3]]
    assert scores == pytest.approx(1, abs=0.02)


def test_eight_bits_take_less_room(tmp_path):
    rows = np.random.default_rng(0).normal(size=(300, 64)).astype(np.float16)
    for kind in ("f16", "i8"):
        index = UsearchIndex.create(tmp_path / kind, rows, kind)
        index.add(rows)
        index.save(tmp_path / kind)
    saved = (tmp_path / "f16").stat().st_size - (tmp_path / "i8").stat().st_size
    assert saved == pytest.approx(300 * 64, rel=0.1)


def test_places_past_the_rows_hold_nothing():
    index = UsearchIndex.create(None, ROWS)
    index.add(ROWS[:2])
    for count in (1, 3):
        scores, rows = index.search(ROWS[:count], 5, effort=Effort(breadth=64))
        assert (rows[:, 2:] == -1).all()
        assert (scores[:, 2:] == -np.inf).all()
        assert np.sort(rows[:, :2]).tolist() == [[0, 1]] * count

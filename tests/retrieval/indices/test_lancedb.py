"""What is lancedb's own; `test_conformance` has the rest."""

import numpy as np
import pytest

from retrieval.indices.lancedb import LancedbIndex

pytest.importorskip("lancedb")


@pytest.mark.parametrize(("count", "is_indexed"), [(100, False), (400, True)])
def test_few_rows_have_no_index_and_are_found_all_the_same(count, is_indexed, tmp_path):
    rows = np.random.default_rng(0).normal(size=(count, 16))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)
    index = LancedbIndex.create(tmp_path / "table", rows)
    index.add(rows)
    index.save(tmp_path / "table")
    again = LancedbIndex.open(tmp_path / "table", rows, index.kind)
    assert len(again) == count
    assert bool(again._table.list_indices()) is is_indexed
    assert again.search(rows[7:8].astype(np.float32), 1)[1].tolist() == [[7]]


def test_codes_are_of_eight_dimensions(tmp_path):
    for dimension, codes in {16: 2, 4: 1}.items():
        rows = np.zeros((1, dimension), np.float16)
        index = LancedbIndex.create(tmp_path / str(dimension), rows)
        assert index.kind.startswith(f"IVF_PQ, {codes} sub-vectors")

"""What is milvus-lite's own; `test_conformance` has the rest."""

import numpy as np
import pytest

from retrieval.indices.milvus_lite import MilvusLiteIndex

pytest.importorskip("milvus_lite")


def test_the_number_of_lists_outlives_a_restart(tmp_path):
    rows = np.random.default_rng(0).normal(size=(400, 16))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)
    index = MilvusLiteIndex.create(tmp_path / "data", rows)
    index.add(rows)
    index.save(tmp_path / "data")
    assert (index.kind, index.max_breadth) == ("IVF_SQ8, 80 lists a segment", 80)
    index.close()
    again = MilvusLiteIndex.open(tmp_path / "data", rows, index.kind)
    assert (again.max_breadth, len(again)) == (80, 400)
    assert again.search(rows[7:8].astype(np.float32), 1)[1].tolist() == [[7]]
    again.close()

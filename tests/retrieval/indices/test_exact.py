import subprocess
import sys
from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.embeddings import EmbeddingsFile
from retrieval.indices import exact
from retrieval.indices.base import AllowedRows
from retrieval.indices.exact import ExactIndex, float32_of, nearest


def unit_rows(n: int, d: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def assert_is_brute_force(found, rows, queries, k, allowed=None) -> None:
    scores, numbers = found
    expected = queries @ rows.astype(np.float32).T
    if allowed is not None:
        expected[:, ~allowed] = -np.inf
    best = -np.sort(-expected, axis=1)[:, :k]
    findable = min(k, len(rows) if allowed is None else int(allowed.sum()))
    assert scores.shape == numbers.shape == (len(queries), k)
    assert (numbers[:, findable:] == -1).all()
    assert (scores[:, findable:] == -np.inf).all()
    np.testing.assert_allclose(scores[:, :findable], best[:, :findable], atol=1e-3)
    for query in range(len(queries)):
        named = numbers[query, :findable]
        assert len(set(named.tolist())) == findable
        np.testing.assert_allclose(expected[query, named], scores[query, :findable], atol=1e-3)


@pytest.mark.parametrize("way", ["numpy", "faiss", "faiss without views", "without faiss"])
@given(
    n=st.integers(0, 60),
    d=st.sampled_from([1, 7, 32, 512]),
    k=st.integers(1, 80),
    queries=st.sampled_from([1, 3, 20]),
    split=st.floats(0, 1),
    seed=st.integers(0, 1000),
    filtered=st.booleans(),
)
@settings(max_examples=60)
def test_it_finds_what_brute_force_finds(way, n, d, k, queries, split, seed, filtered):
    rows = unit_rows(n, d, seed).astype(np.float16)
    vectors = unit_rows(queries, d, seed + 1)
    allowed = np.random.default_rng(seed).random(n) < 0.5 if filtered else None
    with pytest.MonkeyPatch.context() as patch:
        if way != "numpy":
            patch.setattr(exact, "_SMALL_BYTES", -1)
        if way == "faiss without views":
            patch.delattr(faiss, "MaybeOwnedVectorUInt8")
        if way == "without faiss":
            patch.setattr(exact, "is_installed", lambda: False)
        index = ExactIndex(d)
        index.add(rows[: int(split * n)])
        index.add(rows[int(split * n) :])
    assert len(index) == n
    given = None if allowed is None else AllowedRows(allowed)
    assert_is_brute_force(index.search(vectors, k, given), rows, vectors, k, allowed)


@given(n=st.integers(1, 200), k=st.integers(1, 30), seed=st.integers(0, 1000))
@settings(max_examples=30)
def test_the_nearest_among_some_rows(n, k, seed):
    rows, queries = unit_rows(n, 8, seed).astype(np.float16), unit_rows(2, 8, seed + 1)
    allowed = np.random.default_rng(seed).random(n) < 0.3
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact, "_BLOCK_BYTES", 7 * 2 * 8)  # seven rows
        found = nearest(queries, rows, k, np.flatnonzero(allowed))
    assert_is_brute_force(found, rows, queries, k, allowed)
    assert_is_brute_force(nearest(queries, rows, k), rows, queries, k)


def test_rows_stay_mapped_when_only_the_index_knows_them(tmp_path, monkeypatch):
    rows = unit_rows(3000, 64, 0)
    file = EmbeddingsFile(tmp_path / "image.f16", 64)
    file.write(rows, 0)
    monkeypatch.setattr(exact, "_SMALL_BYTES", 0)
    index = ExactIndex(64)
    index.add(file.rows(3000))
    _, found = index.search(rows[2990:2991], 1)
    assert found.tolist() == [[2990]]


def test_every_finite_float16_is_converted_exactly():
    everything = np.arange(1 << 16, dtype=np.uint16).view(np.float16).reshape(-1, 64)
    finite = np.isfinite(everything)
    converted = float32_of(everything).view(np.uint32)
    expected = everything.astype(np.float32).view(np.uint32)
    assert (converted[finite] == expected[finite]).all()


def test_equal_rows_have_equal_scores_for_one_query():
    rows = np.repeat(unit_rows(50, 37, 0).astype(np.float16), 3, axis=0)
    rows = rows[np.random.default_rng(0).permutation(len(rows))]
    index = ExactIndex(37)
    index.add(rows)
    scores, found = index.search(unit_rows(1, 37, 1), len(rows))
    by_row = dict(zip(found[0].tolist(), scores[0].tolist(), strict=True))
    alike = {}
    for row, score in by_row.items():
        alike.setdefault(rows[row].tobytes(), set()).add(score)
    assert [len(one) for one in alike.values()] == [1] * 50


def test_few_rows_are_searched_without_faiss():
    program = (
        "import sys, numpy as np; from retrieval.indices.exact import ExactIndex, nearest\n"
        "rows = np.eye(8, dtype=np.float16); index = ExactIndex(8); index.add(rows)\n"
        "nearest(np.eye(8, dtype=np.float32), rows, 2, among=np.arange(4))\n"
        "print(index.search(np.eye(8, dtype=np.float32), 1)[1].ravel().tolist(), "
        "'faiss' in sys.modules)"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert found.stdout.split("] ")[-1].strip() == "False"
    assert found.stdout.startswith("[0, 1, 2, 3, 4, 5, 6, 7]")


def test_rows_of_another_dimension_are_refused():
    with pytest.raises(ValueError, match=r"expected \(n, 8\) rows, got \(3, 4\)"):
        ExactIndex(8).add(unit_rows(3, 4, 0).astype(np.float16))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize("queries", [1, 20])
def test_rows_are_not_copied_into_memory(tmp_path, queries):
    rows = 1_000_000
    with (tmp_path / "image.f16").open("wb") as file:
        file.truncate(rows * 1024)
    measured = subprocess.run(
        [sys.executable, "-c", _MEMORY_OF_A_SEARCH, file.name, str(rows), str(queries)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert float(measured.stdout) < 120  # MiB; the file has 977


_MEMORY_OF_A_SEARCH = """
import re, sys
from pathlib import Path
import numpy as np
from retrieval.embeddings import EmbeddingsFile
from retrieval.indices.exact import ExactIndex

def own_memory():  # without the pages of mapped files, which the system can take back
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"RssAnon:\\s+(\\d+) kB", status)[1]) / 1024

path, rows, queries = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
index = ExactIndex(512)
vectors = np.ones((queries, 512), np.float32)
index.add(np.zeros((1, 512), np.float16))
index.search(vectors, 10)
before = own_memory()
index = ExactIndex(512)
index.add(EmbeddingsFile(Path(path), 512).rows(rows))
scores, _ = index.search(vectors, 10)
assert (scores == 0).all()
print(own_memory() - before)
"""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.embeddings import EmbeddingsFile
from retrieval.errors import DamagedLibraryError
from retrieval.indices import searcher as searcher_module
from retrieval.indices.base import Effort
from retrieval.indices.faiss.ivf import FactoryIndex
from retrieval.indices.generations import Training, Tuning, write
from retrieval.indices.searcher import Searcher

DIMENSION = 16


def unit(count: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, DIMENSION)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def embeddings(tmp_path):
    file = EmbeddingsFile(tmp_path / "image.f16", DIMENSION)
    file.write(unit(3000, seed=0), 0)
    return file


@pytest.fixture
def searcher(tmp_path, embeddings):
    return Searcher(tmp_path, "image", embeddings)


def build(directory, rows, factory="IVF8,Flat", nprobe=8):
    index = FactoryIndex(factory, rows)
    index.add(rows)
    tuning = Tuning(len(rows), 0.98, {"text": Effort(nprobe, 10)})
    training = Training(len(rows), 400, 0.5, is_forced=False, reasons=())
    return write(directory, "image", index, rows, training, tuning)


def best_scores(queries, rows, k, allowed=None):
    scores = queries @ rows.astype(np.float32).T
    if allowed is not None:
        scores[:, ~allowed] = -np.inf
    return -np.sort(-scores, axis=1)[:, :k]


def assert_exact(found, queries, rows, k, allowed=None):
    scores, numbers = found
    expected = best_scores(queries, rows, k, allowed)
    np.testing.assert_allclose(scores[:, : expected.shape[1]], expected, atol=1e-5)
    assert (numbers[:, expected.shape[1] :] == -1).all()
    for query, row_scores, row_numbers in zip(queries, scores, numbers, strict=True):
        named = row_numbers[row_numbers >= 0]
        assert len(set(named.tolist())) == len(named)
        truth = rows[named].astype(np.float32) @ query
        np.testing.assert_allclose(row_scores[: len(named)], truth, atol=1e-5)


@pytest.mark.parametrize("covered", [0, 1, 2000, 3000])
@pytest.mark.parametrize("k", [1, 10, 500, 4000])
@pytest.mark.parametrize("share", [None, 0.5, 0.01, 0.0])
def test_the_index_and_the_rows_past_it_are_one(tmp_path, searcher, embeddings, covered, k, share):
    rows = embeddings.rows(3000)
    if covered:
        build(tmp_path, rows[:covered], "IVF8,Flat" if covered > 8 else "Flat")
    allowed = None if share is None else np.random.default_rng(1).random(3000) < share
    queries = unit(3, seed=2)
    searcher.refresh(3000)
    assert (searcher.generation.rows if searcher.generation else 0) == covered
    assert_exact(searcher.search(queries, k, allowed), queries, rows, k, allowed)


@given(
    allowed=st.lists(st.booleans(), max_size=400),
    covered=st.integers(0, 300),
    few=st.integers(0, 300),
)
@settings(max_examples=40)
def test_filters_hold_wherever_rows_are(tmp_path_factory, allowed, covered, few):
    directory = tmp_path_factory.mktemp("space")
    file = EmbeddingsFile(directory / "image.f16", DIMENSION)
    file.write(unit(300, seed=0), 0)
    rows = file.rows(300)
    if covered:
        build(directory, rows[:covered], "Flat")
    searcher = Searcher(directory, "image", file)
    searcher.refresh(300)
    bitmap = np.array(allowed, dtype=np.bool_)
    fitting = np.zeros(300, dtype=np.bool_)
    fitting[: len(bitmap)] = bitmap[:300]
    queries = unit(2, seed=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(searcher_module, "FEW_ROWS", few)
        assert_exact(searcher.search(queries, 7, bitmap), queries, rows, 7, fitting)


def test_new_rows_are_found_at_once(searcher, embeddings, tmp_path):
    build(tmp_path, embeddings.rows(3000))
    searcher.refresh(3000)
    new = unit(5, seed=9)
    embeddings.write(new, 3000)
    _, before = searcher.search(new, 1)
    searcher.refresh(3005)
    _, after = searcher.search(new, 1)
    assert before.max() < 3000
    assert after[:, 0].tolist() == [3000, 3001, 3002, 3003, 3004]
    assert searcher.generation.rows == 3000


def test_an_older_view_of_the_catalog_takes_nothing_back(searcher):
    searcher.refresh(3000)
    searcher.refresh(2000)
    assert len(searcher.rows) == 3000


def test_a_newer_generation_is_taken_up_without_waiting(searcher, embeddings, tmp_path):
    rows = embeddings.rows(3000)
    build(tmp_path, rows[:1000])
    searcher.refresh(3000)
    build(tmp_path, rows[:2000])
    searcher.refresh(3000)
    searcher.settle()
    assert searcher.generation.number == 2
    queries = unit(3, seed=2)
    assert_exact(searcher.search(queries, 10), queries, rows, 10)


def test_generations_are_listed_again_where_the_clock_of_the_files_is_coarse(
    searcher, embeddings, tmp_path, monkeypatch
):
    rows = embeddings.rows(3000)
    tick = time.time() + 60  # so that it lasts, however slow this machine is
    for covered in (1000, 3000):
        build(tmp_path, rows[:covered])
        os.utime(tmp_path, (tick, tick))
        searcher.refresh(3000)
    searcher.settle()
    assert searcher.generation.number == 2
    os.utime(tmp_path, (0, 0))
    searcher.refresh(3000)
    monkeypatch.setattr(searcher_module.generations, "generation_numbers", None)
    searcher.refresh(3000)


def test_a_generation_ahead_of_the_committed_rows_waits_for_them(searcher, embeddings, tmp_path):
    build(tmp_path, embeddings.rows(3000))
    searcher.refresh(2000)
    assert searcher.generation is None
    assert "only 2,000 are committed" in searcher.problem
    searcher.refresh(3000)
    assert searcher.generation.rows == 3000
    assert searcher.problem is None


def test_a_bad_file_is_told_once_tried_and_searched_around(searcher, embeddings, tmp_path):
    rows = embeddings.rows(3000)
    file = build(tmp_path, rows).index_file(tmp_path)
    file.write_bytes(bytes(file.stat().st_size))
    queries = unit(3, seed=2)
    for _ in range(2):
        searcher.refresh(3000)
        assert "checksum" in searcher.problem
        assert_exact(searcher.search(queries, 10), queries, rows, 10)
    build(tmp_path, rows)
    searcher.refresh(3000)
    assert searcher.problem is None
    assert searcher.generation.number == 2


def test_the_index_in_use_outlives_its_files(searcher, embeddings, tmp_path):
    rows = embeddings.rows(3000)
    build(tmp_path, rows)
    searcher.refresh(3000)
    for file in tmp_path.glob("image-*"):
        file.unlink()
    searcher.refresh(3000)
    queries = unit(3, seed=2)
    assert searcher.generation is not None
    assert_exact(searcher.search(queries, 10), queries, rows, 10)


def test_embeddings_that_were_cut_are_an_error_and_no_crash(searcher, embeddings):
    searcher.refresh(3000)
    embeddings.path.write_bytes(embeddings.path.read_bytes()[:-1])
    with pytest.raises(DamagedLibraryError):
        searcher.refresh(3000)


def test_more_hits_than_the_visited_lists_hold_are_found(searcher, embeddings, tmp_path):
    rows = embeddings.rows(3000)
    build(tmp_path, rows, "IVF32,Flat", nprobe=1)
    searcher.refresh(3000)
    _, found = searcher.search(unit(4, seed=3), 2900)
    assert (found >= 0).all()


@pytest.mark.slow
def test_swaps_under_concurrent_searches_lose_and_double_nothing(tmp_path):
    """10,000 searches in threads, while rows are added and generations written."""
    step, steps, k, searches = 100, 20, 10, 10_000
    vectors = unit(1000 + step * steps, seed=0)
    queries = unit(16, seed=1)
    file = EmbeddingsFile(tmp_path / "image.f16", DIMENSION)
    file.write(vectors[:1000], 0)
    stored = vectors.astype(np.float16).astype(np.float32)
    counts = [1000 + step * number for number in range(steps + 1)]
    oracle = np.stack([best_scores(queries, stored[:count], k) for count in counts])
    committed = [0]
    done = threading.Event()
    searcher = Searcher(tmp_path, "image", file)
    used: set[int] = set()

    def search(seed: int) -> int:
        generator = np.random.default_rng(seed)
        for _ in range(searches // 4):
            query = int(generator.integers(len(queries)))
            first = committed[0]
            searcher.refresh(counts[first])
            if searcher.generation:
                used.add(searcher.generation.number)
            [scores], [rows] = searcher.search(queries[query : query + 1], k)
            last = committed[0]
            assert len(set(rows.tolist())) == k
            assert rows.min() >= 0
            np.testing.assert_allclose(stored[rows] @ queries[query], scores, atol=1e-5)
            assert any(
                np.allclose(oracle[now, query], scores, atol=1e-5) for now in range(first, last + 1)
            )
        return searches // 4

    def write_on() -> None:
        while not done.is_set():
            if committed[0] < steps:
                number = committed[0] + 1
                file.write(vectors[counts[number - 1] : counts[number]], counts[number - 1])
                committed[0] = number
            build(tmp_path, file.rows(counts[committed[0]]))

    with ThreadPoolExecutor(5) as pool:
        writing = pool.submit(write_on)
        searching = [pool.submit(search, seed) for seed in range(4)]
        try:
            assert sum(thread.result() for thread in searching) == searches
        finally:
            done.set()
        writing.result()
    searcher.settle()
    assert committed[0] == steps
    assert len(used) > 5

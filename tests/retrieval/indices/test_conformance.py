"""What every vector engine must do, whichever is installed; brute force is the oracle."""

from importlib.util import find_spec

import numpy as np
import pytest

from retrieval.embeddings import EmbeddingsFile
from retrieval.indices.base import ENGINES, AllowedRows, BuildCancelled, Effort, load_engine
from retrieval.indices.generations import Training, Tuning, load_latest, write
from retrieval.indices.refine import propose_rows, search_index, search_refined
from retrieval.indices.searcher import Searcher

ROWS, DIMENSION, K = 1500, 32, 10
KINDS = {
    "faiss": ("IVF16,PQ16", "IVF16,PQ16x4fs", "HNSW16", "RR32,IVF16,RaBitQ"),
    "milvus": ("IVF_SQ8,nlist=16",),
    "pgvector": ("IVFFLAT,lists=16", "HNSW", "HNSW_BITS"),
    "usearch": ("f16", "i8"),
}


def is_installed(name):
    package = load_engine(name).package
    return package is None or find_spec(package) is not None


ASKED = [
    pytest.param((name, kind), marks=[pytest.mark.slow] if load_engine(name).on_server else [])
    for name in filter(is_installed, ENGINES)
    for kind in KINDS.get(name, ("",))
]
THOROUGH = Effort(breadth=256, overfetch=10)
IN_ONE_FILE = ("faiss", "hnswlib", "milvus", "pgvector", "usearch")
"""What can be a generation of a library."""


@pytest.fixture(scope="module")
def rows():
    """Unit vectors in 40 clusters, as embeddings are; the last twelve are equal."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(40, DIMENSION))
    vectors = centres[random.integers(40, size=ROWS)] + 0.4 * random.normal(size=(ROWS, DIMENSION))
    vectors[-12:] = vectors[-12]
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)


@pytest.fixture(scope="module")
def queries(rows):
    """Near to rows, but none of them."""
    vectors = rows[:40].astype(np.float32)
    vectors = vectors + 0.05 * np.random.default_rng(1).normal(size=vectors.shape)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


class Store:
    """An engine's index at a path."""

    def __init__(self, name, kind, path):
        self.engine, self.kind, self.path = load_engine(name), kind, path

    def build(self, rows):
        index = self.engine.create(self.path, rows, self.kind)
        index.threads = 1  # several insert in another order each time, which makes another graph
        index.add(rows)
        index.save(self.path)
        return index

    def reopen(self, index, rows):
        index.close()
        return self.engine.open(self.path, rows, index.kind)


@pytest.fixture(scope="module", params=ASKED, ids=lambda asked: "-".join(filter(None, asked)))
def engine(request):
    name = request.param[0]
    if not load_engine(name).on_server:
        yield request.param
        return
    address = request.getfixturevalue(f"{name}_server")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(load_engine(name).variable, address)
        yield request.param


@pytest.fixture
def store(engine, tmp_path):
    return Store(*engine, tmp_path / f"image-1.{engine[0]}")


@pytest.fixture(scope="module")
def index(engine, rows, tmp_path_factory):
    """Over all rows; for tests that only search."""
    name = engine[0]
    index = Store(*engine, tmp_path_factory.mktemp("index") / f"image-1.{name}").build(rows)
    yield index
    index.close()


def exact(rows, queries, k, allowed=None):
    scores = queries @ rows.astype(np.float32).T
    if allowed is not None:
        scores[:, ~allowed] = -np.inf
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def recall(found, expected):
    hits = [
        len(np.intersect1d(got[got >= 0], want)) for got, want in zip(found, expected, strict=True)
    ]
    return sum(hits) / expected.size


def assert_is_well_formed(scores, found, count, k):
    assert scores.shape == found.shape == (len(found), k)
    assert scores.dtype == np.float32
    assert found.dtype == np.int64
    named = found >= 0
    assert (named[:, :-1] >= named[:, 1:]).all()
    assert (scores[~named] == -np.inf).all()
    assert found.max(initial=-1) < count
    assert (np.diff(np.where(named, scores, -9), axis=1) <= 1e-6).all()
    assert all(len(set(row[row >= 0].tolist())) == (row >= 0).sum() for row in found)


@pytest.mark.parametrize("name", ENGINES)
def test_every_engine_is_tested(name):
    if not is_installed(name):
        pytest.skip(f"{load_engine(name).package} is not installed")
    assert name in {asked.values[0][0] for asked in ASKED}


def test_it_is_described(index, engine, rows):
    assert index.name == engine[0]
    assert index.kind
    assert (len(index), index.dimension) == (ROWS, DIMENSION)
    assert index.max_breadth > 0
    assert set(index.details()) == set(index.detail_names)
    assert index.problem is None


@pytest.mark.parametrize("k", [1, K, 100])
def test_it_recalls_what_brute_force_finds(index, rows, queries, k):
    scores, found = search_refined(index, rows, queries, k, THOROUGH)
    assert_is_well_formed(scores, found, ROWS, k)
    assert recall(found, exact(rows, queries, k)) >= 0.98
    truth = np.einsum("qd,qkd->qk", queries, rows[found].astype(np.float32))
    np.testing.assert_allclose(scores[found >= 0], truth[found >= 0], atol=2e-3)


def test_scores_of_an_engine_that_refines_are_exact(index, rows, queries):
    if not index.capabilities.refines:
        pytest.skip("its scores are estimates")
    scores, found = index.search(queries, K, None, THOROUGH)
    truth = np.einsum("qd,qkd->qk", queries, rows[found].astype(np.float32))
    np.testing.assert_allclose(scores, truth, atol=1e-3)


def test_one_query_finds_what_it_finds_among_others(index, queries):
    _, together = index.search(queries, K, None, THOROUGH)
    for query in range(3):
        _, [alone] = index.search(queries[query : query + 1], K, None, THOROUGH)
        # One by one and together may be computed in another order of additions.
        assert len(np.intersect1d(alone, together[query])) >= K - 1


@pytest.mark.parametrize("share", [1.0, 0.5, 0.1, 0.01])
def test_only_allowed_rows_are_found_and_nearly_all_of_them(index, rows, queries, share):
    bitmap = np.random.default_rng(2).random(ROWS) < share
    allowed = AllowedRows(bitmap)
    scores, found = search_refined(index, rows, queries, K, THOROUGH, allowed)
    assert_is_well_formed(scores, found, ROWS, K)
    assert bitmap[found[found >= 0]].all()
    wanted = min(K, allowed.count)
    assert recall(found, exact(rows, queries, wanted, bitmap)) >= 0.95


def test_nothing_is_found_where_nothing_is_allowed(index, queries):
    nothing = AllowedRows(np.zeros(ROWS, np.bool_))
    for count in (1, 5):
        scores, found = search_index(index, queries[:count], 3, nothing, THOROUGH)
        assert found.tolist() == [[-1] * 3] * count
        assert (scores == -np.inf).all()


def test_a_removed_row_is_found_no_more_and_no_other_is_lost(index, rows, queries):
    """Deletion is a mark: what is removed is not allowed."""
    _, before = search_refined(index, rows, queries, K, THOROUGH)
    live = np.ones(ROWS, np.bool_)
    live[before[:, 0]] = False
    _, after = search_refined(index, rows, queries, K, THOROUGH, AllowedRows(live))
    assert live[after].all()
    for old, new in zip(before, after, strict=True):
        remaining = old[live[old]]
        assert len(np.intersect1d(remaining, new)) >= 0.9 * len(remaining)


def test_lists_may_be_longer_than_the_rows(store, rows, queries):
    index = store.build(rows[:300])
    scores, found = index.search(queries[:3], 320, None, Effort(breadth=2000))
    assert_is_well_formed(scores, found, 300, 320)
    assert (found >= 0).sum(axis=1).min() >= 0.95 * 300
    proposed = propose_rows(index, queries[:3], 320, None, Effort(breadth=1))
    assert (proposed >= 0).sum(axis=1).min() >= 0.95 * 300
    index.close()


def test_equal_rows_are_all_found_once(index, rows):
    scores, [found] = search_refined(index, rows, rows[-1:].astype(np.float32), 12, THOROUGH)
    assert sorted(found.tolist()) == list(range(ROWS - 12, ROWS))
    assert np.ptp(scores) < 1e-3
    if not index.capabilities.refines:
        assert found.tolist() == sorted(found.tolist())  # equal scores: the older first


def test_added_rows_are_found_and_outlive_a_restart(store, rows, queries):
    index = store.build(rows[:1000])
    steps = []
    index.add(rows[1000:], on_progress=lambda done, total: steps.append((done, total)))
    assert not steps or steps[-1] == (500, 500)
    index.save(store.path)
    expected = exact(rows, queries, K)
    for _ in range(2):
        assert len(index) == ROWS
        _, found = search_refined(index, rows, queries, K, THOROUGH)
        assert recall(found, expected) >= 0.95
        new = rows[1000:1100].astype(np.float32)
        _, found = search_refined(index, rows, new, 1, THOROUGH)
        assert np.mean(found[:, 0] == np.arange(1000, 1100)) >= 0.95
        index = store.reopen(index, rows)
    index.close()


def test_adding_can_be_cancelled(store, rows):
    index = store.build(rows[:300])
    if index.name != "exact":
        with pytest.raises(BuildCancelled):
            index.add(rows[300:], should_stop=lambda: True)
    index.close()


def test_a_query_changes_nothing_for_others(index, queries):
    _, before = index.search(queries, K, None, THOROUGH)
    index.search(queries, K, None, Effort(breadth=1))
    _, after = index.search(queries, K, None, THOROUGH)
    np.testing.assert_array_equal(after, before)


def test_a_library_finds_with_it(store, rows, queries):
    """As a generation beside the embeddings, with rows past the index, after a restart."""
    if store.engine.name not in IN_ONE_FILE:
        pytest.skip("its index is no single file")
    if not store.engine.reads_untrusted:
        pytest.skip("its files are not read from a library, which may be a stranger's")
    directory = store.path.parent
    file = EmbeddingsFile(directory / "image.f16", DIMENSION)
    file.write(rows, 0)
    index = store.build(rows[:1200])
    training = Training(1200, 0, 0.0, is_forced=True, reasons=())
    tuning = Tuning(1200, 0.98, {"text": THOROUGH})
    written = write(directory, "image", index, rows[:1200], training, tuning)
    assert load_latest(directory, "image", rows)[0] == written
    searcher = Searcher(directory, "image", file)
    searcher.refresh(ROWS)
    assert searcher.generation == written
    _, found = searcher.search(queries, K)
    assert recall(found, exact(rows, queries, K)) >= 0.98

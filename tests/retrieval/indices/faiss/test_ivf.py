import numpy as np
import pytest

from retrieval.errors import UsageError
from retrieval.indices.base import AllowedRows, BuildCancelled, Effort
from retrieval.indices.exact import ExactIndex
from retrieval.indices.faiss.ivf import LEAST_POINTS_PER_CENTROID, FactoryIndex, probes_for

pytestmark = pytest.mark.slow

FLOORS = {
    "Flat": 0.98,
    "IVF16,Flat": 0.98,
    "IVF16,SQ8": 0.95,
    "IVF16,PQ16": 0.5,
    "IVF16,PQ32x4fs": 0.5,
    "OPQ16_32,IVF16,PQ16": 0.5,
    "IVF16_HNSW8,PQ16": 0.5,
    "IVF16,RaBitQ": 0.4,
    "IVF16,RaBitQfs": 0.4,
    "HNSW16": 0.95,
}
"""Recall@10 of the index alone, without over-fetch and refine."""

EMPTY = np.empty((0, 32), np.float16)


@pytest.fixture(scope="module")
def rows():
    """Unit vectors in 50 clusters, as embeddings are, not uniform noise."""
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(50, 32))
    vectors = centres[generator.integers(0, 50, 4000)] + 0.4 * generator.normal(size=(4000, 32))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)


@pytest.fixture(scope="module")
def queries(rows):
    return rows[:100].astype(np.float32)


@pytest.fixture(scope="module")
def built(rows):
    """Indices by factory string over all rows, added in two steps, built when first asked for."""
    indices = {}

    def build(factory: str) -> FactoryIndex:
        if factory not in indices:
            index = FactoryIndex(factory, rows)
            index.add(rows[:1500])
            index.add(rows[1500:])
            indices[factory] = index
        return indices[factory]

    return build


def recall_at_10(index, rows, queries, allowed=None, overfetch=1, **options) -> float:
    exact = ExactIndex(rows.shape[1])
    exact.add(rows)
    allowed = None if allowed is None else AllowedRows(allowed)
    _, expected = exact.search(queries, 10, allowed)
    _, found = index.search(queries, 10 * overfetch, allowed, **options)
    wanted = [set(row[row >= 0]) for row in expected]
    return np.mean(
        [len(want & set(got)) / len(want) for want, got in zip(wanted, found, strict=True)]
    )


@pytest.mark.parametrize(
    "factory",
    [pytest.param(f, marks=pytest.mark.slow) if f.startswith("OPQ") else f for f in FLOORS],
)
def test_recall_against_brute_force(built, rows, queries, factory):
    index = built(factory)
    assert len(index) == 4000
    assert recall_at_10(index, rows, queries) >= FLOORS[factory]


@pytest.mark.slow
@pytest.mark.parametrize("factory", FLOORS)
def test_over_fetch_finds_what_codes_blur(built, rows, queries, factory):
    assert recall_at_10(built(factory), rows, queries, overfetch=10) >= 0.98


@pytest.mark.parametrize("factory", FLOORS)
@pytest.mark.slow
def test_a_saved_index_finds_the_same(built, rows, queries, factory, tmp_path):
    index = built(factory)
    index.save(tmp_path / "image-1.faiss")
    again = FactoryIndex.open(tmp_path / "image-1.faiss", EMPTY, factory)
    assert (len(again), again.dimension, again.lists, again.code_bytes, again.kind) == (
        4000,
        32,
        index.lists,
        index.code_bytes,
        factory,
    )
    np.testing.assert_array_equal(again.search(queries, 20)[1], index.search(queries, 20)[1])
    again.add(rows[:1])
    assert len(again) == 4001


@pytest.mark.parametrize("factory", FLOORS)
@pytest.mark.parametrize("selectivity", [0.5, 0.1, 0.01])
def test_only_allowed_rows_are_found_and_nearly_all_of_them(
    built, rows, queries, factory, selectivity
):
    index = built(factory)
    allowed = np.random.default_rng(1).random(4000) < selectivity
    scores, found = index.search(queries, 10, AllowedRows(allowed))
    assert allowed[found[found >= 0]].all()
    assert (scores[:, :-1] >= scores[:, 1:]).all()
    assert recall_at_10(index, rows, queries, allowed, overfetch=10) >= 0.95


def test_rows_far_from_the_query_are_found_where_only_they_are_allowed(rows, queries):
    index = FactoryIndex("IVF64,SQ8", rows)
    index.add(rows)
    similarity = queries @ rows.astype(np.float32).T
    one_probe = Effort(breadth=1, overfetch=4)
    recalls = [
        recall_at_10(
            index,
            rows,
            query[None],
            scores < np.quantile(scores, 0.3),
            one_probe.overfetch,
            effort=one_probe,
        )
        for query, scores in zip(queries, similarity, strict=True)
    ]
    assert np.mean(recalls) >= 0.95


def test_nothing_is_found_where_nothing_is_allowed(built, queries):
    scores, found = built("IVF16,PQ16").search(queries, 3, AllowedRows(np.zeros(4000, bool)))
    assert (found == -1).all()
    assert (scores == -np.inf).all()


def test_probes_rise_as_selectivity_falls():
    probes = [probes_for(8, share) for share in (1, 0.5, 0.1, 0.01, 0)]
    assert probes[0] == 8
    assert probes == sorted(set(probes))


def test_settings_travel_with_the_call(built, rows):
    index = built("IVF16,Flat")
    queries = np.random.default_rng(2).normal(size=(100, 32)).astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    few = recall_at_10(index, rows, queries, effort=Effort(breadth=1))
    all_lists = Effort(breadth=16)
    assert few < 0.8
    assert recall_at_10(index, rows, queries, effort=all_lists) > 0.98
    assert recall_at_10(index, rows, queries, effort=Effort(breadth=1)) == few


def test_scores_are_inner_products(built, rows, queries):
    scores, found = built("IVF16,Flat").search(queries, 3)
    expected = np.einsum("qd,qkd->qk", queries, rows[found].astype(np.float32))
    np.testing.assert_allclose(scores, expected, atol=2e-3)


def test_too_few_rows_leave_places_empty(rows):
    index = FactoryIndex("IVF16,Flat", rows, nprobe=1)
    index.add(rows[:3])
    scores, found = index.search(rows[:1].astype(np.float32), 10)
    assert (found == -1).sum() >= 7
    assert (scores[found == -1] == -np.inf).all()


@pytest.mark.parametrize("factory", ["IVF16,PQ16", "IVF16,PQ32x4fs"])
def test_a_loaded_index_keeps_no_tables_in_memory(built, factory, tmp_path):
    built(factory).save(tmp_path / "image-1.faiss")
    again = FactoryIndex.open(tmp_path / "image-1.faiss", EMPTY, factory)
    assert again._inverted.precomputed_table.size() == 0


def test_the_same_seed_builds_the_same_index(rows, queries):
    found = []
    for _ in range(2):
        index = FactoryIndex("IVF16,PQ8", rows[:2000], seed=3)
        index.add(rows)
        found.append(index.search(queries, 10)[1])
    np.testing.assert_array_equal(*found)


def test_the_training_sample_has_enough_rows_for_each_centroid(rows):
    index = FactoryIndex("IVF16,Flat", rows)
    assert index.training_rows(1000) == 1000
    assert index.training_rows(10**9) >= LEAST_POINTS_PER_CENTROID * 256
    index._inverted.nlist = 8192
    assert index.training_rows(10**9) >= LEAST_POINTS_PER_CENTROID * 8192


def test_adding_tells_its_progress_and_stops_when_told(rows, monkeypatch):
    monkeypatch.setattr(FactoryIndex, "block_rows", 1000)
    index = FactoryIndex("IVF16,Flat", rows)
    states = []
    with pytest.raises(BuildCancelled):
        index.add(
            rows,
            on_progress=lambda done, total: states.append((done, total)),
            should_stop=lambda: len(states) == 2,
        )
    assert states == [(1000, 4000), (2000, 4000)]


def test_the_quantisation_error_grows_with_drift(built, rows):
    generator = np.random.default_rng(5)
    strange = generator.normal(size=(500, 32))
    strange /= np.linalg.norm(strange, axis=1, keepdims=True)
    for factory in ("IVF16,PQ16", "OPQ16_32,IVF16,PQ16"):
        index = built(factory)
        known = index.quantisation_error(rows[::8])
        assert 0 < 1.5 * known < index.quantisation_error(strange.astype(np.float16))
    assert built("HNSW16").quantisation_error(rows) == 0


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("nonsense", "not a FAISS factory string"),
        ("IVF16,PQ7", "multiple of the number of subquantizers"),
        ("IVF100000,Flat", "cannot be trained on 4,000 vectors"),
    ],
)
def test_strings_that_cannot_be_meant(rows, factory, message):
    with pytest.raises(UsageError, match=message):
        FactoryIndex(factory, rows)


def test_a_rotation_of_fewer_rows_than_dimensions_is_refused(rows):
    """FAISS would end the process."""
    with pytest.raises(UsageError, match="rotation needs at least 32"):
        FactoryIndex("OPQ8_16,IVF4,PQ8", rows[:31])

import numpy as np
import pytest

from retrieval.indices import tuning
from retrieval.indices.base import Effort
from retrieval.indices.exact import nearest
from retrieval.indices.faiss.ivf import FactoryIndex
from retrieval.indices.tuning import TuningQueries, tune


@pytest.fixture(scope="module")
def rows():
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(200, 32))
    vectors = centres[generator.integers(0, 200, 6000)] + 0.5 * generator.normal(size=(6000, 32))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)


@pytest.fixture(scope="module")
def queries(rows):
    """Images near to rows, and texts that lie apart from all of them."""
    generator = np.random.default_rng(1)
    images = rows[:200].astype(np.float32) + 0.05 * generator.normal(size=(200, 32))
    texts = images + 0.3 * generator.normal(size=(200, 32)) + 0.2 * generator.normal(size=32)
    return {
        name: (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
        for name, vectors in (("image", images), ("text", texts))
    }


@pytest.fixture(scope="module")
def index(rows):
    index = FactoryIndex("IVF64,PQ16x4fs", rows)
    index.add(rows)
    return index


def tuning_queries(**vectors):
    return {name: TuningQueries(some) for name, some in vectors.items()}


def recall(index, rows, queries, settings, k=10) -> float:
    _, expected = nearest(queries, rows, k)
    _, proposed = index.search(queries, k * settings.overfetch, effort=settings)
    shares = []
    for query, found, want in zip(queries, proposed, expected, strict=True):
        _, [best] = nearest(query[None], rows, k, found[found >= 0])
        shares.append(len(set(best) & set(want)) / k)
    return float(np.mean(shares))


@pytest.mark.parametrize("target", [0.8, 0.95, 0.99])
def test_the_target_is_reached_for_each_modality(index, rows, queries, target):
    settings = tune(index, rows, tuning_queries(**queries), target)
    assert settings.keys() == {"image", "text"}
    for modality, chosen in settings.items():
        assert chosen.recall >= target
        assert recall(index, rows, queries[modality], chosen) == pytest.approx(
            chosen.recall, abs=2e-3
        )


@pytest.mark.slow
def test_a_higher_target_costs_more(index, rows, queries):
    costs = []
    for target in (0.5, 0.99):
        settings = tune(index, rows, tuning_queries(**queries), target)["text"]
        costs.append(settings.breadth * settings.overfetch)
    assert costs[0] < costs[1]


def test_the_best_there_is_where_the_target_cannot_be_reached(index, rows, queries, monkeypatch):
    monkeypatch.setattr(tuning, "OVERFETCH", (1,))
    chosen = tune(index, rows, tuning_queries(**queries), 0.999)["image"]
    assert chosen.recall < 0.999
    assert recall(index, rows, queries["image"], chosen) == pytest.approx(chosen.recall, abs=2e-3)


def test_a_query_does_not_find_the_row_that_it_was_taken_from(rows):
    only_itself = FactoryIndex("IVF4,Flat", rows)
    only_itself.add(rows)
    sources = np.arange(0, 400, 2)
    asked = TuningQueries(rows[sources].astype(np.float32), sources)
    settings = tune(only_itself, rows, {"image": asked}, 1.0, 1)
    # Without itself, the best row is the second candidate at the earliest.
    assert settings["image"].overfetch > 1
    assert settings["image"].recall == 1


def test_rows_past_the_index_are_not_missed(index, rows, queries):
    more = np.concatenate([rows, queries["image"].astype(np.float16)])
    assert tune(index, more, tuning_queries(image=queries["image"]), 0.95)["image"].recall >= 0.95


@pytest.mark.slow
def test_a_graph_has_a_breadth_in_place_of_probes(rows, queries):
    graph = FactoryIndex("HNSW16", rows)
    graph.add(rows)
    assert tune(graph, rows, tuning_queries(**queries), 0.95)["text"].recall >= 0.95


def test_settings_are_written_as_json():
    import json
    from dataclasses import asdict

    settings = Effort(breadth=8, overfetch=5, recall=0.97)
    assert Effort(**json.loads(json.dumps(asdict(settings)))) == settings


@pytest.mark.slow
def test_the_bits_of_a_query_are_tuned(rows, queries):
    index = FactoryIndex("RR32,IVF64,RaBitQ", rows)
    index.add(rows)
    settings = tune(index, rows, tuning_queries(**queries), 0.9)
    for modality, chosen in settings.items():
        assert chosen.query_bits in {4, 8}
        assert recall(index, rows, queries[modality], chosen) == pytest.approx(
            chosen.recall, abs=2e-3
        )


@pytest.mark.slow
def test_slow_reads_spare_candidates(index, rows, queries):
    asked = tuning_queries(text=queries["text"])
    slow = tune(index, rows, asked, 0.95, read_s=1.0)["text"]
    fast = tune(index, rows, asked, 0.95)["text"]
    assert slow.overfetch <= fast.overfetch
    assert slow.recall >= 0.95

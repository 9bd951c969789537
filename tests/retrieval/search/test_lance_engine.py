import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from indexer.pipeline import index_sources
from retrieval.errors import UsageError
from retrieval.filters import Filter
from retrieval.media import Modality
from retrieval.search import lance_engine
from retrieval.search.facet_values import FacetQuestion
from retrieval.search.item_order import Order
from retrieval.search.joint import JointEngine
from retrieval.search.lance_engine import LanceEngine
from retrieval.search.query import (
    ImagePart,
    ItemPart,
    JointQuery,
    Mode,
    Query,
    Reranking,
    Sort,
    TextPart,
    VectorPart,
)
from tests.opened_tables import FILTERS, Twins, export_twin, name_of, rich_twins

lance = pytest.importorskip("lance", reason="needs Lance: pip install 'mmsearch[cluster]'")
pytestmark = pytest.mark.slow

WORDS = ["a red boat", "dog in the snow", "whales", "IMG 003", "Berlin", "paragraph 7", "x"]
NOT_RERANKED = Reranking("none")


@pytest.fixture(scope="module")
def module_bucket(object_store):
    with pytest.MonkeyPatch.context() as environment:
        for name, value in object_store.environment.items():
            environment.setenv(name, value)
        yield object_store.new_bucket()


@pytest.fixture(scope="module", params=["directory", "store"])
def twins(request, tmp_path_factory, tiny_encoder) -> Twins:
    location = None
    if request.param == "store":
        location = f"lance+s3://{request.getfixturevalue('module_bucket')}/table"
    return rich_twins(tmp_path_factory.mktemp("twins"), tiny_encoder, location)


@pytest.fixture(scope="module")
def engines(twins):
    return tuple(JointEngine(library) for library in twins.both)


def scores_of(hit) -> dict[str, float | None]:
    return {"similarity": hit.similarity, "words": hit.words}


def assert_same_hits(expected, found) -> None:
    """Compare hits by their items and scores; of equal scores, either may come first."""
    assert len(found.hits) == len(expected.hits)
    assert found.mode == expected.mode
    by_name = {name_of(hit.item): hit for hit in found}
    assert len(by_name) == len(found.hits)
    for one, other in zip(expected, found, strict=True):
        assert scores_of(other) == pytest.approx(scores_of(one), abs=1e-3)
        if (same := by_name.get(name_of(one.item))) is not None:
            assert scores_of(same) == pytest.approx(scores_of(one), abs=1e-3)
            assert same.relevance == pytest.approx(one.relevance, abs=2e-2)
    if len(expected.hits) < 5:
        assert by_name.keys() == {name_of(hit.item) for hit in expected}


def drawn(seed: int, count: int, twins: Twins) -> list[tuple[JointQuery, JointQuery]]:
    """Draw queries, each to the library and to the table, where items have other ids."""
    chance = random.Random(seed)
    space_id = twins.library.space().id
    with twins.library.catalog.snapshot() as snapshot:
        items = snapshot.items(space_id, modality=Modality.IMAGE, limit=100)
    queries = []
    for _ in range(count):
        item = chance.choice(items)
        words, others = chance.sample(WORDS, 2)
        parts: list = [TextPart(words)]
        if chance.random() < 0.3:
            pixels = np.random.default_rng(chance.randrange(9)).integers(0, 256, (32, 32, 3))
            parts = [ImagePart(Image.fromarray(pixels.astype(np.uint8)))]
        if chance.random() < 0.2:
            parts.append(TextPart(others, -1.0))
        likes = chance.random() < 0.2
        sort = chance.choice([Sort.RELEVANCE] * 3 + [Sort.DATE, Sort.NAME])
        query = Query(
            (*parts, *((ItemPart(item.id),) if likes else ())),
            k=chance.choice([1, 4, 30]),
            where=chance.choice(FILTERS),
            mode=chance.choice(list(Mode)) if isinstance(parts[0], TextPart) else Mode.VECTOR,
            # By date and name, hits end where relevance does, which a copy may change a little.
            min_relevance=0.0,
            sort=sort,
            group_by_file=chance.random() < 0.3,
            diversity=0.4 if sort is Sort.RELEVANCE and chance.random() < 0.2 else 0.0,
        )
        there = query
        if likes:
            there = replace(query, parts=(*parts, ItemPart(twins.id_in_table(item))))
        modalities = chance.choice([(Modality.IMAGE,), (Modality.TEXT,), tuple(Modality)])
        queries.append((JointQuery(query, modalities), JointQuery(there, modalities)))
    return queries


def test_hits_are_those_of_the_library(twins, engines):
    found = 0
    for here, there in drawn(1, 50, twins):
        expected = engines[0].search(here, NOT_RERANKED)
        assert_same_hits(expected, engines[1].search(there, NOT_RERANKED))
        found += len(expected.hits)
    assert found > 100


def test_reranked_hits_are_those_of_the_library(twins, engines):
    for text in ("a dog", "noise"):
        query = JointQuery(Query((TextPart(text),), k=10), (Modality.IMAGE,))
        reranking = Reranking("auto", budget_ms=60_000)
        assert_same_hits(engines[0].search(query, reranking), engines[1].search(query, reranking))


def test_pages_are_parts_of_one_ranking(engines):
    query = Query((TextPart("a red boat"),), k=60, mode=Mode.HYBRID, where=Filter(hidden="any"))
    for modalities in ((Modality.IMAGE,), tuple(Modality)):
        whole = engines[1].search(JointQuery(query, modalities), NOT_RERANKED)
        paged, cursor = [], None
        while True:
            page = engines[1].search(
                JointQuery(replace(query, k=7, cursor=cursor), modalities), NOT_RERANKED
            )
            paged += page.hits
            cursor = page.next_cursor
            if cursor is None or len(paged) >= 60:
                break
        assert [name_of(hit.item) for hit in paged[:60]] == [name_of(hit.item) for hit in whole]


def test_a_page_holds_nothing_that_came_after_the_first(tmp_path, tiny_encoder):
    twins = rich_twins(tmp_path, tiny_encoder)
    engine = JointEngine(twins.table)
    query = Query((TextPart("a"),), k=5)
    first = engine.search(query, NOT_RERANKED)
    before = {name_of(hit.item) for hit in engine.search(replace(query, k=500), NOT_RERANKED)}
    Image.new("RGB", (30, 30), "red").save(tmp_path / "photos" / "new.png")
    index_sources(twins.library, tiny_encoder, [tmp_path / "photos"], workers=1)
    twins.follow()
    rest = engine.search(replace(query, k=500, cursor=first.next_cursor), NOT_RERANKED)
    assert {name_of(hit.item) for hit in (*first, *rest)} == before
    now = {name_of(hit.item) for hit in engine.search(replace(query, k=500), NOT_RERANKED)}
    assert {Path(path).name for path, _, _ in now - before} == {"new.png"}


@pytest.mark.parametrize("where", FILTERS[::2])
def test_facets_count_what_the_library_counts(engines, where):
    for modality in Modality:
        one, other = (e.main.facets(where=where, modality=modality) for e in engines)
        assert other == one
        for asked in (
            FacetQuestion("years"),
            FacetQuestion("folders"),
            FacetQuestion("months", contains="07"),
            FacetQuestion("columns.caption", contains="BOAT"),
            FacetQuestion("columns.nothing"),
            FacetQuestion("collections"),
            FacetQuestion("cameras", limit=1),
        ):
            values = [e.main.facet_values(asked, where=where, modality=modality) for e in engines]
            assert values[1] == values[0], asked


def test_facets_of_a_query_count_its_hits(engines):
    query = Query((TextPart("red boat"),), mode=Mode.TEXT)
    one, other = (engine.main.facets(query) for engine in engines)
    assert other == one
    assert one.total


def test_a_list_can_be_skipped(twins, engines):
    with twins.table.catalog.snapshot() as snapshot:
        listed = snapshot.items_by_date(twins.library.space().id, limit=1000)
    engine = engines[1].main
    place = engine.skip_items(4, order=Order.DATE)
    assert place is not None
    assert place.item_id == listed[3].id
    assert engine.skip_items(2, order=Order.DATE, after=place).item_id == listed[5].id
    assert engine.skip_items(0, order=Order.OLDEST) is None


def test_words_of_a_query_become_filters_that_something_passes(engines):
    for text in ("boats from 2019", "dogs with a Canon", "beach in Paris"):
        query = Query((TextPart(text),), parse=True, k=30)
        one, other = (engine.search(query, NOT_RERANKED) for engine in engines)
        assert [(part.words, part.where) for part in other.understood] == [
            (part.words, part.where) for part in one.understood
        ]
        assert_same_hits(one, other)


def test_an_engine_is_of_the_space_of_its_table(twins):
    engine = LanceEngine(twins.table)
    assert engine.space == twins.library.space()
    vector = np.ones(engine.space.dimension, np.float32)
    assert engine.search(Query((VectorPart(vector),), k=2), NOT_RERANKED).hits
    with pytest.raises(UsageError, match="no space"):
        LanceEngine(twins.table, space_id="other")


def test_an_index_of_the_vectors_finds_what_comparing_all_finds(tmp_path, monkeypatch):
    """The best of 3,000 vectors and those of a filter, by IVF_PQ with exact scores."""
    from mmsearch import create

    generator = np.random.default_rng(0)
    centres = generator.normal(size=(30, 64))
    vectors = np.repeat(centres, 100, axis=0) + 0.6 * generator.normal(size=(3000, 64))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    with create(tmp_path / "library", space="own", dimension=64) as made:
        made.add(vectors=vectors, payload=({"n": number % 4} for number in range(3000)))
    from retrieval.library import open_library

    twins = export_twin(open_library(tmp_path / "library"), f"lance:{tmp_path}/table")
    dataset = lance.dataset(str(tmp_path / "table"))
    dataset.create_index("vector", "IVF_PQ", metric="cosine", num_partitions=8, num_sub_vectors=16)
    twins.table.refresh()
    engines = [JointEngine(library).main for library in twins.both]
    monkeypatch.setattr(lance_engine, "FEW_ROWS", 100)  # else so few are all compared
    where = Filter(columns={"n": {"equals": 3}})
    found = wanted = 0
    for number in range(0, 3000, 200):
        for passes in (None, where):
            query = Query((VectorPart(vectors[number]),), k=10, where=passes)
            names = []
            for engine in engines:
                hits = engine.search(query, NOT_RERANKED).hits
                names.append({name_of(hit.item): hit.similarity for hit in hits})
            for name in names[0].keys() & names[1].keys():
                assert names[1][name] == pytest.approx(names[0][name], abs=1e-5)
            found += len(names[0].keys() & names[1].keys())
            wanted += len(names[0])
    assert found / wanted >= 0.95

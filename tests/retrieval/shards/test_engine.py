"""The search over shards gives the answers of one library, whatever the partition."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xxhash
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retrieval.catalog import FileEntry, FileUpdate, ItemEntry
from retrieval.encoders.base import Encoder
from retrieval.errors import NotFoundError
from retrieval.filters import Filter
from retrieval.library import Library, create_library, open_library
from retrieval.media import MediaKind, Metadata, Modality
from retrieval.recognition.base import Recognized, Segment, Task
from retrieval.search.answer import Answer
from retrieval.search.facet_values import FacetQuestion
from retrieval.search.item_order import Order
from retrieval.search.joint import JointEngine
from retrieval.search.query import (
    ItemPart,
    JointQuery,
    Mode,
    Query,
    Reranking,
    Sort,
    TextPart,
    VectorPart,
)
from retrieval.shards.callers import LocalShards
from retrieval.shards.engine import ShardedJointEngine
from retrieval.shards.library import ShardedLibrary
from retrieval.shards.partition import make_shards
from retrieval.shards.shard import Shard, ShardEngine

_FILES = 60
_WORDS = ("beach", "dog", "sunset", "bicycle", "street", "kitchen")
_NONE = Reranking("none")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Encoder) -> Iterator[Library]:
    """Sixty pictures with few distinct vectors, so that many scores tie, and some copies."""
    library = create_library(tmp_path_factory.mktemp("whole") / "library", tiny_encoder.space)
    fill(library)
    yield library
    library.close()


def fill(library: Library, *, seed: int = 0) -> None:
    """Record files whose vectors are of twelve kinds; every sixth one is a copy."""
    random = np.random.default_rng(seed)
    space = library.space()
    kinds = random.normal(size=(12, space.dimension))
    kinds /= np.linalg.norm(kinds, axis=1, keepdims=True)
    vectors = kinds[random.integers(0, 12, _FILES)]
    updates, row = [], 0
    for number in range(_FILES):
        is_copy = number % 6 == 5
        content = f"content {number - 1 if is_copy else number}"
        word, other = _WORDS[number % len(_WORDS)], _WORDS[number % 5]
        updates.append(
            FileUpdate(
                FileEntry(
                    f"/photos/{2015 + number % 4}/{word} {other} {number}.jpg",
                    MediaKind.IMAGE,
                    100,
                    1_500_000_000_000_000_000 + number * 10**15,
                    xxhash.xxh3_128_hexdigest(content.encode()),
                    Metadata(camera=f"Camera {number % 3}"),
                ),
                [ItemEntry(Modality.IMAGE, row - 1 if is_copy else row, width=4, height=3)],
            )
        )
        row += not is_copy
    with library.catalog.transaction() as transaction:
        transaction.add_sources({"/photos": None})
        library.embeddings(space, Modality.IMAGE).write(vectors[:row], 0)
        transaction.extend_rows(space.id, Modality.IMAGE, 0, row)
        transaction.record_files(space.id, updates)
        with_text = {update.file.content_hash or "" for update in updates[::4]}
        found = Recognized([Segment("stop")])
        transaction.record_enrichments(Task.OCR, "model", dict.fromkeys(with_text, found))


def in_shards(library: Library, directory: Path, count: int) -> ShardedJointEngine:
    """Open the shards of a library in this process."""
    shards = []
    for path in make_shards(library, directory, count):
        opened = open_library(path)
        engines = {each: ShardEngine(opened, space_id=each) for each in opened.space_ids()}
        shards.append(Shard(opened, engines))
    return ShardedJointEngine(ShardedLibrary(LocalShards(shards)))


@pytest.fixture(
    scope="module",
    params=[pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(5, marks=pytest.mark.slow)],
)
def engines(
    request: pytest.FixtureRequest, library: Library, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[JointEngine, ShardedJointEngine]]:
    """The engine of the whole library, and that of its shards."""
    sharded = in_shards(library, tmp_path_factory.mktemp("shards"), request.param)
    yield JointEngine(library), sharded
    sharded.library.close()


def told(answer: Answer) -> list[tuple[object, ...]]:
    """What must be the same: items in their order, groups, and scores but for the last digits."""
    return [
        (
            hit.rank,
            hit.item,
            hit.group,
            pytest.approx(hit.similarity, abs=1e-6),
            pytest.approx(hit.relevance, abs=1e-5),
            hit.words and pytest.approx(hit.words, abs=1e-6),
        )
        for hit in answer
    ]


def assert_same(
    engines: tuple[JointEngine, ShardedJointEngine], query: Query | JointQuery, pages: int = 4
) -> None:
    """Compare some pages of the answers; each goes on from the cursor of the whole library."""
    whole, sharded = engines
    for _ in range(pages):
        expected, found = whole.search(query, _NONE), sharded.search(query, _NONE)
        assert told(found) == told(expected)
        assert (found.mode, found.left_out, found.understood, found.next_cursor) == (
            expected.mode,
            expected.left_out,
            expected.understood,
            expected.next_cursor,
        )
        assert found.expected == pytest.approx(expected.expected, rel=1e-4)
        if expected.next_cursor is None:
            return
        if isinstance(query, JointQuery):
            query = replace(query, query=replace(query.query, cursor=expected.next_cursor))
        else:
            query = replace(query, cursor=expected.next_cursor)


WHERE: Sequence[Filter | None] = (
    None,
    Filter(path="**dog**"),
    Filter(camera="camera 1"),
    Filter(source="/photos/2016"),
    Filter(has_text=True),
    Filter(path="nothing"),
)


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("mode", [Mode.VECTOR, Mode.AUTO, Mode.HYBRID])
@pytest.mark.parametrize("least", ["auto", 0.0, 0.3])
def test_answers_are_those_of_one_library(
    engines: tuple[JointEngine, ShardedJointEngine], where: Filter | None, mode: Mode, least: float
) -> None:
    for text in ("a dog on the beach", "sunset", "bicyc", "the nothing"):
        query = Query((TextPart(text),), k=7, where=where, mode=mode, min_relevance=least)
        assert_same(engines, query)


@pytest.mark.parametrize(
    "how",
    [
        {"sort": Sort.DATE},
        {"sort": Sort.NAME},
        {"group_by_file": True},
        {"diversity": 0.5},
        {"parse": True},
    ],
    ids=str,
)
def test_what_else_a_query_asks_for(
    engines: tuple[JointEngine, ShardedJointEngine], how: dict[str, object]
) -> None:
    parts = (TextPart("dog in 2017"), TextPart("street", -0.5))
    assert_same(engines, Query(parts, k=9, **how))  # type: ignore[arg-type]
    assert_same(engines, JointQuery(Query(parts, k=9, **how), tuple(Modality)))  # type: ignore[arg-type]


def test_items_and_vectors_are_asked_for(engines: tuple[JointEngine, ShardedJointEngine]) -> None:
    vector = np.arange(1, engines[0].main.space.dimension + 1)
    for item_id in (1, 17, 60):
        assert_same(engines, Query((ItemPart(item_id), VectorPart(vector, 0.3)), k=5))
        assert_same(engines, Query((ItemPart(item_id),), k=5))
    with pytest.raises(NotFoundError):
        engines[1].search(Query((ItemPart(61),)), _NONE)


def test_words_alone_find_the_same_files(engines: tuple[JointEngine, ShardedJointEngine]) -> None:
    query = Query((TextPart("dog beach"),), k=60, mode=Mode.TEXT)
    expected, found = (engine.search(query, _NONE) for engine in engines)
    assert {hit.item.id for hit in found} == {hit.item.id for hit in expected}
    assert found.mode == expected.mode == Mode.TEXT


def test_a_collection_that_is_not_there(engines: tuple[JointEngine, ShardedJointEngine]) -> None:
    with pytest.raises(NotFoundError, match="trip"):
        engines[1].search(Query((TextPart("dog"),), where=Filter(collection="trip")), _NONE)


@pytest.mark.parametrize("where", WHERE)
def test_facets_add_up(
    engines: tuple[JointEngine, ShardedJointEngine], where: Filter | None
) -> None:
    whole, sharded = (engine.main for engine in engines)
    for limit in (2, 100):
        assert sharded.facets(where=where, limit=limit) == whole.facets(where=where, limit=limit)
        for facet in ("years", "months", "folders", "cameras", "places", "kinds", "collections"):
            asked = FacetQuestion(facet, limit=limit)
            expected = whole.facet_values(asked, where=where)
            assert sharded.facet_values(asked, where=where) == expected
    query = Query((TextPart("dog"),), where=where)
    assert sharded.facets(query) == whole.facets(query)


@pytest.mark.parametrize("order", [Order.OLDEST, Order.NEWEST, Order.DATE, Order.DATE_ASC])
@pytest.mark.parametrize("where", WHERE)
def test_lists_begin_anywhere(
    engines: tuple[JointEngine, ShardedJointEngine], order: Order, where: Filter | None
) -> None:
    whole, sharded = (engine.main for engine in engines)
    for count in (0, 1, 2, 7, 23, 59, 60, 1000):
        expected = whole.skip_items(count, order=order, where=where)
        assert sharded.skip_items(count, order=order, where=where) == expected
        further = whole.skip_items(5, order=order, where=where, after=expected)
        found = sharded.skip_items(5, order=order, where=where, after=expected)
        assert found == further


def test_lists_are_merged(engines: tuple[JointEngine, ShardedJointEngine]) -> None:
    space_id = engines[0].main.space.id
    with (
        engines[0].library.catalog.snapshot() as whole,
        engines[1].library.catalog.snapshot() as sharded,
    ):
        for newest_first in (False, True):
            options = {"limit": 11, "after": 30, "newest_first": newest_first}
            assert sharded.items(space_id, **options) == whole.items(space_id, **options)  # type: ignore[arg-type]
        for oldest_first in (False, True):
            options = {"limit": 25, "oldest_first": oldest_first}
            expected = whole.items_by_date(space_id, **options)  # type: ignore[arg-type]
            assert sharded.items_by_date(space_id, **options) == expected
        assert sharded.items_by_name(space_id, limit=33) == whole.items_by_name(space_id, limit=33)
        assert sharded.folders() == whole.folders()
        assert sharded.cameras() == whole.cameras()
        assert sharded.days() == whole.days()


@pytest.mark.slow
@given(seed=st.integers(0, 1000), count=st.integers(2, 9), k=st.integers(1, 70))
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_partition_ranks_as_the_whole(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_encoder: Encoder,
    seed: int,
    count: int,
    k: int,
) -> None:
    folder = tmp_path_factory.mktemp("any")
    library = create_library(folder / "library", tiny_encoder.space)
    fill(library, seed=seed)
    engines = JointEngine(library), in_shards(library, folder / "shards", count)
    assert_same(engines, Query((TextPart("dog"),), k=k, min_relevance=0.0), pages=20)
    assert_same(engines, Query((ItemPart(1 + seed % _FILES),), k=k), pages=20)
    for engine in engines:
        engine.library.close()

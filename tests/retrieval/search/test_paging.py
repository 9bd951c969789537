"""Pages fit together: nothing comes twice, nothing is passed over, whatever happens in between."""

import hashlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retrieval.catalog import FileEntry
from retrieval.errors import UsageError
from retrieval.library import create_library
from retrieval.media import MediaKind, Metadata, Modality
from retrieval.search.engine import Engine
from retrieval.search.query import MAX_K, ItemPart, Mode, Query, Reranking, Sort, TextPart

pytestmark = pytest.mark.slow

WORDS = ("dog", "snow", "beach")
VIDEOS, IMAGES = 6, 60


def content_of(path):
    return hashlib.sha256(path.encode()).hexdigest()[:32]  # as `write_files` has it


def unit(generator, *shape):
    vectors = generator.normal(size=shape)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def date_files(library, paths):
    """Give files dates of which some are equal; those of every seventh are not known."""
    dates = {
        path: Metadata(taken_at=1000 * (17 * n % 13), taken_local=1000 * (17 * n % 13))
        for n, path in enumerate(paths)
        if n % 5
    }
    undated = [FileEntry(path, MediaKind.IMAGE, 1, -1, content_of(path)) for path in paths[::7]]
    with library.catalog.transaction() as transaction:
        transaction.record_metadata({path: (date, None) for path, date in dates.items()}, {})
        transaction.record_touched(undated)


@pytest.fixture(scope="module")
def library(tmp_path_factory, tiny_encoder, tiny_fusion, write_files):
    """Images and videos named after words, with kept tokens for all but some."""
    library = create_library(tmp_path_factory.mktemp("paging") / "library", tiny_encoder.space)
    generator = np.random.default_rng(0)
    width = tiny_encoder.space.dimension
    files = {f"/pictures/{WORDS[n % 3]} {n}.jpg": unit(generator, 1, width) for n in range(IMAGES)}
    files |= {f"/videos/{WORDS[n % 3]} {n}.mp4": unit(generator, 7, width) for n in range(VIDEOS)}
    write_files(library, files)
    date_files(library, list(files))
    engine = Engine(library, device="cpu")
    identity = engine.reranker(f"fusion:{tiny_fusion}").identity
    with library.catalog.snapshot() as snapshot:
        for number, item in enumerate(snapshot.pictures(library.space().id)):
            if number % 5:
                tokens = generator.normal(size=(16, 32)).astype(np.float32)
                library.tokens.put(identity, item.picture_key, tokens)
    return library


@pytest.fixture(scope="module")
def engine(library):
    return Engine(library, device="cpu")


def pages_of(engine, query, reranking, sizes, between=lambda page: None):
    """Hits of page after page, of the given sizes in turn, and how many pages there were."""
    hits, cursor, number = [], None, 0
    while True:
        page = engine.search(
            Query(**{**vars(query), "k": sizes[number % len(sizes)], "cursor": cursor}), reranking
        )
        hits += page.hits
        number += 1
        if (cursor := page.next_cursor) is None:
            return hits, number
        assert page.hits
        between(number)


by_relevance = st.fixed_dictionaries(
    {
        "sort": st.just(Sort.RELEVANCE),
        "min_relevance": st.sampled_from([0.0, 0.0, 0.2, 0.6]),
        "diversity": st.sampled_from([0.0, 0.0, 0.3, 1.0]),
    }
)
by_date = st.fixed_dictionaries(
    {
        "sort": st.sampled_from([Sort.DATE, Sort.DATE_ASC, Sort.NAME]),
        "min_relevance": st.sampled_from([None, 0.0, 0.2]),
    }
)
queries = st.builds(
    lambda order, **options: Query(**order, **options),
    order=by_relevance | by_date,
    parts=st.sampled_from(
        [
            (TextPart("dog"),),
            (TextPart("snow", 0.5), TextPart("beach", -1.0)),
            (ItemPart(3),),
            (ItemPart(64), TextPart("dog")),
        ]
    ),
    mode=st.sampled_from([Mode.AUTO, Mode.VECTOR]),
    group_by_file=st.booleans(),
)
rerankings = st.tuples(st.sampled_from(["none", "fusion"]), st.sampled_from([None, 7, 30]))
sizes = st.lists(st.integers(1, 40), min_size=1, max_size=4)
slow = settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])


def reranking_of(choice, tiny_fusion):
    name, depth = choice
    return Reranking("none" if name == "none" else f"fusion:{tiny_fusion}", depth)


@slow
@given(query=queries, choice=rerankings, sizes=sizes)
def test_pages_are_one_large_answer(engine, tiny_fusion, query, choice, sizes):
    reranking = reranking_of(choice, tiny_fusion)
    whole = engine.search(Query(**{**vars(query), "k": MAX_K}), reranking)
    hits, _ = pages_of(engine, query, reranking, sizes)
    assert [hit.item.id for hit in hits] == [hit.item.id for hit in whole]
    assert [hit.rank for hit in hits] == list(range(1, len(whole) + 1))
    for paged, hit in zip(hits, whole, strict=True):
        assert paged.similarity == pytest.approx(hit.similarity, abs=1e-5)
        assert paged.match == pytest.approx(hit.match, abs=1e-4)
    assert whole.next_cursor is None


@pytest.mark.parametrize("mode", [Mode.VECTOR, Mode.HYBRID, Mode.TEXT])
@pytest.mark.parametrize("least", [0.0, 0.05])
def test_by_date_come_the_same_hits_in_another_order(engine, mode, least):
    def answer(sort):
        query = Query((TextPart("dog"),), mode=mode, sort=sort, min_relevance=least, k=MAX_K)
        return [hit.item for hit in engine.search(query, Reranking("none"))]

    by_relevance, newest, oldest = map(answer, (Sort.RELEVANCE, Sort.DATE, Sort.DATE_ASC))
    for items, is_reversed in ((newest, True), (oldest, False)):
        assert {item.id for item in items} == {item.id for item in by_relevance}
        dates = [item.taken_local for item in items]
        known = [date for date in dates if date is not None]
        assert known == sorted(known, reverse=is_reversed)
        assert dates == known + [None] * (len(dates) - len(known))
        assert len(known) > 1


def test_the_first_page_by_date_has_the_newest_of_all(engine):
    """Also where they are so far down by relevance that a short page would not look at them."""
    query = Query((TextPart("dog"),), mode=Mode.VECTOR, sort=Sort.DATE, min_relevance=0.0, k=1)
    [newest] = engine.search(query, Reranking("none"))
    everything = engine.search(Query((TextPart("dog"),), mode=Mode.VECTOR, k=MAX_K))
    dates = [hit.item.taken_local for hit in everything if hit.item.taken_local]
    assert newest.item.taken_local == max(dates)


def test_by_date_the_cut_is_that_of_the_page_unless_told(engine):
    def count(**options):
        return len(engine.search(Query((TextPart("dog"),), mode=Mode.VECTOR, k=MAX_K, **options)))

    by_default = count(sort=Sort.DATE)
    assert by_default == count(min_relevance="auto")
    assert by_default < count(sort=Sort.DATE, min_relevance=0.0) == count()


@pytest.mark.parametrize("mode", [Mode.TEXT, Mode.HYBRID])
def test_pages_of_words_are_one_large_answer(engine, mode):
    query = Query((TextPart("dog"),), mode=mode)
    whole = engine.search(Query((TextPart("dog"),), mode=mode, k=MAX_K))
    hits, pages = pages_of(engine, query, Reranking("none"), [7])
    assert [hit.item.id for hit in hits] == [hit.item.id for hit in whole]
    assert pages == -(-len(whole) // 7)


@slow
@given(query=queries, choice=rerankings, sizes=sizes, seed=st.integers(0, 1000))
def test_nothing_comes_twice_or_is_lost_while_the_library_changes(
    library, engine, tiny_fusion, write_files, query, choice, sizes, seed
):
    reranking = reranking_of(choice, tiny_fusion)
    generator = np.random.default_rng(seed)
    before = engine.search(Query(**{**vars(query), "k": MAX_K}), reranking)
    expected = {hit.item.id: hit.path for hit in before}
    with library.catalog.snapshot() as snapshot:
        items = [part.item_id for part in query.parts if isinstance(part, ItemPart)]
        asked = {snapshot.item(item_id).path for item_id in items}
    removable = sorted(set(expected.values()) - asked)
    added, removed = [], set()

    def change(page):
        added.append(f"/new/dog {generator.integers(2**60)}.jpg")
        write_files(library, {added[-1]: unit(generator, 1, library.space().dimension)})
        if page < 4 and removable:
            path = removable[generator.integers(len(removable))]
            with library.catalog.transaction() as transaction:
                transaction.mark_removed([path])
            removed.add(path)

    try:
        hits, _ = pages_of(engine, query, reranking, [*sizes, 40], change)
    finally:
        with library.catalog.transaction() as transaction:
            transaction.mark_removed(added)
            bring_back(transaction, library, removed)
    ids = [hit.item.id for hit in hits]
    files = [hit.path for hit in hits]
    assert len(set(ids)) == len(ids)
    assert set(files).isdisjoint(added)
    if query.group_by_file:
        assert len(set(files)) == len(files)
    if query.mode is not Mode.VECTOR and query.least:
        return  # What words say decides too, and that depends on how many files have them.
    if query.group_by_file:
        assert {path for path in expected.values() if path not in removed} <= set(files)
    else:
        assert set(ids) <= set(expected)
        assert {one for one, path in expected.items() if path not in removed} <= set(ids)


def bring_back(transaction, library, paths):
    """Undo `mark_removed`."""
    known = list(transaction.files_below(["/"], library.space().id))
    transaction.record_touched(
        [
            FileEntry(file.path, MediaKind.IMAGE, file.size, file.mtime_ns, file.content_hash)
            for file in known
            if file.path in paths
        ]
    )


def test_a_budget_that_cut_the_first_page_binds_the_others(engine, tiny_fusion):
    reranking = Reranking(f"fusion:{tiny_fusion}", depth=80, budget_ms=0)
    parts = (TextPart("dog"),)
    first = engine.search(Query(parts, k=9, mode=Mode.VECTOR), reranking)
    assert any("Only the first" in warning for warning in first.warnings)
    generous = Reranking(f"fusion:{tiny_fusion}", depth=80, budget_ms=None)
    hits, cursor = [*first], first.next_cursor
    while cursor:
        page = engine.search(Query(parts, k=50, mode=Mode.VECTOR, cursor=cursor), generous)
        hits, cursor = [*hits, *page], page.next_cursor
    assert len({hit.item.id for hit in hits}) == len(hits)
    matched = [hit.match is not None for hit in hits]
    assert matched == sorted(matched, reverse=True)
    assert sum(matched) == first.reranked


def test_a_cursor_of_another_query_is_refused(engine):
    cursor = engine.search(Query((TextPart("dog"),), k=3), Reranking("none")).next_cursor
    for other in (
        Query((TextPart("cat"),), cursor=cursor),
        Query((TextPart("dog", 0.5),), cursor=cursor),
        Query((TextPart("dog"),), group_by_file=True, cursor=cursor),
        Query((TextPart("dog"),), modality=Modality.TEXT, cursor=cursor),
    ):
        with pytest.raises(UsageError, match="another query"):
            engine.search(other, Reranking("none"))
    with pytest.raises(UsageError, match="another query"):
        engine.search(Query((TextPart("dog"),), cursor=cursor), Reranking("none", depth=3))
    assert (
        engine.search(Query((TextPart("dog"),), k=9, cursor=cursor), Reranking("none"))[0].rank == 4
    )


def test_pages_end_at_the_most_hits_in_all(engine, monkeypatch):
    monkeypatch.setattr("retrieval.search.engine.MAX_K", 20)
    hits, _ = pages_of(engine, Query((TextPart("dog"),)), Reranking("none"), [8])
    assert len(hits) == 20

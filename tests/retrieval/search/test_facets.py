"""Facets of random catalogs, against counting one by one."""

import random
from collections import Counter
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.catalog import FileEntry, FileUpdate, ItemEntry
from retrieval.catalog.path_glob import matches
from retrieval.filters import Filter
from retrieval.library import create_library
from retrieval.media import MediaKind, Metadata, Modality
from retrieval.search.engine import Engine
from retrieval.search.query import Mode, Query, Reranking, TextPart

FOLDERS = ["/s", "/s/2019", "/s/2019/rome", "/s/2019/rome/old", "/s/beach", "/t/x"]
CAMERAS = ["Canon EOS R5", "Nikon Z 6", None]
KINDS = [MediaKind.IMAGE, MediaKind.VIDEO, MediaKind.DOCUMENT]
DAYS = [datetime(2018, 12, 31, tzinfo=UTC), datetime(2019, 1, 1, tzinfo=UTC)]
DAYS.append(datetime(2019, 6, 15, 12, tzinfo=UTC))


def make(path, space, seed):
    """Make a library at random; returns it and a fact for each item."""
    draw = random.Random(seed)
    library = create_library(path, space)
    facts, updates = [], []
    for number in range(40):
        day = draw.choice([*DAYS, None])
        fact = {
            "path": f"{draw.choice(FOLDERS)}/{number}.{draw.choice(['jpg', 'png'])}",
            "kind": draw.choice(KINDS),
            "camera": draw.choice(CAMERAS),
            "day": day,
            "album": draw.choice(["a", "b", None]),
        }
        metadata = Metadata(None if day is None else int(day.timestamp()), fact["camera"])
        file = FileEntry(fact["path"], fact["kind"], 1, -1, str(number), metadata)
        parts = ["1", "2"] if fact["kind"] is MediaKind.VIDEO else [""]
        first = len(facts)
        updates.append(
            FileUpdate(
                file,
                [ItemEntry(Modality.IMAGE, first + at, part) for at, part in enumerate(parts)],
            )
        )
        facts += [fact] * len(parts)
    said = {f["path"]: {"album": f["album"]} for f in facts if f["album"]}
    table = FileEntry("/t.csv", MediaKind.TABLE, 1, -1, "table")
    vectors = np.random.default_rng(seed).standard_normal((len(facts), space.dimension))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    library.embeddings(space, Modality.IMAGE).write(vectors, 0)
    with library.catalog.transaction() as transaction:
        transaction.add_sources({"/s": None, "/t": None})
        transaction.extend_rows(space.id, Modality.IMAGE, 0, len(facts))
        transaction.record_files(
            space.id, [*updates, FileUpdate(table, annotations=list(said.items()))]
        )
        removed = facts[3]["path"]
        transaction.mark_removed([removed])
    return library, [fact for fact in facts if fact["path"] != removed]


@pytest.fixture(scope="module", params=range(2))
def counted(tmp_path_factory, tiny_encoder, request):
    library, facts = make(
        tmp_path_factory.mktemp("facets") / "library", tiny_encoder.space, request.param
    )
    yield Engine(library, device="cpu"), facts
    library.close()


def passes(fact, where: Filter) -> bool:
    holds = [
        where.camera is None or where.camera.lower() in (fact["camera"] or "").lower(),
        where.kind is None or fact["kind"] in where.kind,
        where.path is None or matches(where.path, fact["path"].encode()),
        where.source is None or fact["path"].startswith(f"{where.source}/"),
        where.columns is None or fact["album"] == where.columns["album"].equals,
        all(passes(fact, part) for part in where.all_of or ()),
        where.any_of is None or any(passes(fact, part) for part in where.any_of),
        where.none_of is None or not passes(fact, where.none_of),
    ]
    if where.taken_at is not None:
        day, (since, before) = fact["day"], (where.taken_at.since, where.taken_at.before)
        is_after = since is None or (day is not None and day >= since)
        holds.append(is_after and (before is None or (day is not None and day < before)))
    return all(holds)


leaves = st.sampled_from(
    [
        {"camera": "canon"},
        {"kind": ["image", "document"]},
        {"path": "**/rome/**"},
        {"path": "*.jpg"},
        {"path": "2019/*/1*.png"},
        {"source": "/s/2019"},
        {"columns": {"album": {"equals": "a"}}},
        {"taken_at": {"since": "2019-01-01T00:00:00Z"}},
        {"taken_at": {"before": "2019-01-01T00:00:00Z"}, "camera": "z"},
    ]
)
filters = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.fixed_dictionaries({"and": st.lists(inner, min_size=1, max_size=2)}),
        st.fixed_dictionaries({"or": st.lists(inner, min_size=1, max_size=2)}),
        st.fixed_dictionaries({"not": inner}),
    ),
    max_leaves=4,
).map(Filter.model_validate)


def oracle(facts) -> dict[str, dict[str, int]]:
    folders = Counter()
    for fact in facts:
        parts = fact["path"].split("/")[1:-1]
        for depth in range(1, min(len(parts), 3) + 1):
            folders["/" + "/".join(parts[:depth])] += 1
    days = [fact["day"] for fact in facts if fact["day"] is not None]
    return {
        "years": Counter(f"{day:%Y}" for day in days),
        "months": Counter(f"{day:%Y-%m}" for day in days),
        "folders": folders,
        "cameras": Counter(fact["camera"] for fact in facts if fact["camera"]),
        "kinds": Counter(fact["kind"].value for fact in facts),
    }


def check(facets, facts):
    assert facets.total == len(facts)
    for name, counts in oracle(facts).items():
        assert {found.value: found.count for found in getattr(facets, name)} == counts, name
    albums = Counter(fact["album"] for fact in facts if fact["album"])
    found = facets.columns.get("album", ())
    assert {value.value: value.count for value in found} == albums


@given(where=st.none() | filters)
def test_counts_are_those_of_counting_one_by_one(counted, where):
    engine, facts = counted
    wanted = [fact for fact in facts if where is None or passes(fact, where)]
    check(engine.facets(where=where), wanted)


def test_the_hits_of_a_query_are_counted(counted):
    engine, facts = counted
    by_path = {fact["path"]: fact for fact in facts}
    where = Filter(camera="canon")
    for query in (
        Query((TextPart("rome"),), mode=Mode.TEXT, where=where),
        Query((TextPart("a dog"),), min_relevance=0.02, where=where),
    ):
        hits = engine.search(
            Query(
                query.parts,
                k=10_000,
                mode=query.mode,
                where=where,
                min_relevance=query.min_relevance,
            ),
            Reranking("none"),
        ).hits
        found = engine.facets(
            Query(
                query.parts,
                k=1,
                mode=query.mode,
                where=where,
                min_relevance=query.min_relevance,
                group_by_file=True,
            )
        )
        check(found, [by_path[hit.item.path] for hit in hits])
        assert not found.is_partial
    assert engine.facets(Query((TextPart("a dog"),))).total == len(facts)


def test_facets_are_in_order_and_bounded(counted):
    engine, _ = counted
    facets = engine.facets()
    assert [year.value for year in facets.years] == ["2019", "2018"]
    paths = [folder.value for folder in facets.folders]
    assert paths == sorted(paths)
    counts = [camera.count for camera in facets.cameras]
    assert counts == sorted(counts, reverse=True)
    [year] = engine.facets(limit=1).years
    assert year == max(facets.years, key=lambda found: found.count)
    assert engine.facets(modality=Modality.TEXT).total == 0


def test_a_commit_is_seen_at_once(counted):
    engine, facts = counted
    path = facts[0]["path"]
    before = engine.facets().total
    with engine.library.catalog.transaction() as transaction:
        transaction.mark_removed([path])
    gone = sum(fact["path"] == path for fact in facts)
    assert engine.facets().total == before - gone
    with engine.library.catalog.transaction() as transaction:
        transaction.record_touched(
            [FileEntry(path, facts[0]["kind"], 1, -1, facts_content(engine, path))]
        )
    assert engine.facets().total == before


def facts_content(engine, path):
    with engine.library.catalog.snapshot() as snapshot:
        [known] = snapshot.files_below([path], engine.space.id)
        return known.content_hash


def test_words_that_became_filters_count(travel_library):
    engine = Engine(travel_library, device="cpu")
    query = Query((TextPart("people in Paris 2019"),), min_relevance=0.0, parse=True)
    assert engine.facets(query).total == len(engine.search(query)) == 2
    literal = Query((TextPart("people in Paris 2019"),), min_relevance=0.0)
    assert engine.facets(literal).total == 8

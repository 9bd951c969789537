"""Engines on servers in a library: congruence with exact search, and what only servers do."""

import json
import shutil

import numpy as np
import pytest

from indexer.pipeline import remove_paths
from retrieval.catalog import FileEntry, FileUpdate, ItemEntry
from retrieval.encoders.given import given_space
from retrieval.errors import LibraryError, UsageError
from retrieval.filters import Filter
from retrieval.indices import build as build_module
from retrieval.indices import maintenance
from retrieval.indices import searcher as searcher_module
from retrieval.indices.base import (
    Effort,
    IndexUnavailableError,
    UnsafeIndexError,
    load_engine,
)
from retrieval.indices.build import BuildOptions
from retrieval.indices.maintenance import build_index, needs_rebuild
from retrieval.indices.row_fields import FIELDS, NAMED
from retrieval.indices.server import address_of, read_file, secrets_of, shown, split_kind
from retrieval.library import create_library, open_library
from retrieval.media import MediaKind, Metadata, Modality
from retrieval.search.engine import Engine
from retrieval.search.query import Mode, Query, VectorPart

ENGINES = [("milvus", "HNSW"), ("pgvector", "IVFFLAT"), ("pgvector", "HNSW_BITS")]
COUNT, DIMENSION, K = 1200, 32, 10
DAY = 86_400
FILTERS = [
    None,
    {"kind": ["image"]},
    {"width": {"min": 300}},
    {"width": {"max": 700.5}, "height": {"min": 200}},
    {"source": "/photos/Ünï 'quoted'"},
    {"source": "/photos"},
    {"camera_name": "FUJIFILM X-T3"},
    {"taken_at": {"since": "2001-02", "before": "2003-05-06"}},
    {"taken_at": {"since": "2001-02-03T04:05:06Z"}},
    {"taken_at": {"since": "2001", "recorded": True}},
    {"or": [{"kind": ["video"]}, {"height": {"max": 250}}]},
    {"not": {"camera_name": "FUJIFILM X-T3"}},
    {"and": [{"not": {"width": {"min": 900}}}, {"taken_at": {"before": "2004"}}]},
    {"path": "**/*7.jpg"},
    {"camera": "fuji", "width": {"min": 100}},
]


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def vectors_of(count, seed):
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(30, DIMENSION))
    return unit(
        centres[random.integers(30, size=count)] + 0.7 * random.normal(size=(count, DIMENSION))
    )


def add(library, vectors, first):
    """Record files of all that filters ask for; every tenth has a second copy of the same row."""
    space, random = library.space(), np.random.default_rng(first)
    folders = ["/photos/a", "/photos/b/c", "/photos/Ünï 'quoted'", "/elsewhere"]
    with library.catalog.transaction() as transaction:
        row = transaction.row_count(space.id, Modality.IMAGE)
        library.embeddings(space, Modality.IMAGE).write(vectors, row)
        transaction.extend_rows(space.id, Modality.IMAGE, row, len(vectors))
        updates = []
        for number in range(len(vectors)):
            taken = int(random.integers(9_000, 13_000)) * DAY
            metadata = Metadata(
                taken_at=taken if number % 3 else None,
                taken_local=taken + 3600 if number % 3 else None,
                camera=[None, "FUJIFILM X-T3", "Canon"][number % 3],
            )
            item = ItemEntry(
                Modality.IMAGE,
                row + number,
                width=int(random.integers(1, 1000)) if number % 5 else None,
                height=int(random.integers(1, 1000)),
            )
            for copy in range(1 if number % 10 else 2):
                folder = folders[(number + copy) % len(folders)]
                kind = MediaKind.VIDEO if number % 7 == 0 else MediaKind.IMAGE
                path = f"{folder}/{first + number}-{copy}.jpg"
                entry = FileEntry(path, kind, 1, 1, f"{first + number:032x}", metadata)
                updates.append(FileUpdate(entry, [item]))
        transaction.record_files(space.id, updates)


@pytest.fixture
def library(tmp_path, monkeypatch):
    monkeypatch.setattr(build_module, "EXACT_UP_TO_ROWS", 100)
    monkeypatch.setattr(maintenance, "_QUERIES", 50)
    monkeypatch.setattr(searcher_module, "FEW_ROWS", 20)
    library = create_library(tmp_path / "library", given_space("things", DIMENSION))
    add(library, vectors_of(COUNT, 1), 0)
    return library


@pytest.fixture(params=ENGINES, ids="-".join)
def engine(request, monkeypatch):
    name, kind = request.param
    address = request.getfixturevalue(f"{name}_server")
    monkeypatch.setenv(load_engine(name).variable, address)
    return name, kind


def no_encoder():
    raise AssertionError("the space has no encoder")


def build(library, engine=None):
    options = BuildOptions(engine[1], 1.0, engine=engine[0]) if engine else None
    return build_index(
        library, Modality.IMAGE, no_encoder, library.space(), options=options, device="cpu"
    )


def answers(library, queries=4):
    """Ask with all filters in turn; (score, path) of each hit, and the engine."""
    asking, found = Engine(library, device="cpu"), []
    for vector in vectors_of(queries, 7):
        for where in FILTERS:
            query = Query(
                (VectorPart(vector),),
                k=K,
                where=None if where is None else Filter.model_validate(where),
                mode=Mode.VECTOR,
                min_relevance=0.0,
            )
            found.append([(hit.similarity, hit.path) for hit in asking.search(query).hits])
    return found, asking


def without_index(library, folder):
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(library.path, folder, ignore=shutil.ignore_patterns("image-*"))
    return open_library(folder)


def assert_congruent(library, folder, queries=4):
    found, asking = answers(library, queries)
    expected, _ = answers(without_index(library, folder), queries)
    assert asking._searchers[Modality.IMAGE].generation is not None
    assert asking._searchers[Modality.IMAGE].problem is None
    assert sum(map(len, expected)) > len(expected) * K // 2
    for got, wanted in zip(found, expected, strict=True):
        assert len(got) == len(wanted)
        np.testing.assert_allclose(
            [score for score, _ in got], [score for score, _ in wanted], atol=1e-3
        )
    pairs = zip(found, expected, strict=True)
    same = [{path for _, path in got} == {path for _, path in want} for got, want in pairs]
    assert np.mean(same) >= 0.99


@pytest.mark.slow
def test_a_library_finds_the_same_through_additions_and_deletions(
    library, engine, tmp_path, monkeypatch
):
    def most_thorough(index, *_, **__):
        return {Modality.IMAGE: Effort(index.max_breadth, 40)}

    monkeypatch.setattr(build_module, "tune", most_thorough)
    first = build(library, engine)
    directory = library.space_directory(library.space())
    assert first.engine == engine[0]
    assert first.kind.startswith(engine[1])
    assert_congruent(library, tmp_path / "copy", queries=14)
    # Rows past the index, changed metadata, removed files.
    add(library, vectors_of(100, 2), COUNT)
    add(library, vectors_of(100, 2), COUNT)  # the same files with new rows
    with library.catalog.snapshot() as snapshot:
        paths = sorted(file.path for file in snapshot.indexed_files())
    remove_paths(library, set(paths[::9]))
    assert_congruent(library, tmp_path / "copy")
    # What follows is added to the same collection.
    assert needs_rebuild(library, library.space()) == [Modality.IMAGE]
    second = build(library)
    assert (second.number, second.rows) == (first.number + 1, COUNT + 200)
    assert second.details == first.details
    assert_congruent(library, tmp_path / "copy")
    # A new one takes the place of the old.
    third = build(library, engine)
    assert third.details["collection"] != first.details["collection"]
    assert list(directory.glob(f"image-*.{engine[0]}")) == [third.index_file(directory)]
    index = load_engine(engine[0]).open(
        third.index_file(directory), np.zeros((1, DIMENSION), np.float16), third.kind
    )
    prefix = third.details["collection"].rpartition("_")[0]
    assert [c for c in index._collections() if c.startswith(prefix)] == [
        third.details["collection"]
    ]
    index.close()
    build(library, ("faiss", "IVF4,Flat"))
    assert list(directory.glob(f"image-*.{engine[0]}")) == []


@pytest.mark.slow
def test_a_server_that_is_away_means_exact_search_and_a_warning(
    library, pgvector_server, monkeypatch
):
    engine = load_engine("pgvector")
    monkeypatch.setenv(engine.variable, pgvector_server)
    built = build(library, ("pgvector", "IVFFLAT"))
    expected, asking = answers(library, 1)
    searcher = asking._searchers[Modality.IMAGE]
    assert searcher.generation == built
    # It goes away while it is used: the table is dropped.
    file = built.index_file(library.space_directory(library.space()))
    index = engine.open(file, searcher.rows, built.kind)
    index._drop(index.collection)
    index.close()
    answer = asking.search(Query((VectorPart(vectors_of(1, 7)[0]),), k=K, mode=Mode.VECTOR))
    assert [hit.path for hit in answer.hits] == [path for _, path in expected[0]]
    [warning] = answer.warnings
    assert "pgvector server" in warning
    assert "searched exactly" in warning
    assert searcher.generation is None
    # It is away from the start, and its password is not told.
    monkeypatch.setenv(engine.variable, "postgresql://me:s%65cret@127.0.0.1:1/db?password=pw2x")
    found, asking = answers(library, 1)
    assert found == expected
    problem = asking._searchers[Modality.IMAGE].problem
    assert "postgresql://127.0.0.1:1/db does not answer" in problem
    assert not any(secret in problem for secret in ("s%65cret", "secret", "pw2x"))
    # No other index takes its place unasked.
    add(library, vectors_of(300, 3), COUNT)
    with pytest.raises(LibraryError, match="--engine faiss"):
        build(library)
    monkeypatch.delenv(engine.variable)
    _, asking = answers(library, 1)
    assert f"set {engine.variable}=" in asking._searchers[Modality.IMAGE].problem


@pytest.mark.slow
def test_a_copy_of_a_library_leaves_the_collection_of_the_first_alone(
    library, pgvector_server, monkeypatch, tmp_path
):
    monkeypatch.setenv("MMSEARCH_PGVECTOR", pgvector_server)
    first = build(library, ("pgvector", "IVFFLAT"))
    shutil.copytree(library.path, tmp_path / "copied")
    copied = open_library(tmp_path / "copied")
    add(copied, vectors_of(200, 2), COUNT)
    second = build(copied)
    assert second.details["collection"] != first.details["collection"]
    _, asking = answers(library, 1)
    assert asking._searchers[Modality.IMAGE].generation == first


@pytest.mark.slow
def test_what_a_killed_build_left_is_dropped(library, pgvector_server, monkeypatch, tmp_path):
    monkeypatch.setenv("MMSEARCH_PGVECTOR", pgvector_server)
    engine, rows = load_engine("pgvector"), vectors_of(300, 1).astype(np.float16)
    left = engine.create(tmp_path / "image.pgvector", rows)
    left.add(rows)
    other = engine.create(tmp_path / "text.pgvector", rows)
    other.add(rows)
    new = engine.create(tmp_path / "image.pgvector", rows)
    names = new._collections()
    assert left.collection not in names
    assert other.collection in names
    other.abandon()
    for index in (left, other, new):
        index.close()


def test_a_kind_is_written_out_in_full():
    milvus, pgvector = load_engine("milvus"), load_engine("pgvector")
    assert pgvector.normalised("", 10_000, 512) == "IVFFLAT,lists=100"
    assert pgvector.normalised("HNSW,m=8", 10, 512) == "HNSW,m=8,ef_construction=64"
    assert milvus.normalised("", 10_000, 512) == "IVF_SQ8,nlist=400"
    assert milvus.normalised("IVF_PQ,nlist=4", 10, 100) == "IVF_PQ,m=10,nlist=4"
    assert milvus.normalised("HNSW", 10, 512) == "HNSW,M=16,efConstruction=200"
    for engine, kind in ((pgvector, "IVF4,PQ8"), (pgvector, "HNSW,lists=4"), (milvus, "PQ"),
                         (milvus, "HNSW,M=x"), (pgvector, "HNSW,m=1); drop table a")):  # fmt: skip
        with pytest.raises(UsageError):
            engine.normalised(kind, 100, 64)
    with pytest.raises(UsageError, match="4,000 dimensions"):
        pgvector.normalised("HNSW", 100, 5000)
    assert split_kind("A,b=1,c=22") == ("A", {"b": 1, "c": 22})


def test_addresses_come_from_the_environment_and_show_no_password(monkeypatch):
    engine = load_engine("milvus")
    monkeypatch.delenv(engine.variable, raising=False)
    with pytest.raises(UsageError, match="set MMSEARCH_MILVUS="):
        address_of(engine)
    for wrong in ("localhost:19530", "./milvus.db", "file:///etc", "http://[::1"):
        monkeypatch.setenv(engine.variable, wrong)
        with pytest.raises(UsageError, match="no address of Milvus"):
            address_of(engine)
    address = "https://me:p%40ss@db.example:19530/images?token=1"
    monkeypatch.setenv(engine.variable, address)
    assert address_of(engine) == address
    assert shown(address) == "https://db.example:19530/images"
    assert set(secrets_of(address)) == {"p%40ss", "p@ss"}


def test_nobody_answers(monkeypatch, tmp_path):
    pytest.importorskip("psycopg")
    engine = load_engine("pgvector")
    monkeypatch.setenv(engine.variable, "postgresql://me:hidden@127.0.0.1:1/db")
    with pytest.raises(IndexUnavailableError, match="pgvector server at postgresql://127"):
        engine.create(tmp_path / "image.pgvector", np.zeros((2, 4), np.float16))
    monkeypatch.setenv(engine.variable, "postgresql://me:hid%zzden@127.0.0.1:1/db")
    with pytest.raises(UsageError, match="no address that libpq understands") as raised:
        engine.create(tmp_path / "image.pgvector", np.zeros((2, 4), np.float16))
    assert "den" not in str(raised.value)


HEADER = {
    "format": 1,
    "server": "http://x",
    "collection": f"mmsearch_{'0' * 16}_{'1' * 16}",
    "kind": "HNSW",
    "rows": 2,
    "dimension": 4,
    "names": {name: ["a"] for name in NAMED},
}
BODY = bytes(2 * 8 * len(FIELDS))


def test_a_file_of_a_stranger_names_no_other_table(tmp_path):
    file = tmp_path / "image-1.pgvector"

    def write(body=BODY, **changed):
        file.write_bytes(json.dumps(HEADER | changed).encode() + b"\n" + body)

    write()
    facts, fields = read_file(file)
    assert (facts["rows"], len(fields)) == (2, 2)
    write(body=b"", names=None)
    assert read_file(file)[1] is None
    for changed in (
        {"collection": "users"},
        {"collection": HEADER["collection"] + "; drop table users"},
        {"collection": HEADER["collection"] + "\n"},
        {"rows": -1},
        {"rows": 3},
        {"rows": "2"},
        {"names": {"kind": ["a"]}},
        {"names": {name: [1] for name in NAMED}},
        {"format": 2},
        {"body": BODY[1:]},
        {"body": BODY + b"1"},
    ):
        write(**changed)
        with pytest.raises(UnsafeIndexError):
            read_file(file)
    file.write_bytes(b"\xff" * 100)
    with pytest.raises(UnsafeIndexError):
        read_file(file)

import threading

import numpy as np
import pytest
from PIL import Image

from indexer.pipeline import index_sources, remove_paths
from retrieval.indices import build as build_module
from retrieval.indices.build import BuildOptions
from retrieval.indices.generations import building, generation_numbers, latest
from retrieval.indices.maintenance import BackgroundBuilder, build_index, needs_rebuild
from retrieval.media import Modality
from retrieval.search.engine import Engine
from retrieval.search.query import Query, TextPart

pytestmark = pytest.mark.slow


@pytest.fixture
def library(indexed_library, tiny_encoder, tmp_path):
    """A library of 60 pictures."""
    folder = tmp_path / "more"
    folder.mkdir()
    random = np.random.default_rng(1)
    for number in range(54):
        noise = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{number}.png")
    index_sources(indexed_library, tiny_encoder, [folder])
    return indexed_library


@pytest.fixture
def few_rows_are_many(monkeypatch):
    monkeypatch.setattr(build_module, "EXACT_UP_TO_ROWS", 50)


def build(library, encoder, factory="IVF4,Flat", **options):
    return build_index(
        library,
        Modality.IMAGE,
        lambda: encoder,
        library.space(),
        options=BuildOptions(factory, 1.0),
        **options,
    )


def paths(engine, k=10):
    hits = engine.search(Query((TextPart("a dog"),), k=k)).hits
    return [hit.path for hit in hits]


def test_an_engine_takes_up_what_is_built_and_finds_the_same(library, tiny_encoder):
    engine = Engine(library, device="cpu")
    before = paths(engine)
    built = build(library, tiny_encoder)
    assert (built.rows, built.kind) == (60, "IVF4,Flat")
    assert set(built.tuning.settings) == {"text", "image"}
    assert paths(engine) == before
    assert engine._searchers[Modality.IMAGE].generation == built


def test_removed_files_change_no_other_hit(library, tiny_encoder):
    build(library, tiny_encoder)
    engine = Engine(library, device="cpu")
    before = paths(engine, k=60)
    assert len(before) == 60
    removed = set(before[:40:2]) | set(before[:10])
    remove_paths(library, removed)
    expected = [path for path in before if path not in removed]
    assert paths(engine, k=60) == expected
    assert paths(engine, k=5) == expected[:5]
    remove_paths(library, expected[1:])
    assert paths(engine, k=5) == expected[:1]


def test_removed_files_change_no_other_hit_of_an_index_that_misses_some(library, tiny_encoder):
    """Candidates stay those that they were: rows of removed files are left out of them."""
    build_index(
        library,
        Modality.IMAGE,
        lambda: tiny_encoder,
        library.space(),
        options=BuildOptions("IVF8,PQ2x4fs", 0.2),
    )
    engine = Engine(library, device="cpu")
    before = paths(engine)
    removed = before[1:10:4]
    remove_paths(library, removed)
    after = paths(engine)
    remaining = [path for path in before if path not in removed]
    assert after[: len(remaining)] == remaining
    assert len(after) == 10
    assert not set(after) & set(removed)


def test_a_damaged_index_is_a_warning(library, tiny_encoder):
    before = paths(Engine(library, device="cpu"))
    file = build(library, tiny_encoder).index_file(library.space_directory(library.space()))
    file.write_bytes(file.read_bytes()[::-1])
    answer = Engine(library, device="cpu").search(Query((TextPart("a dog"),)))
    assert [hit.path for hit in answer.hits] == before
    [warning] = answer.warnings
    assert "checksum" in warning
    assert "mmsearch build-index" in warning


def test_small_libraries_need_no_build(library, tiny_encoder):
    assert needs_rebuild(library, library.space()) == []
    space = library.space()
    assert build_index(library, Modality.IMAGE, lambda: tiny_encoder, space) is None
    forced = BuildOptions(force=True)
    assert build_index(library, Modality.IMAGE, pytest.fail, space, options=forced) is None


def test_a_forced_index_of_a_small_library_grows_with_it(library, tiny_encoder, tmp_path):
    build(library, tiny_encoder)
    for number in range(10):
        Image.new("RGB", (9, 9), (20 * number, 0, 0)).save(tmp_path / f"{number}.png")
    index_sources(library, tiny_encoder, sorted(tmp_path.glob("*.png")))
    assert needs_rebuild(library, library.space()) == [Modality.IMAGE]
    built = build_index(library, Modality.IMAGE, lambda: tiny_encoder, library.space())
    assert (built.rows, built.kind) == (70, "IVF4,Flat")
    assert needs_rebuild(library, library.space()) == []


def test_stopping_a_build_leaves_nothing(library, tiny_encoder):
    assert build(library, tiny_encoder, should_stop=lambda: True) is None
    assert generation_numbers(library.space_directory(library.space()), "image") == []


def test_searches_go_on_while_an_index_is_built_in_the_background(
    library, tiny_encoder, few_rows_are_many, monkeypatch
):
    directory = library.space_directory(library.space())
    go_on, is_building = threading.Event(), threading.Event()
    real = build_module._choose

    def choose(rows, present, options, memory_bytes, device):
        is_building.set()
        go_on.wait(10)
        return real(rows, present, BuildOptions("IVF4,Flat"), memory_bytes, device)

    monkeypatch.setattr(build_module, "_choose", choose)
    engine = Engine(library, device="cpu")
    expected = paths(engine)
    built, problems = [], []
    builder = BackgroundBuilder(
        library,
        lambda: tiny_encoder,
        library.space(),
        on_built=built.append,
        on_problem=problems.append,
    )
    assert builder.start_if_due()
    assert is_building.wait(10)
    assert builder.start_if_due()
    assert paths(engine) == expected
    assert built == []
    go_on.set()
    builder.wait(60)
    assert problems == []
    assert [generation.rows for generation in built] == [60]
    assert not builder.start_if_due()
    assert paths(engine) == expected
    with library.catalog.snapshot() as snapshot:
        count = snapshot.row_count(library.space().id, Modality.IMAGE)
    rows = library.embeddings(library.space(), Modality.IMAGE).rows(count)
    assert latest(directory, "image", rows) == built[0]


def test_the_background_leaves_a_build_to_who_has_begun_it(
    library, tiny_encoder, few_rows_are_many
):
    problems = []
    builder = BackgroundBuilder(
        library, lambda: tiny_encoder, library.space(), on_problem=problems.append
    )
    with building(library.space_directory(library.space()), "image"):
        builder.start_if_due()
        builder.wait(60)
    builder.stop()
    assert problems == []
    assert not builder.start_if_due()
    assert generation_numbers(library.space_directory(library.space()), "image") == []

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from indexer.pipeline import index_sources, remove_paths
from retrieval.engine import Engine, encode_query, refine
from retrieval.errors import SpaceMismatchError, UsageError
from retrieval.library import create_library, open_library
from retrieval.query import MAX_K, ImagePart, Query, TextPart, read_parts


@pytest.fixture
def library(indexed_library):
    return indexed_library


@pytest.fixture
def engine(library):
    return Engine(library, device="cpu")


def ask(text: str = "a dog", k: int = 10) -> Query:
    return Query((TextPart(text),), k=k)


def test_hits_are_ranked_as_by_hand(engine, tiny_encoder, picture_folder):
    answer = engine.search(ask(k=4))
    pixels = {
        str(path): tiny_encoder.preprocess(Image.open(path).convert("RGB"))
        for path in picture_folder.rglob("*.png")
    }
    similarities = (
        tiny_encoder.encode_images(np.stack(list(pixels.values())))
        @ tiny_encoder.encode_texts(["a dog"])[0]
    )
    expected = sorted(zip(similarities, pixels, strict=True), reverse=True)[:4]
    assert [hit.path for hit in answer.hits] == [path for _, path in expected]
    assert [hit.rank for hit in answer.hits] == [1, 2, 3, 4]
    np.testing.assert_allclose(
        [hit.similarity for hit in answer.hits], [s for s, _ in expected], atol=1e-3
    )
    assert answer.hits[0].match is None
    assert answer.hits[0].relevance is None


def test_every_stage_is_timed(engine):
    timings = engine.search(ask()).timings_ms
    assert set(timings) == {"total", "load", "encode", "catalog", "candidates", "refine"}
    assert sum(timings.values()) - timings["total"] <= timings["total"]


def test_an_image_finds_itself_first(library, picture_folder):
    for path in picture_folder.rglob("*.png"):
        [first, *_] = library.search(image=path)
        assert first.path == str(path)
        assert first.similarity == pytest.approx(1, abs=2e-3)


def test_more_hits_than_items_gives_all(engine):
    assert len(engine.search(ask(k=MAX_K)).hits) == 6


def test_an_empty_library_gives_no_hits(tmp_path, tiny_encoder):
    library = create_library(tmp_path / "empty", tiny_encoder.space)
    assert Engine(library, device="cpu").search(ask()).hits == ()


def test_removed_items_do_not_take_the_place_of_hits(library, engine, picture_folder):
    best = engine.search(ask(k=1)).hits[0].path
    for path in picture_folder.rglob("*.png"):
        if str(path) != best:
            remove_paths(library, [path])
    assert [hit.path for hit in engine.search(ask(k=1)).hits] == [best]
    assert len(engine.search(ask(k=2)).hits) == 1


def test_a_running_engine_sees_new_items(library, engine, tiny_encoder, tmp_path):
    engine.search(ask())
    new = tmp_path / "new.png"
    Image.new("RGB", (20, 20), "orange").save(new)
    index_sources(library, tiny_encoder, [new])
    with Image.open(new) as image:
        assert engine.search(Query((ImagePart(image),))).hits[0].path == str(new)


def test_searches_go_on_while_the_library_is_written(library, engine, tiny_encoder, tmp_path):
    folder = tmp_path / "more"
    folder.mkdir()
    for number in range(20):
        Image.new("RGB", (20, 20), (number, 0, 0)).save(folder / f"{number}.png")
    seen = []
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(index_sources, library, tiny_encoder, [folder], batch_size=1)
        while not writing.done():
            seen.append(len(engine.search(ask(k=100)).hits))
    assert writing.result().added == 20
    assert seen == sorted(seen)
    assert len(engine.search(ask(k=100)).hits) == 26


def test_a_text_beyond_the_context_is_truncated_and_said_so(engine):
    answer = engine.search(ask("word " * 100))
    assert len(answer.hits) == 6
    [warning] = answer.warnings
    assert "102 tokens" in warning
    assert "reads only 16" in warning
    assert engine.search(ask("a few words")).warnings == ()


def test_another_encoder_than_the_librarys_is_refused(library, monkeypatch):
    import dataclasses

    from retrieval.encoders import registry

    engine = Engine(library, device="cpu")
    loaded = registry.load_encoder(engine.space.encoder, "cpu")
    loaded.space = dataclasses.replace(loaded.space, weights="xxh3-128:0")
    monkeypatch.setattr("retrieval.engine.load_encoder", lambda *_, **__: loaded)
    with pytest.raises(SpaceMismatchError, match="differ in: weights"):
        engine.search(ask())


def test_the_python_interface_takes_text_image_or_both(library, picture_folder):
    path = next(picture_folder.rglob("*.png"))
    opened = open_library(library.path)
    assert opened.search("a dog", k=2)[0].rank == 1
    both = opened.search("a dog", image=path)
    assert {hit.path for hit in both} == {hit.path for hit in opened.search("a dog")}
    with Image.open(path) as image:
        assert opened.search(image=image.convert("RGB"))[0].path == str(path)


@pytest.mark.parametrize(
    ("parts", "k", "message"),
    [
        ((), 1, "query is empty"),
        ((TextPart(""),), 1, "text is empty"),
        ((TextPart(" \n\t"),), 1, "text is empty"),
        ((TextPart("a"),), 0, "between 1 and 10,000, not 0"),
        ((TextPart("a"),), -3, "between 1 and 10,000"),
        ((TextPart("a"),), MAX_K + 1, "between 1 and 10,000"),
        ((TextPart("a", 0.0),), 1, "weight"),
        ((TextPart("a", float("nan")),), 1, "weight"),
        ((TextPart("a", float("inf")),), 1, "weight"),
    ],
)
def test_queries_that_cannot_be_meant(parts, k, message):
    with pytest.raises(UsageError, match=message):
        Query(parts, k=k)


def test_parts_that_cancel_out_are_refused(tiny_encoder):
    with pytest.raises(UsageError, match="cancel each other out"):
        encode_query(tiny_encoder, Query((TextPart("a"), TextPart("a", -1.0))))


def test_weights_move_the_query(tiny_encoder):
    [dog, snow] = tiny_encoder.encode_texts(["dog", "snow"])
    vector = encode_query(tiny_encoder, Query((TextPart("dog"), TextPart("snow", -0.5))))
    expected = dog - 0.5 * snow
    np.testing.assert_allclose(vector, expected / np.linalg.norm(expected), atol=1e-5)


def test_query_images_that_cannot_be_read(tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"no")
    with pytest.raises(UsageError, match=r"bad.jpg: not an image of a known format"):
        read_parts(image=tmp_path / "bad.jpg")
    with pytest.raises(UsageError, match="No such file"):
        read_parts(image=tmp_path / "nowhere.jpg")
    with pytest.raises(UsageError, match="Is a directory"):
        read_parts(image=tmp_path)


@given(st.lists(st.sampled_from([-1.0, 0.0, 0.5, 1.0]), min_size=1, max_size=12))
def test_refining_sorts_by_score_and_breaks_ties_by_row(values):
    embeddings = np.array(values, dtype=np.float16)[:, np.newaxis]
    rows = np.random.default_rng(0).permutation(len(values))
    found, scores = refine(np.ones(1, np.float32), rows, embeddings)
    assert found.tolist() == sorted(range(len(values)), key=lambda row: (-values[row], row))
    assert scores.tolist() == sorted(values, reverse=True)

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from indexer.pipeline import index_sources, remove_paths
from retrieval.encoders.languages import Languages
from retrieval.errors import SpaceMismatchError, UsageError
from retrieval.library import create_library, open_library
from retrieval.media import Modality
from retrieval.rerankers.cross_attention import CrossAttentionReranker
from retrieval.search.cut import AUTO as AUTO_CUT
from retrieval.search.engine import Engine
from retrieval.search.query import (
    MAX_K,
    ImagePart,
    Mode,
    Query,
    Reranking,
    TextPart,
    read_parts,
)


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
        tiny_encoder.encode(Modality.IMAGE, np.stack(list(pixels.values())))
        @ tiny_encoder.encode(Modality.TEXT, ["a dog"])[0]
    )
    expected = sorted(zip(similarities, pixels, strict=True), reverse=True)[:4]
    assert [hit.path for hit in answer.hits] == [path for _, path in expected]
    assert [hit.rank for hit in answer.hits] == [1, 2, 3, 4]
    np.testing.assert_allclose(
        [hit.similarity for hit in answer.hits], [s for s, _ in expected], atol=1e-3
    )
    assert answer.hits[0].match is None
    assert 0 <= answer.hits[0].relevance <= 1


def test_a_query_in_an_unknown_language_has_one_warning(engine, monkeypatch):
    assert engine.search(ask("两只狗")).warnings == ()  # nothing is declared of this encoder
    english = Languages(frozenset({"en"}), are_all=True)
    monkeypatch.setattr("retrieval.search.engine.languages_of", lambda *_: english)
    answer = engine.search(Query((TextPart("两只狗"),), min_relevance=AUTO_CUT))
    assert answer.unknown_language == "Chinese characters"
    assert engine.search(ask()).unknown_language is None
    [warning] = answer.warnings
    assert "seems to be in Chinese characters" in warning
    assert "knows English only" in warning
    assert engine.search(ask()).warnings == ()
    assert engine.search(Query((TextPart("两只狗"),), mode=Mode.TEXT)).warnings == ()
    picture = Image.new("RGB", (32, 32))
    assert engine.search(Query((ImagePart(picture),))).warnings == ()


def test_every_stage_is_timed(engine):
    timings = engine.search(ask()).timings_ms
    stages = {"load", "parse", "encode", "catalog", "candidates", "refine", "order"}
    assert set(timings) == {"total", *stages}
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
    monkeypatch.setattr("retrieval.search.engine.load_encoder", lambda *_, **__: loaded)
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


def test_parts_that_cancel_out_are_refused(engine):
    with pytest.raises(UsageError, match="cancel each other out"):
        engine.search(Query((TextPart("a"), TextPart("a", -1.0))))


def test_reranking_reorders_the_best_and_keeps_the_rest_below(engine, tiny_fusion):
    plain = engine.search(ask(k=6), Reranking("none"))
    answer = engine.search(ask(k=6), Reranking(f"fusion:{tiny_fusion}", depth=4))
    assert answer.reranker == f"fusion:{tiny_fusion}"
    assert answer.reranked == 4
    assert "rerank" in answer.timings_ms
    first, rest = answer.hits[:4], answer.hits[4:]
    weight = engine.reranker(f"fusion:{tiny_fusion}").match_weight
    joined = [hit.similarity + weight * hit.match for hit in first]
    assert joined == sorted(joined, reverse=True)
    assert {hit.path for hit in first} == {hit.path for hit in plain.hits[:4]}
    assert [hit.path for hit in rest] == [hit.path for hit in plain.hits[4:]]
    assert all(hit.match is None for hit in rest)
    assert [hit.rank for hit in answer.hits] == [1, 2, 3, 4, 5, 6]


def test_fewer_hits_than_candidates_are_the_best_of_all_candidates(engine, tiny_fusion):
    name = f"fusion:{tiny_fusion}"
    all_hits = engine.search(ask(k=6), Reranking(name, depth=6)).hits
    assert engine.search(ask(k=2), Reranking(name, depth=6)).hits == all_hits[:2]


def test_the_reranker_says_how_deep_unless_told(engine, tiny_fusion):
    assert engine.search(ask(k=6), Reranking(f"fusion:{tiny_fusion}")).reranked == 4


def test_a_query_of_images_alone_is_reranked_by_image_similarity(
    engine, tiny_fusion, picture_folder
):
    for path in picture_folder.rglob("*.png"):
        answer = engine.search(Query(read_parts(image=path)), Reranking(f"fusion:{tiny_fusion}"))
        assert answer.reranked == 4
        assert answer.hits[0].path == str(path)
        assert answer.hits[0].match == pytest.approx(1, abs=1e-2)
        assert all(-1.01 <= hit.match <= 1.01 for hit in answer.hits[:4])


def test_a_reranker_without_image_similarity_leaves_image_queries(
    engine, tiny_fusion, picture_folder, monkeypatch
):
    name = f"fusion:{tiny_fusion}"
    monkeypatch.delattr(CrossAttentionReranker, "image_similarity")
    query = Query(read_parts(image=next(picture_folder.rglob("*.png"))))
    answer = engine.search(query, Reranking(name))
    assert answer.reranker is None
    assert answer.hits[0].match is None


def test_the_images_found_by_a_text_and_an_image_are_matched_with_the_text(
    engine, tiny_fusion, picture_folder
):
    path = next(picture_folder.rglob("*.png"))
    query = Query(read_parts("a dog", path))
    answer = engine.search(query, Reranking(f"fusion:{tiny_fusion}", depth=6))
    alone = engine.search(ask(k=6), Reranking(f"fusion:{tiny_fusion}", depth=6))
    matches = {hit.path: hit.match for hit in answer.hits}
    assert matches == pytest.approx({hit.path: hit.match for hit in alone.hits}, abs=1e-5)


def test_removed_files_are_not_reranked(engine, library, tiny_fusion, picture_folder):
    reranking = Reranking(f"fusion:{tiny_fusion}", depth=6)
    gone = engine.search(ask(k=6), reranking).hits[0].path
    remove_paths(library, [gone])
    assert gone not in {hit.path for hit in engine.search(ask(k=6), reranking).hits}


def test_an_unknown_reranker_is_refused(engine):
    with pytest.raises(UsageError, match="no reranker 'better'"):
        engine.search(ask(), Reranking("better"))


def test_an_explanation_comes_from_the_reranker_of_the_space(engine, tiny_fusion, picture_folder):
    image = Image.open(next(picture_folder.rglob("*.png"))).convert("RGB")
    explanation = engine.explain("a dog", image, f"fusion:{tiny_fusion}")
    assert [word.word for word in explanation.words] == ["a", "dog"]
    with pytest.raises(UsageError, match="train reranker"):
        engine.explain("a dog", image)

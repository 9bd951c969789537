"""Tiny models of random weights stand in for ColPali and ColQwen2."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from benchmarks.quality.token_store import TokenStore
from indexer.pipeline import index_sources
from indexer.reranker_tokens import plan_tokens, prepare_tokens
from retrieval.errors import EncoderUnavailableError, UsageError
from retrieval.filters import Filter
from retrieval.library import create_library
from retrieval.media import Modality
from retrieval.media.images import read_image
from retrieval.rerankers.base import ExplainableReranker, ImageSimilarityReranker, Reranker
from retrieval.rerankers.explanation import explain
from retrieval.rerankers.page_patches import LateInteractionReranker
from retrieval.rerankers.registry import load_reranker
from retrieval.rerankers.token_cache import TokenCache, TokenCacheSettings
from retrieval.search.engine import Engine
from retrieval.search.query import Query, Reranking, TextPart
from retrieval.search.rerank import stack_tokens
from tests.tiny_checkpoints import make_colpali, make_colqwen

TEXTS = ["two cats on the snow", "red page", ""]
SIZES = [(60, 40), (40, 60), (64, 64), (10, 300), (500, 400)]


def page(number):
    picture = Image.new("RGB", SIZES[number % len(SIZES)], "white")
    ImageDraw.Draw(picture).rectangle([5, 5, 12 + 3 * number, 20], fill=(40 * number % 256, 90, 10))
    return picture


@pytest.fixture(scope="module", params=[make_colpali, make_colqwen], ids=["colpali", "colqwen"])
def folder(request, tmp_path_factory):
    pytest.importorskip("transformers")
    directory = tmp_path_factory.mktemp("late")
    request.param(directory)
    return directory


@pytest.fixture(scope="module")
def reranker(folder):
    return LateInteractionReranker(str(folder))


@pytest.fixture(scope="module")
def images(reranker):
    return reranker.image_tokens(np.stack([reranker.preprocess(page(i)) for i in range(5)]))


@pytest.mark.slow
def test_it_keeps_the_protocol(folder, reranker, tiny_encoder):
    assert isinstance(reranker, Reranker)
    assert isinstance(reranker, ExplainableReranker)
    assert not isinstance(reranker, ImageSimilarityReranker)
    assert reranker.name == f"late-interaction:{folder}"
    again = load_reranker(f"late-interaction:{folder}", tiny_encoder)
    assert again.identity == reranker.identity


@pytest.mark.slow
def test_scores_are_those_of_transformers_itself(folder, reranker, images):
    import torch
    import transformers

    texts = reranker.text_tokens(TEXTS)
    name = f"{type(reranker._model._model).__name__.removesuffix('ForRetrieval')}Processor"
    processor = getattr(transformers, name).from_pretrained(folder)
    one_by_one = [
        [torch.from_numpy(values[mask]) for values, mask in zip(t.values, t.mask, strict=True)]
        for t in (texts, images)
    ]
    scores = reranker.match(texts, images)
    for row, query in enumerate(one_by_one[0]):
        # One by one: padding by zeros hides maxima below zero from its scores.
        expected = [
            processor.score_retrieval([query], [passage])[0, 0] for passage in one_by_one[1]
        ]
        np.testing.assert_allclose(scores[row], expected, rtol=1e-5)
    assert scores.std(axis=1).min() > 0.01


@pytest.mark.slow
def test_kept_tokens_score_as_fresh_ones(reranker, images, tmp_path):
    texts = reranker.text_tokens(TEXTS)
    fresh = reranker.match(texts, images)
    for precision, tolerance in (("float16", 0.01), ("int8", 0.2)):
        cache = TokenCache(tmp_path / precision)
        cache.configure(TokenCacheSettings(precision=precision))
        for place, (values, mask) in enumerate(zip(images.values, images.mask, strict=True)):
            cache.put(reranker.identity, f"{place:032x}", values[mask])
        kept = stack_tokens([cache.get(reranker.identity, f"{place:032x}") for place in range(5)])
        np.testing.assert_allclose(reranker.match(texts, kept), fresh, atol=tolerance)


@pytest.fixture(scope="module")
def library(tmp_path_factory, tiny_encoder):
    root = tmp_path_factory.mktemp("pages")
    for number in range(12):
        page(number).save(root / f"{number}.png")
    (root / "note.txt").write_text("two cats on the snow")
    opened = create_library(root / ".library", tiny_encoder.space)
    index_sources(opened, tiny_encoder, [root])
    return opened


@pytest.mark.slow
def test_a_search_is_in_the_order_of_max_sim(folder, reranker, library):
    name = f"late-interaction:{folder}"
    answers = [
        Engine(library).search(Query((TextPart(TEXTS[0]),), k=12), Reranking(name, depth))
        for depth in (12, None, 5)
    ]
    assert answers[0].reranker == name
    assert [answer.reranked for answer in answers] == [12, 12, 5]
    pixels = np.stack([reranker.preprocess(read_image(hit.item.path)) for hit in answers[0].hits])
    scores = reranker.match(reranker.text_tokens(TEXTS[:1]), reranker.image_tokens(pixels))[0]
    found = np.array([hit.match for hit in answers[0].hits])
    np.testing.assert_allclose(found, scores, atol=0.01)
    np.testing.assert_array_equal(found, [hit.match for hit in answers[1].hits])
    joined = found + [hit.similarity for hit in answers[0].hits]
    assert (np.diff(joined) <= 0).all()
    assert all(hit.match is None for hit in answers[2].hits[5:])


@pytest.mark.slow
def test_texts_among_the_hits_and_searches_without_candidates(folder, library):
    reranking = Reranking(f"late-interaction:{folder}")
    for modality, found in ((Modality.TEXT, ["note.txt"]), (Modality.IMAGE, [])):
        where = Filter(path="*.txt")
        query = Query((TextPart(TEXTS[0]),), modality=modality, where=where)
        answer = Engine(library).search(query, reranking)
        assert [Path(hit.item.path).name for hit in answer.hits] == found
        assert answer.reranked == 0


@pytest.mark.slow
def test_tokens_are_precomputed_within_the_size_that_was_planned(library, tiny_encoder, reranker):
    plan = plan_tokens(library, tiny_encoder, reranker)
    assert len(plan.missing) + plan.present == 12
    prepare_tokens(library, tiny_encoder, reranker)
    after = plan_tokens(library, tiny_encoder, reranker)
    assert (len(after.missing), after.present) == (0, 12)
    assert after.held_bytes <= plan.held_bytes + plan.new_bytes


@pytest.mark.slow
def test_the_benchmark_keeps_tokens_of_different_numbers(reranker, images, tmp_path):
    paths = []
    for number in range(5):
        paths.append(tmp_path / f"{number}.png")
        page(number).save(paths[-1])
    store = TokenStore(tmp_path / "cache", reranker, lambda path: path.name)
    store.add_images(paths)
    texts = reranker.text_tokens(TEXTS)
    kept = reranker.match(texts, store.image_tokens(paths))
    np.testing.assert_allclose(kept, reranker.match(texts, images), atol=0.01)


@pytest.mark.slow
def test_an_explanation_shows_where_the_words_are_near(reranker, tiny_encoder):
    picture = page(0)
    told = explain(reranker, tiny_encoder, TEXTS[0], picture)
    rows, columns = reranker.grid(reranker.preprocess(picture), 0).shape
    assert [word.word for word in told.words] == TEXTS[0].split()
    assert all(word.heat.shape == (rows, columns) for word in told.words)
    assert told.view == (0, 0, 60, 40)
    text = reranker.text_tokens([TEXTS[0]])
    image = reranker.image_tokens(np.stack([reranker.preprocess(picture)]))
    assert told.match == pytest.approx(reranker.match(text, image)[0, 0], abs=1e-5)
    place = reranker.token_spans(TEXTS[0]).index((3, 8))
    products = text.values[0, place] @ image.values[0].T
    cells = products[reranker.grid(reranker.preprocess(picture), 0)]
    assert told.words[1].heat.argmax() == cells.argmax()


@pytest.mark.slow
def test_names_of_nothing_are_refused(tiny_encoder, tmp_path):
    with pytest.raises(UsageError, match="There is no reranker"):
        load_reranker("late-interaction:", tiny_encoder)
    with pytest.raises(UsageError, match="late-interaction:nowhere: there is no folder"):
        load_reranker("late-interaction:nowhere", tiny_encoder)
    with pytest.raises(EncoderUnavailableError, match="has no configuration"):
        load_reranker(f"late-interaction:{tmp_path}", tiny_encoder)

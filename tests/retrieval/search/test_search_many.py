"""Queries that are answered together get the answers that they get alone."""

import numpy as np
import pytest
from PIL import Image

from retrieval.errors import NotFoundError, UsageError
from retrieval.filters import Filter
from retrieval.media import Modality
from retrieval.search.answer import Answer
from retrieval.search.cursor import Cursor
from retrieval.search.engine import Engine
from retrieval.search.query import ImagePart, ItemPart, Mode, Query, Reranking, TextPart, read_parts

NONE = Reranking("none")


@pytest.fixture
def engine(indexed_library):
    return Engine(indexed_library, device="cpu")


def requests(picture_folder, tiny_fusion):
    path = sorted(picture_folder.rglob("*.png"))[2]
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    fusion = Reranking(f"fusion:{tiny_fusion}")
    dog, snow = TextPart("a dog"), TextPart("snow", -0.5)
    return [
        (Query((dog,)), NONE),
        (Query((dog,)), fusion),
        (Query((dog, snow), k=3), fusion),
        (Query((TextPart("picture 3"),)), fusion),
        (Query((TextPart("picture 3"),), mode=Mode.TEXT, k=2), NONE),
        (Query((TextPart("picture"),), mode=Mode.HYBRID, k=4), fusion),
        (Query((ImagePart(image),)), fusion),
        (Query((ImagePart(image), dog), diversity=0.4), NONE),
        (Query((ItemPart(2),)), fusion),
        (Query((ItemPart(2), snow)), fusion),
        (Query((dog,), where=Filter(path="folder 1/*")), fusion),
        (Query((dog,), where=Filter(path="folder 0/*"), k=1), NONE),
        (Query((dog,), min_relevance=0.3), NONE),
        (Query((dog,), modality=Modality.TEXT), fusion),
    ]


def assert_same(one: Answer, other: Answer) -> None:
    assert [hit.item for hit in one] == [hit.item for hit in other]
    assert [hit.rank for hit in one] == [hit.rank for hit in other]
    for name in ("similarity", "match", "relevance", "words"):
        values, others = ([getattr(hit, name) for hit in answer] for answer in (one, other))
        assert values == pytest.approx(others, abs=1e-5), name
    for name in ("mode", "reranker", "reranked", "warnings"):
        assert getattr(one, name) == getattr(other, name)
    ends, others = (
        vars(Cursor.read(answer.next_cursor)) if answer.next_cursor else {}
        for answer in (one, other)
    )
    for name in ("least", "expected"):  # whose last digits depend on what is computed together
        assert ends.pop(name, 0.0) == pytest.approx(others.pop(name, 0.0), rel=1e-3)
    assert ends == others


def test_answers_are_the_same_together_and_alone(
    indexed_library, engine, picture_folder, tiny_fusion
):
    asked = requests(picture_folder, tiny_fusion)
    together = engine.search_many(asked)
    alone = Engine(indexed_library, device="cpu")
    for request, answer in zip(asked, together, strict=True):
        assert_same(answer, alone.search(*request))
    again = engine.search_many(asked[::-1])[::-1]
    for answer, repeated in zip(together, again, strict=True):
        assert_same(answer, repeated)


def test_what_is_wrong_with_one_leaves_the_others_alone(engine):
    good = Query((TextPart("a dog"),))
    answers = engine.search_many(
        [
            (good, NONE),
            (Query((TextPart("a"), TextPart("a", -1.0))), NONE),
            (good, Reranking("better")),
            (Query((ItemPart(999),)), NONE),
            (Query((TextPart("a dog"),), cursor="made up"), NONE),
            (good, NONE),
        ]
    )
    assert [type(answer) for answer in answers[1:5]] == [
        UsageError,
        UsageError,
        NotFoundError,
        UsageError,
    ]
    assert_same(answers[0], answers[5])
    assert len(answers[0]) == 6


def test_texts_are_encoded_once_and_in_one_call(engine):
    calls = []
    encode = engine.encoder.encode
    engine.encoder.encode = lambda modality, texts: (
        calls.append(list(texts)) or encode(modality, texts)
    )
    queries = [Query((TextPart(text),)) for text in ("dog", "cat", "dog", "bird")]
    engine.search_many([(query, NONE) for query in queries])
    engine.search(queries[0], NONE)
    assert calls == [["dog", "cat", "bird"]]
    assert (engine.vector_cache.hits, engine.vector_cache.misses) == (1, 3)


def test_no_request_has_no_answer(engine):
    assert engine.search_many([]) == []


def test_texts_and_images_are_encoded_as_by_the_encoder(engine, tiny_encoder, picture_folder):
    vectors = engine.encode_texts(["a dog", "snow", "a dog"])
    np.testing.assert_allclose(
        vectors, tiny_encoder.encode(Modality.TEXT, ["a dog", "snow", "a dog"]), atol=1e-6
    )
    [part] = read_parts(image=next(picture_folder.rglob("*.png")))
    pixels = tiny_encoder.preprocess(part.image)[np.newaxis]
    np.testing.assert_allclose(
        engine.encode_images([part.image]), tiny_encoder.encode(Modality.IMAGE, pixels), atol=1e-6
    )
    assert engine.encode_texts([]).shape == (0, 32)
    assert engine.encode_images([]).shape == (0, 32)

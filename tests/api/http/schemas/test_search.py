"""Questions and answers of a search as JSON."""

import json
from dataclasses import replace

import pytest
from pydantic import ValidationError

from api.http.schemas import PartSchema, SearchAnswer, SearchRequest, ServedAnswer
from retrieval.catalog import Item
from retrieval.media import MediaKind, Modality
from retrieval.search.answer import Answer, Hit
from retrieval.search.query import (
    MAX_ITEM_ID,
    MAX_K,
    MAX_PARTS,
    MAX_RERANK_BUDGET_MS,
    MAX_RERANK_DEPTH,
    MAX_TEXT_LENGTH,
    Mode,
)

ITEM = Item(
    7, "/photos/a.jpg", MediaKind.IMAGE, Modality.IMAGE, "c0ffee", 10, 20, width=6, height=4
)
HIT = Hit(1, ITEM, similarity=0.25, relevance=0.5, group=(8, 9))
ANSWER = Answer((HIT,), {"encode": 1.23456}, warnings=("w",), mode=Mode.HYBRID, next_cursor="c")


def test_a_hit_is_flat_and_scores_that_do_not_exist_are_null():
    body = json.loads(SearchAnswer.of(ANSWER, "a dog").model_dump_json())
    assert body["hits"] == [
        {
            "rank": 1,
            "item_id": 7,
            "path": "/photos/a.jpg",
            "kind": "image",
            "modality": "image",
            "page": None,
            "time_s": None,
            "start_s": None,
            "end_s": None,
            "found_by": None,
            "text": None,
            "columns": None,
            "width": 6,
            "height": 4,
            "taken_local": None,
            "taken_from": None,
            "similarity": 0.25,
            "match": None,
            "relevance": 0.5,
            "words": None,
            "group": [8, 9],
        }
    ]
    assert (body["query"], body["image"], body["mode"]) == ("a dog", None, "hybrid")
    assert (body["warnings"], body["next_cursor"]) == (["w"], "c")


def test_an_answer_of_a_service_is_read_back_by_its_client():
    odd = replace(HIT, item=replace(ITEM, path="/caf\udce9.jpg"))
    served = ServedAnswer.of(replace(ANSWER, hits=(odd,)), "a dog", timings_ms={"decode": 2.0})
    assert served.hits[0].path == "/caf\\xe9.jpg"
    assert served.hits[0].thumbnail == "/v1/items/7/thumbnail?size=320&v=c0ffee"
    assert served.timings_ms == {"decode": 2.0, "encode": 1.235}
    assert ServedAnswer.model_validate_json(served.model_dump_json()) == served


@pytest.mark.parametrize(
    ("field", "within", "beyond"),
    [
        ("k", [1, MAX_K], [0, MAX_K + 1]),
        ("item", [1, MAX_ITEM_ID], [0, MAX_ITEM_ID + 1]),
        ("text", ["x", "x" * MAX_TEXT_LENGTH], ["", "x" * (MAX_TEXT_LENGTH + 1)]),
        ("min_relevance", [0, 1], [-0.01, 1.01, float("nan")]),
        ("diversity", [0, 1], [-0.01, 1.01, float("nan")]),
        ("rerank_depth", [None, 1, MAX_RERANK_DEPTH], [0, MAX_RERANK_DEPTH + 1]),
        ("rerank_budget_ms", [0, MAX_RERANK_BUDGET_MS], [-1, MAX_RERANK_BUDGET_MS + 1]),
        ("rerank", ["auto", "none"], ["fusion", "fusion:/etc/passwd"]),
        ("mode", list(Mode), ["magic"]),
        ("modality", list(Modality), ["smell"]),
        ("cursor", [None, "x"], [""]),
        ("parts", [[], [{"text": "x"}] * MAX_PARTS], [[{"text": "x"}] * (MAX_PARTS + 1)]),
    ],
)
def test_limits_of_a_question(field, within, beyond):
    for value in within:
        SearchRequest.model_validate({field: value})
    for value in beyond:
        with pytest.raises(ValidationError, match=field):
            SearchRequest.model_validate({field: value})


@pytest.mark.parametrize(
    "part",
    [{}, {"weight": 2}, {"text": "x", "item": 1}, {"text": "x", "weight": 100.1}, {"url": "x"}],
)
def test_a_part_is_one_thing(part):
    with pytest.raises(ValidationError):
        PartSchema.model_validate(part)

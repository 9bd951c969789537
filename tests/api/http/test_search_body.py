"""The body of a search: as JSON, or in a form with files."""

import asyncio
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from starlette.requests import Request

from api.http.schemas import SearchRequest
from api.http.search_body import SearchBody, read_search_body
from retrieval.search.query import MAX_ITEM_ID, MAX_WEIGHT

weights = st.floats(-MAX_WEIGHT, MAX_WEIGHT)
things = st.one_of(
    st.fixed_dictionaries({"text": st.text(min_size=1, max_size=9)}),
    st.fixed_dictionaries({"image": st.text("abc", min_size=1, max_size=9)}),
    st.fixed_dictionaries({"item": st.integers(1, MAX_ITEM_ID)}),
)


def read(body: dict) -> SearchBody:
    async def receive() -> dict:
        return {"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}

    headers = [(b"content-type", b"application/json")]
    request = Request({"type": "http", "method": "POST", "headers": headers}, receive)
    return asyncio.run(read_search_body(request))


@given(things, st.lists(st.tuples(things, weights), max_size=4))
def test_a_shorthand_is_a_part_of_weight_one_before_the_others(shorthand, parts):
    body = read(shorthand | {"parts": [thing | {"weight": weight} for thing, weight in parts]})
    assert body.parts == [
        (kind, value, weight)
        for thing, weight in [(shorthand, 1.0), *parts]
        for kind, value in thing.items()
    ]
    assert SearchRequest.model_validate_json(body.request.model_dump_json()) == body.request


def png() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (60, 40), "red").save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize("padding", [0, 70_000])
def test_numbers_are_not_read_out_of_texts_however_long_the_body(client, padding):
    """A long body is parsed on another thread, which must not parse it otherwise."""
    kind = {"Content-Type": "application/json; charset=utf-8"}
    body = '{"text": "x",' + " " * padding + '"k": %s}'
    answer = client.post("/v1/search", content=body % "2", headers=kind)
    assert len(answer.json()["hits"]) == 2
    for wrong in ('"2"', "2.5", "true", "NaN"):
        answer = client.post("/v1/search", content=body % wrong, headers=kind)
        assert answer.status_code == 422
        assert "body" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("question", "query"),
    [
        ({"text": "a dog"}, "a dog"),
        ({"parts": [{"text": "a dog"}]}, "a dog"),
        ({"parts": [{"text": "a dog", "weight": 2}]}, '2 "a dog"'),
        ({"item": 1}, None),
        ({"text": "a dog", "item": 1}, '"a dog" + item 1'),
        ({"text": "a", "parts": [{"item": 1, "weight": -1}]}, '"a" - item 1'),
        ({"text": "a", "parts": [{"text": "b", "weight": -0.5}]}, '"a" - 0.5 "b"'),
    ],
)
def test_the_answer_spells_the_question(client, question, query):
    answer = client.post("/v1/search", json=question)
    assert answer.json()["query"] == query


def test_a_form_joins_its_text_with_its_images(client):
    question = json.dumps({"text": "a photo", "parts": [{"text": "red", "weight": -0.5}]})
    answer = client.post("/v1/search", data={"request": question}, files={"image": ("x", png())})
    assert answer.json()["query"] == '"a photo" - 0.5 "red" + image'
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["hits"]) == 4


@pytest.mark.parametrize(
    ("form", "files", "detail"),
    [
        ({"request": "{"}, {"image": ("x", png())}, "request"),
        ({"request": '{"text": "x", "k": 0}'}, {"image": ("x", png())}, "request.k"),
        ({"request": ["{}", "{}"]}, {"image": ("x", png())}, "give it once"),
        ({"url": "http://localhost/"}, {"image": ("x", png())}, "no field 'url'"),
        ({"image": "text"}, {"request": ("x", b"{}")}, "send it as a file"),
        ({}, {"image": ("x", b"")}, "The uploaded image 1: the file is empty"),
        ({}, {"image": ("x.png", b"<html>")}, "The uploaded image 1: "),
    ],
)
def test_forms_that_cannot_be_meant(client, form, files, detail):
    answer = client.post("/v1/search", data=form, files=files)
    assert answer.status_code == 422
    assert detail in answer.json()["detail"]


def test_more_files_than_are_read(client):
    answer = client.post("/v1/search", files=[("image", ("x", png()))] * 20)
    assert answer.status_code in {400, 422}
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "image/png", ""]
)
def test_other_types_of_bodies(client, kind):
    answer = client.post("/v1/search", content=b'{"text": "x"}', headers={"Content-Type": kind})
    assert answer.status_code == 415
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "content",
    [
        b"--x\r\n",
        b"--x\r\nContent-Disposition: form-data\r\n\r\n\r\n--x--",
        b"\x00" * 100,
        b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\nabc',
    ],
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_broken_forms(client, content):
    answer = client.post(
        "/v1/search", content=content, headers={"Content-Type": "multipart/form-data; boundary=x"}
    )
    assert answer.status_code in {400, 422}
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_form_without_a_boundary(client):
    answer = client.post(
        "/v1/search", content=b"x", headers={"Content-Type": "multipart/form-data"}
    )
    assert answer.status_code in {400, 422}

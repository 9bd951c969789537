"""Searching over HTTP: every way to ask, and every limit of what can be asked."""

import base64
import io
import itertools

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from api.http.app import create_app
from api.http.settings import ServiceSettings
from indexer.pipeline import index_sources
from retrieval.library import create_library, open_library
from retrieval.search.query import (
    MAX_K,
    MAX_PARTS,
    MAX_RERANK_BUDGET_MS,
    MAX_RERANK_DEPTH,
    MAX_TEXT_LENGTH,
    MAX_WEIGHT,
)


def png(size=(60, 40), colour="red") -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, colour).save(stream, "PNG")
    return stream.getvalue()


def base64_of(content: bytes) -> str:
    return base64.b64encode(content).decode()


@pytest.fixture(scope="module")
def library(tmp_path_factory, tiny_encoder):
    folder = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    for colour in ("red", "green", "blue", "yellow"):
        noise = generator.integers(0, 256, (400, 600, 3), dtype=np.uint8)
        Image.fromarray(noise).reduce(generator.integers(1, 9)).resize((600, 400)).save(
            folder / f"{colour}.png"
        )
    library = create_library(tmp_path_factory.mktemp("searched") / "library", tiny_encoder.space)
    index_sources(library, tiny_encoder, [folder])
    return library


@pytest.fixture(scope="module")
def client(library):
    settings = ServiceSettings(max_pixels=1)
    with TestClient(
        create_app(library.path, settings, device="cpu"), base_url="http://localhost"
    ) as client:
        yield client


def ids(answer) -> list[int]:
    assert answer.status_code == 200, answer.text
    return [hit["item_id"] for hit in answer.json()["hits"]]


def test_a_hit_tells_what_a_page_needs(client):
    [hit] = client.post("/v1/search", json={"text": "x", "k": 1}).json()["hits"]
    assert (hit["width"], hit["height"]) == (600, 400)
    assert client.get(hit["thumbnail"]).status_code == 200
    assert hit["group"] == []
    assert set(hit) >= {"similarity", "match", "relevance", "words", "page", "time_s", "columns"}


def test_every_way_to_send_an_image_finds_the_same(client, library):
    wanted = [
        hit.item.id
        for hit in open_library(library.path).search(image=Image.new("RGB", (60, 40), "red"))
    ]
    content = base64_of(png())
    ways = [
        client.post("/v1/search", json={"image": content}),
        client.post("/v1/search", json={"parts": [{"image": content}]}),
        client.post("/v1/search", files={"image": ("x.png", png(), "image/png")}),
        client.post(
            "/v1/search", data={"request": "{}"}, files={"image": ("../../etc/passwd", png())}
        ),
        client.post(
            "/v1/search",
            files={"request": ("blob", b'{"k": 10}', "application/json"), "image": ("x", png())},
        ),
    ]
    assert [ids(way) for way in ways] == [wanted] * len(ways)
    assert all(way.json()["timings_ms"]["decode"] > 0 for way in ways)


def test_a_part_can_be_taken_away(client):
    liked = client.post("/v1/search", json={"text": "blue", "mode": "vector"})
    disliked = client.post("/v1/search", json={"parts": [{"text": "blue", "weight": -1}]})
    assert ids(disliked) == ids(liked)[::-1]


def test_an_item_is_a_part(client):
    everything = ids(client.post("/v1/search", json={"text": "x"}))
    for liked, disliked in itertools.permutations(everything, 2):
        parts = [{"item": liked}, {"item": disliked, "weight": -1}, {"text": "x", "weight": 0.01}]
        answer = client.post("/v1/search", json={"parts": parts, "mode": "vector"})
        found = ids(answer)
        assert found.index(liked) < found.index(disliked)
        assert answer.json()["query"] == f'item {liked} - item {disliked} + 0.01 "x"'
    alone = ids(client.post("/v1/search", json={"item": everything[0]}))
    assert sorted(alone) == sorted(everything[1:])
    missing = client.post("/v1/search", json={"item": 999})
    assert missing.status_code == 404
    assert "999" in missing.json()["detail"]


def test_page_after_page_finds_all_once(client):
    whole = client.post("/v1/search", json={"text": "x", "k": 4, "rerank": "none"})
    found, cursor = [], None
    while len(found) < 10:
        question = {"text": "x", "k": 1, "rerank": "none", "cursor": cursor}
        page = client.post("/v1/search", json=question)
        found += ids(page)
        cursor = page.json()["next_cursor"]
        if cursor is None:
            break
    assert found == ids(whole)


def test_a_filter(client):
    answer = client.post("/v1/search", json={"text": "x", "where": {"not": {"path": "**/red.png"}}})
    assert len(ids(answer)) == 3


@pytest.mark.parametrize(
    ("question", "detail"),
    [
        ({"image": "no base64!"}, "The image of part 1: not valid base64"),
        ({"text": "x", "image": base64_of(b"GIF89a")}, "The image of part 2: "),
        ({"image": base64_of(png((1001, 1000)))}, "the limit is 1.0"),
        ({"parts": [{"text": "x"}] * 17}, "parts"),
        ({"text": "x", "parts": [{"text": "x"}] * 16}, "at most 16 parts"),
        ({"parts": [{"image": base64_of(png())}] * 9}, "8 of them images"),
        ({"parts": [{"text": "x", "item": 1}]}, "parts.0"),
        ({"parts": [{"weight": 1}]}, "parts.0"),
        ({"parts": [{"text": "x", "weight": 0}]}, "A weight must be a number other than 0"),
        ({"parts": [{"text": "x", "weight": 101}]}, "parts.0.weight"),
        ({"parts": [{"text": "x"}, {"text": "x", "weight": -1}]}, "cancel each other out"),
        ({"text": "x", "k": "5"}, "body.k"),
        ({"text": "x", "k": MAX_K + 1}, "body.k"),
        ({"text": "x" * (MAX_TEXT_LENGTH + 1)}, "body.text"),
        ({"text": "x", "rerank_depth": MAX_RERANK_DEPTH + 1}, "rerank_depth"),
        ({"text": "x", "rerank_budget_ms": MAX_RERANK_BUDGET_MS + 1}, "rerank_budget_ms"),
        ({"text": "x", "min_relevance": 1.5}, "min_relevance"),
        ({"text": "x", "diversity": -1}, "diversity"),
        ({"text": "x", "mode": "magic"}, "mode"),
        ({"text": "x", "where": {"smell": "good"}}, "where.smell"),
        ({"text": "x", "where": {"kind": []}}, "where.kind"),
        ({"text": "x", "cursor": "not a cursor"}, "cursor"),
        ({"url": "http://169.254.169.254/latest/meta-data"}, "url"),
        ({"image": "http://169.254.169.254/latest/meta-data"}, "not valid base64"),
        ([], "body"),
    ],
)
def test_questions_that_cannot_be_meant(client, question, detail):
    answer = client.post("/v1/search", json=question)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert detail in answer.json()["detail"]


def test_the_most_that_can_be_asked(client):
    question = {
        "parts": [{"text": "x " * (MAX_TEXT_LENGTH // 2), "weight": MAX_WEIGHT}] * MAX_PARTS,
        "k": MAX_K,
        "rerank_depth": MAX_RERANK_DEPTH,
        "rerank_budget_ms": MAX_RERANK_BUDGET_MS,
    }
    assert len(ids(client.post("/v1/search", json=question))) == 4


@pytest.fixture(scope="module")
def two_spaces(tmp_path_factory, tiny_encoder, other_encoder):
    """Four pictures and three notes in two spaces."""
    folder = tmp_path_factory.mktemp("pictures and notes")
    for number, colour in enumerate(("red", "green", "blue", "yellow")):
        Image.new("RGB", (60, 40), colour).save(folder / f"{number}-{colour}.png")
    for number in range(3):
        (folder / f"note-{number}.txt").write_text(f"The quartz of day {number}.")
    library = create_library(tmp_path_factory.mktemp("two") / "library", tiny_encoder.space)
    index_sources(library, tiny_encoder, [folder], workers=1)
    library.add_space(other_encoder.space)
    index_sources(library, other_encoder, workers=1)
    return library


@pytest.fixture(scope="module")
def joint_client(two_spaces):
    first = two_spaces.space().id
    spaces = (first, next(one for one in two_spaces.space_ids() if one != first))
    settings = ServiceSettings(rerank="none", spaces=spaces)
    with TestClient(
        create_app(two_spaces.path, settings, device="cpu"), base_url="http://localhost"
    ) as client:
        yield client


def hits_of(client, **question):
    answer = client.post("/v1/search", json={"text": "quartz", "k": 50} | question)
    assert answer.status_code == 200, answer.text
    return answer.json()["hits"]


def test_any_finds_pictures_and_passages(joint_client):
    hits = hits_of(joint_client, modality="any")
    assert sum(hit["modality"] == "image" for hit in hits) == 4
    notes = [hit for hit in hits if hit["modality"] == "text"]
    assert len(notes) == 3
    assert all("quartz" in hit["text"] and hit["words"] for hit in notes)
    assert {hit["modality"] for hit in hits_of(joint_client)} == {"image"}  # as ever
    of_notes = hits_of(joint_client, modality="any", where={"kind": ["text"]})
    assert {hit["item_id"] for hit in of_notes} == {hit["item_id"] for hit in notes}


@pytest.mark.parametrize("is_fused", [False, True])
def test_pages_of_any_fit_together(joint_client, is_fused):
    spaces = joint_client.get("/v1/stats").json()["searched_spaces"] if is_fused else []
    asked = {"text": "quartz", "modality": "any", "spaces": spaces}
    whole = [hit["item_id"] for hit in hits_of(joint_client, **asked)]
    paged, cursor = [], None
    while True:
        page = joint_client.post("/v1/search", json=asked | {"k": 2, "cursor": cursor}).json()
        paged += [hit["item_id"] for hit in page["hits"]]
        assert [hit["rank"] for hit in page["hits"]][-1:] == [len(paged)]
        if (cursor := page["next_cursor"]) is None:
            break
    assert paged == whole


def test_spaces_are_chosen_by_request(joint_client, client):
    stats = joint_client.get("/v1/stats").json()
    first, second = stats["searched_spaces"]
    assert sorted(stats["spaces"]) == sorted((first, second))
    one, other = (hits_of(joint_client, spaces=[space]) for space in (first, second))
    assert one == hits_of(joint_client)
    assert [hit["similarity"] for hit in one] != [hit["similarity"] for hit in other]
    joined = hits_of(joint_client, spaces=[first, second])
    assert {hit["item_id"] for hit in joined} == {hit["item_id"] for hit in one}
    for asked in ([first, first], ["nonsense"], [first] * 9):
        answer = joint_client.post("/v1/search", json={"text": "x", "spaces": asked})
        assert answer.status_code == 422, answer.text
    refused = client.post("/v1/search", json={"text": "x", "spaces": [second]})
    assert refused.status_code == 422
    assert "mmsearch serve --space ID" in refused.json()["detail"]


@pytest.fixture(scope="module")
def travels(travel_library):
    with TestClient(
        create_app(travel_library.path, device="cpu"), base_url="http://localhost"
    ) as client:
        yield client


def test_words_that_say_when_and_where_are_filters(travels):
    body = {"text": "people in Paris 2019", "rerank": "none"}
    answer = travels.post("/v1/search", json=body).json()
    assert len(answer["hits"]) == 2
    assert answer["query"] == "people in Paris 2019"
    assert [(u["words"], u["kind"], u["label"]) for u in answer["understood"]] == [
        ("in Paris", "place", "Paris"),
        ("2019", "time", "2019"),
    ]
    # What was understood is a filter that can be sent.
    where = {"and": [understood["where"] for understood in answer["understood"]]}
    again = {"text": "people", "where": where, "parse": False, "rerank": "none"}
    assert ids(travels.post("/v1/search", json=again)) == [h["item_id"] for h in answer["hits"]]


def test_words_are_searched_for_as_they_are_if_asked(travels):
    body = {"text": "people in Paris 2019", "rerank": "none"}
    plain = travels.post("/v1/search", json=body | {"parse": False}).json()
    assert (len(plain["hits"]), plain["understood"]) == (8, [])
    partly = travels.post("/v1/search", json=body | {"literal": ["2019"]}).json()
    assert [understood["words"] for understood in partly["understood"]] == ["in Paris"]
    assert travels.post("/v1/search", json=body | {"literal": ["a"] * 51}).status_code == 422

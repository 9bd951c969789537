"""Items over HTTP: lists, and what is similar to one."""

import json
import os
from pathlib import Path

import pytest
from PIL import Image
from starlette.testclient import TestClient

from api.http.app import create_app
from indexer.pipeline import index_sources
from retrieval.library import create_library

PICTURES = 12
TOLD = {
    "rating": 4,
    "label": "Red",
    "persons": ["Ann Lee"],
    "keywords": ["Quokka"],
    "created": "2015-08-22T10:00:00",
}


@pytest.fixture(scope="module")
def client(tmp_path_factory, tiny_encoder, xmp_packet):
    folder = tmp_path_factory.mktemp("files")
    for number in range(PICTURES - 1):
        name = f"{number}.png" if number else "plain.png"
        Image.new("RGB", (70, 40), (number * 20, 0, 0)).save(folder / name)
    (folder / "liar.jpg").write_bytes((folder / "plain.png").read_bytes())
    (folder / "page.html").write_text("<html><body>Two dogs in the snow.</body></html>")
    (folder / "3.png.xmp").write_bytes(xmp_packet(**TOLD))
    os.utime(folder / "4.png", (1.4e9, 1.4e9))  # the time of a file that was just written is unsure
    library = create_library(tmp_path_factory.mktemp("served") / "library", tiny_encoder.space)
    index_sources(library, tiny_encoder, [folder])
    with TestClient(create_app(library.path, device="cpu"), base_url="http://localhost") as client:
        yield client


def test_every_item_is_listed_once_page_by_page(client, items):
    seen, cursor, pages = [], None, 0
    while pages == 0 or cursor:
        page = client.get(
            "/v1/items", params={"limit": 5, **({"cursor": cursor} if cursor else {})}
        )
        assert page.status_code == 200
        seen += [item["item_id"] for item in page.json()["items"]]
        cursor = page.json()["next_cursor"]
        pages += 1
    assert seen == sorted(item["item_id"] for item in items.values())
    assert len(seen) == PICTURES + 1
    assert pages == 3


def test_the_newest_items_come_first_if_asked(client):
    listed = client.get("/v1/items", params={"limit": 1000}).json()["items"]
    newest = client.get("/v1/items", params={"limit": 2, "order": "newest"}).json()
    assert newest["items"] == listed[:-3:-1]
    following = {"limit": 2, "order": "newest", "cursor": newest["next_cursor"]}
    assert client.get("/v1/items", params=following).json()["items"] == listed[-3:-5:-1]


def test_listing_passages_alone(client):
    listed = client.get("/v1/items", params={"modality": "text"}).json()["items"]
    assert [Path(item["path"]).name for item in listed] == ["page.html"]
    assert listed[0]["thumbnail"] is None


@pytest.mark.parametrize(
    ("parameters", "detail"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 1001}, "limit"),
        ({"cursor": "x"}, "cursor"),
        ({"modality": "smell"}, "modality"),
        ({"where": "{"}, "where"),
        ({"where": '{"smell": 1}'}, "where.smell"),
        ({"path": "/etc"}, "path"),
    ],
)
def test_lists_that_cannot_be(client, parameters, detail):
    answer = client.get("/v1/items", params=parameters)
    assert answer.status_code == 422
    assert detail in answer.json()["detail"]


def test_the_most_similar_comes_without_the_item_itself(client, items):
    item_id = items["plain.png"]["item_id"]
    body = client.get(f"/v1/items/{item_id}/similar", params={"k": 4, "rerank": "none"}).json()
    assert [hit["rank"] for hit in body["hits"]] == [1, 2, 3, 4]
    assert item_id not in [hit["item_id"] for hit in body["hits"]]
    assert body["hits"][0]["path"].endswith("liar.jpg")
    assert body["query"] == f"item {item_id}"
    assert client.get("/v1/items/999/similar").status_code == 404


@pytest.mark.parametrize("order", ["date", "date-asc"])
def test_items_are_listed_by_date_page_by_page(client, items, order):
    seen, cursor = [], None
    while not seen or cursor:
        parameters = {"limit": 5, "order": order, **({"cursor": cursor} if cursor else {})}
        page = client.get("/v1/items", params=parameters).json()
        seen += page["items"]
        cursor = page["next_cursor"]
    dates = [item["taken_local"] for item in seen]
    known = [date for date in dates if date is not None]
    assert known == sorted(known, reverse=order == "date")
    assert dates == known + [None] * (len(dates) - len(known))
    assert {item["item_id"] for item in seen} == {item["item_id"] for item in items.values()}


def test_items_are_listed_by_name_page_by_page(client, items):
    seen, cursor = [], None
    while not seen or cursor:
        parameters = {"limit": 5, "order": "name", **({"cursor": cursor} if cursor else {})}
        page = client.get("/v1/items", params=parameters).json()
        seen += page["items"]
        cursor = page["next_cursor"]
    places = [(item["path"].encode(), item["item_id"]) for item in seen]
    assert places == sorted(places)
    assert {item["item_id"] for item in seen} == {item["item_id"] for item in items.values()}


@pytest.mark.parametrize(
    ("order", "cursor"),
    [
        ("name", "3"),
        ("name", "none.3"),
        ("name", "name-x.3"),
        ("date", "name-L2E.3"),
        ("newest", "name-L2E.3"),
        ("newest", "none.3"),
        ("date", "3"),
        ("date", "2023-02-30T00:00:00.3"),
        ("date", "x"),
    ],
)
def test_a_cursor_of_another_order_is_refused(client, order, cursor):
    answer = client.get("/v1/items", params={"order": order, "cursor": cursor})
    assert answer.status_code == 422


@pytest.mark.parametrize(
    ("where", "names"),
    [
        ({"rating": {"min": 3}}, ["3.png"]),
        ({"rating": {"min": 4.5}}, []),
        ({"rating": {"min": 4, "max": 4}}, ["3.png"]),
        ({"label": "red"}, ["3.png"]),
        ({"label": "blue"}, []),
        ({"keyword": "quokka"}, ["3.png"]),
        ({"keyword": "quok"}, []),
        ({"person": "ann lee"}, ["3.png"]),
        ({"person": "ann"}, []),
        ({"keyword": "QUOKKA", "not": {"rating": {"min": 3}}}, []),
    ],
)
def test_what_photos_say_of_themselves_filters_lists_and_searches(client, where, names):
    listed = client.get("/v1/items", params={"where": json.dumps(where)}).json()["items"]
    found = client.post("/v1/search", json={"text": "a photo", "where": where}).json()["hits"]
    assert [Path(item["path"]).name for item in listed] == names
    assert [Path(hit["path"]).name for hit in found] == names


def test_an_item_says_what_tells_its_date(client, items):
    dated = client.get(f"/v1/items/{items['3.png']['item_id']}").json()
    assert (dated["taken_from"], dated["date_source"]) == ("metadata", "sidecar")
    assert dated["taken_local"] == "2015-08-22T10:00:00"
    undated = client.get(f"/v1/items/{items['4.png']['item_id']}").json()
    assert (undated["taken_from"], undated["date_source"]) == ("mtime", None)


@pytest.mark.parametrize("order", ["oldest", "newest", "date", "date-asc"])
def test_a_list_can_begin_anywhere(client, order):
    everything = client.get("/v1/items", params={"limit": 1000, "order": order}).json()["items"]
    ids = [item["item_id"] for item in everything]
    for modality in (None, "image"):
        known = [i["item_id"] for i in everything if modality in {None, i["modality"]}]
        for offset in range(len(ids) + 2):
            asked = {"order": order, "offset": offset, "limit": 2}
            if modality:
                asked["modality"] = modality
            page = client.get("/v1/items", params=asked).json()
            assert [i["item_id"] for i in page["items"]] == known[offset : offset + 2]
    first = client.get("/v1/items", params={"order": order, "limit": 1}).json()["next_cursor"]
    asked = {"order": order, "cursor": first, "offset": 1, "limit": 1}
    page = client.get("/v1/items", params=asked).json()
    assert [item["item_id"] for item in page["items"]] == ids[2:3]

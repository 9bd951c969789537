"""Where the photos were taken, over HTTP."""

import json

import pytest
from starlette.testclient import TestClient

from api.http.app import create_app


@pytest.fixture(scope="module")
def client(travel_library):
    with TestClient(
        create_app(travel_library.path, device="cpu"), base_url="http://localhost"
    ) as it:
        yield it


def test_the_whole_world(client):
    answer = client.get("/v1/map").json()
    assert answer["total"] == 2
    [point] = answer["points"]
    assert point["count"] == 2
    assert (round(point["latitude"], 2), round(point["longitude"], 2)) == (52.52, 13.41)
    item = client.get(f"/v1/items/{point['item_id']}").json()
    assert item["latitude"] == pytest.approx(52.52)


def test_a_box_and_a_filter(client):
    berlin = {"south": 52, "north": 53, "west": 13, "east": 14}
    assert client.get("/v1/map", params=berlin).json()["total"] == 2
    assert client.get("/v1/map", params=berlin | {"north": 52.3}).json()["total"] == 0
    summer = json.dumps({"taken_at": {"since": "2021-07-01"}})
    assert client.get("/v1/map", params={"where": summer}).json()["total"] == 1


@pytest.mark.parametrize("wrong", [{"south": 91}, {"cells": 0}, {"cells": 201}, {"zoom": 3}])
def test_wrong_boxes(client, wrong):
    assert client.get("/v1/map", params=wrong).status_code == 422

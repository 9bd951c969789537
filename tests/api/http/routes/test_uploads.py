"""Uploads that a service does not take, and the removal of items."""

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from api.http.app import create_app


@pytest.fixture
def writable(indexed_library):
    """A service over a library that the test may change."""
    app = create_app(indexed_library.path, device="cpu")
    with TestClient(app, base_url="http://localhost") as client:
        yield client


def listed(client) -> dict[str, int]:
    """The ids of all items by the names of their files."""
    items = client.get("/v1/items").json()["items"]
    return {Path(item["path"]).name: item["item_id"] for item in items}


def test_a_service_without_uploads_takes_none(client):
    answer = client.post("/v1/items", files=[("files", ("dog.jpg", b"\xff\xd8"))])
    assert answer.status_code == 404
    assert "--uploads" in answer.json()["detail"]


def test_a_removed_item_is_in_no_list_and_no_search_and_its_file_stays(writable):
    items = listed(writable)
    removal = writable.delete(f"/v1/items/{items['picture-0.png']}").json()
    assert removal["item_id"] == items["picture-0.png"]
    assert (removal["file_deleted"], removal["comes_back"]) == (False, True)
    assert Path(removal["path"]).exists()
    left = {name: item_id for name, item_id in items.items() if name != "picture-0.png"}
    assert listed(writable) == left
    hits = writable.post("/v1/search", json={"text": "x", "k": 10}).json()["hits"]
    assert sorted(hit["item_id"] for hit in hits) == sorted(left.values())
    assert writable.delete(f"/v1/items/{items['picture-0.png']}").status_code == 404


def test_an_item_whose_file_is_gone_does_not_come_back(writable, picture_folder):
    (picture_folder / "folder 1" / "picture-1.png").unlink()
    removal = writable.delete(f"/v1/items/{listed(writable)['picture-1.png']}").json()
    assert (removal["file_deleted"], removal["comes_back"]) == (False, False)

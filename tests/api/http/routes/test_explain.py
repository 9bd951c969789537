"""`GET /v1/explain`."""

import io

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from api.http.app import create_app
from indexer.pipeline import index_sources
from retrieval.library import create_library


@pytest.fixture(scope="module")
def served(tmp_path_factory, tiny_encoder):
    """A service over pictures, two of which are lost after indexing, and its items by name."""
    folder = tmp_path_factory.mktemp("photos")
    for name in ("coffee.png", "astronaut.png", "rocket.jpg"):
        Image.new("RGB", (60, 40), "brown").save(folder / name)
    library = create_library(tmp_path_factory.mktemp("served") / "library", tiny_encoder.space)
    index_sources(library, tiny_encoder, [folder])
    (folder / "astronaut.png").unlink()
    (folder / "rocket.jpg").write_bytes(b"no image any more")
    with TestClient(create_app(library.path, device="cpu"), base_url="http://localhost") as client:
        listed = client.get("/v1/items").json()["items"]
        yield (
            client,
            {item["path"].split("/")[-1].split(".")[0]: item["item_id"] for item in listed},
        )


@pytest.mark.parametrize(
    ("parameters", "status", "detail"),
    [
        ({"text": "", "item": 1}, 422, "text"),
        ({"text": " \n", "item": 1}, 422, "text is empty"),
        ({"text": "x" * 10_001, "item": 1}, 422, "text"),
        ({"item": 1}, 422, "text"),
        ({"text": "a"}, 422, "item"),
        ({"text": "a", "item": 0}, 422, "item"),
        ({"text": "a", "item": 2**63}, 422, "item"),
        ({"text": "a", "item": "../../etc/passwd"}, 422, "item"),
        ({"text": "a", "item": 1, "format": "gif"}, 422, "format"),
        ({"text": "a", "item": 1, "path": "/etc/passwd"}, 422, "path"),
        ({"text": "a", "item": 999_999}, 404, "no item 999999"),
        ({"text": "a", "item": "astronaut"}, 404, "cannot be opened any more"),
        ({"text": "a", "item": "rocket"}, 404, "has changed since it was indexed"),
        ({"text": "a", "item": "rocket", "format": "png"}, 404, "has changed since"),
    ],
)
def test_errors_are_problem_details(served, parameters, status, detail):
    client, items = served
    item = parameters.get("item")
    answer = client.get("/v1/explain", params={**parameters, "item": items.get(item, item)})
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert detail in answer.json()["detail"]


def test_a_space_that_explains_nothing_is_a_problem(indexed_library):
    with TestClient(
        create_app(indexed_library.path, device="cpu"), base_url="http://localhost"
    ) as client:
        answer = client.get("/v1/explain", params={"text": "a dog", "item": 1})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert "cross-attention" in answer.json()["detail"]


def test_numbers_and_picture_are_those_of_one_explanation(
    coloured_library, tiny_encoder, tiny_fusion, monkeypatch
):
    from retrieval.rerankers import cross_attention

    monkeypatch.setattr(cross_attention, "SHIPPED", tiny_fusion)
    monkeypatch.setattr(cross_attention, "SHIPPED_FOR", tiny_encoder.space.encoder)
    app = create_app(coloured_library.path, device="cpu")
    asked = {"text": "a red field", "item": 1}
    with TestClient(app, base_url="http://localhost") as client:
        body = client.get("/v1/explain", params=asked).json()
        drawn = client.get("/v1/explain", params=asked | {"format": "png"})
    assert [word["word"] for word in body["words"]] == ["a", "red", "field"]
    left, top, right, bottom = body["view"]
    assert 0 <= left < right <= 600
    assert 0 <= top < bottom <= 400
    for heat in (body["heat"], *(word["heat"] for word in body["words"])):
        assert np.sum(heat) == pytest.approx(1, abs=1e-3)
    assert drawn.headers["content-type"] == "image/png"
    with Image.open(io.BytesIO(drawn.content)) as picture:
        assert picture.format == "PNG"

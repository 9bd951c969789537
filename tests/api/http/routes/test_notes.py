"""`GET /v1/notes`, and the notes of an item."""

from PIL import Image
from starlette.testclient import TestClient

from api.http.app import create_app
from indexer.pipeline import index_sources
from retrieval.library import create_library


def test_failures_and_notes_are_listed(tmp_path, tiny_encoder):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("a", "b"):
        picture = folder / f"{name}.jpg"
        Image.effect_noise((90, 90), 60).save(picture)
        content = picture.read_bytes()
        picture.write_bytes(content[:-1000])
    (folder / "c.jpg").write_bytes(b"nothing")
    library = create_library(tmp_path / "library", tiny_encoder.space)
    assert index_sources(library, tiny_encoder, [folder]).noted == 2
    app = create_app(library.path, device="cpu")
    with TestClient(app, base_url="http://localhost") as client:
        listed = client.get("/v1/notes?limit=1").json()
        items = client.get("/v1/items").json()["items"]
        [note] = client.get(f"/v1/items/{items[0]['item_id']}").json()["notes"]
        assert client.get("/v1/stats").json()["files_noted"] == 2
        assert client.get("/v1/notes?limit=0").status_code == 422
    assert (listed["files_failed"], listed["files_noted"]) == (1, 2)
    assert listed["failures"][0]["reason"] == "not an image of a known format"
    assert listed["notes"] == [{"path": str(folder / "a.jpg"), "notes": [note]}]
    assert "cut off" in note


def test_failures_are_counted_and_listed_by_reason(tmp_path, tiny_encoder):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("a.jpg", "b.jpg"):
        (folder / name).write_bytes(b"nothing")
    (folder / "c.pdf").write_bytes(b"%PDF-1.4 and no more")
    library = create_library(tmp_path / "library", tiny_encoder.space)
    assert index_sources(library, tiny_encoder, [folder]).failed == 3
    app = create_app(library.path, device="cpu")
    with TestClient(app, base_url="http://localhost") as client:
        told = client.get("/v1/notes").json()
        assert sorted(told["reasons"].values()) == [1, 2]
        for reason, count in told["reasons"].items():
            some = client.get("/v1/notes", params={"reason": reason}).json()
            assert {failure["reason"] for failure in some["failures"]} == {reason}
            assert (len(some["failures"]), some["files_failed"]) == (count, 3)
        none = client.get("/v1/notes", params={"reason": "another one"}).json()
        assert (none["failures"], none["files_failed"]) == ([], 3)

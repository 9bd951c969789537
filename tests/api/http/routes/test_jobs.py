"""Which paths a service may be asked to index; `tests/api/http/test_jobs.py` runs the jobs."""

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from api.http.app import create_app
from api.http.indexing_process import IndexingRequest
from api.http.routes.jobs import _allowed
from api.http.settings import ServiceSettings
from retrieval.errors import UsageError


@pytest.fixture(scope="module")
def photos(coloured_library):
    with coloured_library.catalog.snapshot() as snapshot:
        [source] = snapshot.sources()
    return Path(source)


@pytest.fixture
def album(photos, tmp_path):
    """A link in a source of the library to a folder outside of it."""
    link = photos / "link"
    (tmp_path / "secret").mkdir()
    link.symlink_to(tmp_path / "secret")
    yield link
    link.unlink()


@pytest.mark.parametrize("path", ["/etc", "/", "photos", "{photos}/../other", "{photos}-2", "x\0"])
def test_indexing_outside_of_the_sources_is_refused(client, photos, path):
    path = path.format(photos=photos)
    before = client.get("/v1/jobs").json()
    answer = client.post("/v1/index", json={"paths": [path]})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert client.get("/v1/jobs").json() == before


def test_a_link_out_of_a_source_is_not_a_way_out(client, album):
    answer = client.post("/v1/index", json={"paths": [str(album)]})
    assert answer.status_code == 422


def test_jobs_that_are_not_there(client):
    assert client.get("/v1/jobs").json() == {"jobs": []}
    for answer in (client.get("/v1/jobs/nowhere"), client.delete("/v1/jobs/nowhere")):
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"


def test_paths_are_sorted_into_known_sources_and_new_ones(coloured_library, photos, tmp_path):
    """A path in a source is only looked at; one below `--index-below` becomes a source."""
    more = tmp_path / "more"
    more.mkdir()
    app = create_app(coloured_library.path, ServiceSettings(index_below=(more,)), device="cpu")
    with TestClient(app, base_url="http://localhost"):
        service = app.state.service
        asked = [f"{photos}/x/../0-red.png", f"{more}/new/", str(photos)]
        assert _allowed(service, asked) == IndexingRequest(
            sources=(f"{more}/new",), within=(f"{photos}/0-red.png", str(photos))
        )
        for path in (f"{more}-2", f"{more}/../other", "more"):
            with pytest.raises(UsageError):
                _allowed(service, [path])


def test_options_are_of_whole_sources(client, photos):
    source = str(photos)
    for body in (
        {"kinds": ["image"]},
        {"hidden": True},
        {"paths": [f"{source}/0-red.png"], "kinds": ["image"]},
        {"paths": [source], "kinds": ["image", "photo"]},
        {"paths": [source], "kinds": []},
    ):
        answer = client.post("/v1/index", json=body)
        assert answer.status_code == 422, body
    assert client.get("/v1/jobs").json() == {"jobs": []}


def test_a_source_that_gets_other_options_is_indexed_as_one(coloured_library, photos):
    app = create_app(coloured_library.path, device="cpu")
    with TestClient(app, base_url="http://localhost"):
        service = app.state.service
        asked = _allowed(service, [str(photos)], has_options=True)
        assert asked == IndexingRequest(sources=(str(photos),))


def test_text_in_pictures_needs_its_package(client, monkeypatch):
    monkeypatch.setattr("retrieval.recognition.registry.find_spec", lambda _: None)
    answer = client.post("/v1/index", json={"ocr": True})
    assert answer.status_code == 422
    assert "pip install 'mmsearch[ocr]'" in answer.json()["detail"]
    assert client.get("/v1/jobs").json() == {"jobs": []}
    assert client.get("/v1/stats").json()["can_find_text_in_pictures"] is False

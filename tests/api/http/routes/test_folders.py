"""Folders that may be added, and those that nobody is told of."""

import os
import shutil

import pytest
from starlette.testclient import TestClient

from api.http.app import create_app
from api.http.settings import ServiceSettings

READER, WRITER = "reader-secret-0123456789", "writer-secret-0123456789"


@pytest.fixture(scope="module")
def below(tmp_path_factory, coloured_library):
    """A folder whose folders may be added, beside one that may not."""
    top = tmp_path_factory.mktemp("machine")
    root = top / "photos"
    for folder in ("2019/Rome", "Zürich", "a", ".hidden", "@eaDir"):
        (root / folder).mkdir(parents=True)
    (root / os.fsdecode(b"caf\xe9")).mkdir()
    (top / "secret" / "inner").mkdir(parents=True)
    (root / "link").symlink_to(top / "secret")
    shutil.copytree(coloured_library.path, root / "library")
    for name in ("one.jpg", "two.PDF", "three.exe"):
        (root / name).touch()
    return root


@pytest.fixture(scope="module")
def folders(coloured_library, below):
    settings = ServiceSettings(
        index_below=(below,), api_keys=f"eve:read:{READER} ann:read,write:{WRITER}"
    )
    app = create_app(coloured_library.path, settings, device="cpu")
    with TestClient(app, base_url="http://localhost") as client:

        def ask(path=None, secret=WRITER):
            return client.get(
                "/v1/folders",
                params={} if path is None else {"path": str(path)},
                headers={"Authorization": f"Bearer {secret}"},
            )

        yield ask


def test_those_that_all_others_lie_in_come_first(folders, below):
    told = folders().json()
    assert (told["path"], told["parent"]) == (None, None)
    assert [folder["path"] for folder in told["folders"]] == [str(below)]


def test_hidden_ones_libraries_and_links_are_not_listed(folders, below):
    told = folders(below).json()
    assert [folder["name"] for folder in told["folders"]] == ["2019", "a", "Zürich"]
    assert (told["files"], told["is_cut"], told["parent"]) == (2, False, None)
    inner = folders(below / "2019").json()
    assert inner["parent"] == str(below)
    assert inner["folders"][0]["path"] == str(below / "2019" / "Rome")


@pytest.mark.parametrize(
    "path", ["{0}/..", "{0}/../secret", "{0}/link", "{0}/link/inner", "{0}-2", "/", "photos"]
)
def test_nothing_is_told_of_other_folders(folders, below, path):
    answer = folders(path.format(below))
    assert answer.status_code == 422
    assert "inner" not in answer.json()["detail"].replace(path.format(below), "")


def test_a_folder_that_is_not_there(folders, below):
    for path in (below / "lost", below / "one.jpg"):
        assert folders(path).status_code == 404


def test_readers_are_told_of_no_folder(folders, below):
    assert folders(secret=READER).status_code == 403
    assert folders(below, secret=READER).status_code == 403


def test_without_leave_there_is_nothing_to_choose_from(client, tmp_path):
    assert client.get("/v1/folders").json()["folders"] == []
    assert client.get("/v1/folders", params={"path": str(tmp_path)}).status_code == 422


def test_a_source_is_marked_as_known(coloured_library):
    with coloured_library.catalog.snapshot() as snapshot:
        [source] = snapshot.sources()
    settings = ServiceSettings(index_below=(source,))
    app = create_app(coloured_library.path, settings, device="cpu")
    with TestClient(app, base_url="http://localhost") as client:
        [folder] = client.get("/v1/folders").json()["folders"]
    assert folder == {"name": source, "path": source, "is_source": True}

"""Libraries in Lance as users of the terminal meet them."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from api.cli.program import app
from tests.opened_tables import rich_twins

pytest.importorskip("lance", reason="needs Lance: pip install 'mmsearch[cluster]'")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def twins(tmp_path_factory, tiny_encoder):
    return rich_twins(tmp_path_factory.mktemp("twins"), tiny_encoder)


@pytest.fixture
def run(twins, monkeypatch):
    monkeypatch.setenv("MMSEARCH_RESIDENT", "off")

    def run(*arguments: object, library: object = None, code: int = 0) -> str:
        place = str(library or twins.table.location)
        result = CliRunner().invoke(app, [*map(str, arguments), "--library", place])
        if code == 0:
            assert result.exception is None, result.exception
            return result.output
        assert result.exit_code
        return f"{result.output}{result.exception}"

    return run


def answers(run, twins, *arguments: object) -> list[dict]:
    """What both libraries answer as JSON."""
    places = (twins.library.path, twins.table.location)
    return [json.loads(run(*arguments, "--json", library=place)) for place in places]


def test_a_search_of_a_table_finds_what_the_library_has(run, twins):
    for more in ([], ["--path", "**/dogs/*"], ["--mode", "text"], ["--sort", "name"]):
        asked = ["search", "a red boat", "--rerank", "none", *more]
        found = [
            [(hit["path"], hit["similarity"]) for hit in answer["hits"]]
            for answer in answers(run, twins, *asked)
        ]
        assert [path for path, _ in found[1]] == [path for path, _ in found[0]], more
        assert found[1] == [(path, pytest.approx(score, abs=1e-3)) for path, score in found[0]]
    assert "No hits" in run("search", "boat", "--path", "/nowhere/*")
    assert ".jpg" in run("search", "a", "--paths", "-k", "3")


def test_facets_and_duplicates_are_those_of_the_library(run, twins):
    for asked in (["facets"], ["facets", "--facet", "folders"], ["duplicates"]):
        one, other = answers(run, twins, *asked)
        one.pop("library", None), other.pop("library", None)
        for answer in (one, other):
            for pair in answer.get("near", ()):  # whose items have other ids
                pair["a"].pop("item_id"), pair["b"].pop("item_id")
        assert other == one


def test_status_describes_the_table(run, twins):
    one, other = answers(run, twins, "status")
    assert other["library"] == twins.table.location
    assert other["version"] >= 2
    for name in ("images", "texts", "files_indexed", "files_failed", "kinds", "sources"):
        assert other[name] == one[name]
    assert other["storage"]["embeddings"] > 0
    shown = run("status")
    assert "Version   " in shown
    assert "In store" in shown
    assert "broken0.jpg" in run("status", "--failed")


def test_versions_are_listed_and_opened_by_their_numbers(run, twins):
    listed = json.loads(run("versions", "--json"))
    newest = listed["versions"][0]["version"]
    assert listed["version"] == newest
    assert f"{newest:,}" in run("versions")
    assert "earlier ones" in run("versions", "--limit", "1")
    pinned = json.loads(run("status", "--json", library=f"{twins.table.location}@2"))
    assert pinned["version"] == 2
    assert "versions" in run("status", library=f"{twins.table.location}@999", code=1)


def test_files_are_removed_and_the_table_is_compacted(run, tmp_path, tiny_encoder):
    twins = rich_twins(tmp_path, tiny_encoder)
    place = twins.table.location
    name = tmp_path / "photos" / "dogs"
    assert json.loads(run("remove", name, "--json", library=place))["removed"] > 1
    found = json.loads(run("search", "a", "-k", "500", "--json", library=place))["hits"]
    assert found
    assert not [hit for hit in found if Path(hit["path"]).parent == name]
    assert "is compact" in run("compact", library=place)
    done = json.loads(run("compact", "--keep-days", "0", "--json", library=place))
    assert done["library"] == place
    assert len(json.loads(run("versions", "--json", library=place))["versions"]) <= 2


@pytest.mark.parametrize(
    "command",
    [
        ["hide", "1"],
        ["collections", "add", "x", "1"],
        ["check"],
        ["watch", "/nowhere"],
        ["relocate", "/a", "/b"],
        ["spaces", "default", "x"],
    ],
)
def test_what_tables_do_not_have_is_told(run, command):
    told = run(*command, code=1)
    assert "table" in told or "Lance" in told or "/nowhere" in told
    assert "Traceback" not in told


def test_a_backup_of_a_table_is_not_begun(run, tmp_path):
    assert "table" in run("backup", tmp_path / "backup", code=1)
    assert not (tmp_path / "backup").exists()


def test_versions_are_for_tables(run, twins):
    told = run("versions", library=twins.library.path, code=1)
    assert "in a directory" in told
    assert "in a directory" in run("compact", library=twins.library.path, code=1)

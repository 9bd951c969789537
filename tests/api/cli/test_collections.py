import io
import json

import pytest

pytestmark = pytest.mark.slow


def listed(run, *options):
    found = json.loads(run("search", "anything", "-k", "50", "--json", *options).out)
    return {hit["path"] for hit in found["hits"]}


def test_a_collection_from_its_making_to_its_end(indexed, picture_folder, run, monkeypatch):
    first, second, *_ = pictures = sorted(picture_folder.rglob("*.png"))
    assert "no collections yet" in run("collections").out
    added = run("collections", "add", "Summer", second, first)
    assert (added.code, added.out) == (0, "2 items added; Summer has 2 items now.\n")
    assert run("collections", "show", "summer").out.splitlines() == [str(second), str(first)]
    assert run("collections", "show", "summer", "-0").out == f"{second}\0{first}\0"
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{pictures[2]}\n\n{first}\n"))
    added = json.loads(run("collections", "add", "SUMMER", "-", "--json").out)
    assert (added["name"], added["count"], added["changed"]) == ("Summer", 3, 1)
    [told] = json.loads(run("collections", "--json").out)["collections"]
    assert {key: added[key] for key in told} == told
    shown = json.loads(run("collections", "show", "Summer", "--json").out)["items"]
    assert [item["path"] for item in shown] == [str(second), str(first), str(pictures[2])]
    assert listed(run, "--collection", "summer") == {item["path"] for item in shown}
    assert "3 " in run("facets", "--collection", "summer").out
    run("collections", "remove", "Summer", shown[0]["item_id"])
    assert run("collections", "rename", "Summer", "Winter").code == 0
    assert run("collections").out.split() == ["2", "Winter"]
    assert run("collections", "list") == run("collections")
    assert run("collections", "list", "--json") == run("collections", "--json")
    unknown = run("search", "anything", "--collection", "Summer")
    assert (unknown.code, "There is no collection 'Summer'" in unknown.err) == (1, True)
    assert run("collections", "delete", "winter", "--yes").code == 0
    assert json.loads(run("collections", "--json").out) == {"collections": []}


def test_hidden_files_are_found_when_they_are_asked_for(indexed, picture_folder, run):
    pictures = {str(path) for path in picture_folder.rglob("*.png")}
    first, *_ = sorted(pictures)
    assert run("hide", first).out == "1 item hidden.\n"
    assert listed(run) == pictures - {first}
    assert listed(run, "--with-hidden") == pictures
    assert listed(run, "--where", '{"hidden": true}') == {first}
    status = json.loads(run("status", "--json").out)
    assert (status["images"], status["items_hidden"]) == (len(pictures), 1)
    assert json.loads(run("unhide", picture_folder, "--json").out) == {"changed": 1}
    assert listed(run) == pictures


def test_what_is_not_there(indexed, run, tmp_path):
    for command in (
        ["collections", "show", "None"],
        ["collections", "remove", "None", "1"],
        ["collections", "rename", "None", "Some"],
        ["collections", "delete", "None"],
        ["collections", "add", "None", tmp_path / "nothing"],
        ["hide", "999"],
    ):
        result = run(*command)
        assert (result.code, result.out) == (1, ""), command
    assert json.loads(run("collections", "--json").out) == {"collections": []}

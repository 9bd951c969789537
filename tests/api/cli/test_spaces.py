"""`mmsearch spaces`, and how other commands treat a library of several."""

import io
import shutil

import pytest
from PIL import Image

from retrieval.library import open_library

pytestmark = pytest.mark.slow


@pytest.fixture
def other_copy(other_checkpoint, tmp_path):
    """The other model, in a folder that a test may take away."""
    return shutil.copytree(other_checkpoint, tmp_path / "other model")


@pytest.fixture
def ids(indexed, run, picture_folder, other_copy):
    """A library of two spaces; gives the ids of the default and the other one."""
    result = run("index", picture_folder, "--encoder", f"local-dir:{other_copy}", "--space", "new")
    assert result.code == 0, result.err
    listed = run("spaces", "--json").json["spaces"]
    assert f"`mmsearch spaces default {listed[1]['space']}` changes that" in result.out
    assert [space["default"] for space in listed] == [True, False]
    return [space["space"] for space in listed]


@pytest.fixture
def new_picture(picture_folder):
    path = picture_folder / "new.png"
    Image.new("RGB", (48, 40), "red").save(path)
    return path


def spaces(run):
    return {space["space"]: space for space in run("spaces", "--json").json["spaces"]}


def found(run, *options):
    hits = run("search", "x", "-k", 100, "--rerank", "none", "--json", *options).json["hits"]
    return [hit["path"].rpartition("/")[2] for hit in hits]


def test_spaces_are_listed(ids, run):
    for space in spaces(run).values():
        assert (space["images"], space["texts"], space["dimension"]) == (6, 0, 32)
        assert (space["complete"], space["files_behind"]) == (True, 0)
    shown = run("spaces").out.splitlines()
    assert [line.split()[:2] for line in shown] == [["*", ids[0]], [ids[1], shown[1].split()[1]]]
    assert all("6 images, 0 texts  complete" in line for line in shown)


def test_index_keeps_all_spaces_complete(ids, run, new_picture):
    result = run("index")
    assert "1 added" in result.out
    assert f"Space {ids[1]}: 1 embedded, complete." in result.out
    assert all(space["complete"] for space in spaces(run).values())
    for space in ids:
        assert new_picture.name in found(run, "--space", space)
    [other] = run("index", "--json").json["other_spaces"]
    assert (other["space"], other["embedded"], other["complete"]) == (ids[1], 0, True)


@pytest.mark.parametrize("chosen", [0, 1])
def test_index_into_one_space_says_which_it_leaves_behind(ids, run, new_picture, chosen):
    left = ids[1 - chosen]
    result = run("index", "--space", ids[chosen])
    assert f"{left} is left behind: 1 file cannot be found" in result.err
    assert spaces(run)[left]["files_behind"] == 1
    assert new_picture.name not in found(run, "--space", left)
    listed = run("spaces")
    assert "1 file behind" in listed.out
    assert "mmsearch spaces complete" in listed.err
    result = run("spaces", "complete", left, "--json")
    [done] = result.json["spaces"]
    assert (done["space"], done["embedded"], done["files_behind"]) == (left, 1, 0)
    assert new_picture.name in found(run, "--space", left)


def test_complete_brings_all_up_to_date(ids, run, new_picture):
    done = run("spaces", "complete", "--json").json["spaces"]
    assert [(one["space"], one["embedded"]) for one in done] == [(ids[0], 1), (ids[1], 1)]


def test_a_space_whose_encoder_is_gone_is_left_behind(ids, run, new_picture, other_copy):
    shutil.rmtree(other_copy)
    result = run("index")
    assert result.code == 0
    assert "1 added" in result.out
    assert f"{ids[1]} is left behind" in result.err
    assert new_picture.name in found(run)
    result = run("spaces", "complete")
    assert result.code == 1
    assert str(other_copy) in result.err


def test_another_space_becomes_the_default_and_the_old_one_goes(
    ids, run, new_picture, tiny_encoder
):
    before = found(run)
    refused = run("spaces", "remove", ids[0], "--yes")
    assert refused.code == 2
    assert "spaces default" in refused.err
    run("index", "--space", ids[0])
    changed = run("spaces", "default", ids[1])
    assert "Searches use" in changed.out
    assert "1 file cannot be found in it yet" in changed.err
    run("spaces", "complete", ids[1])
    assert sorted(found(run)) == sorted([*before, new_picture.name])
    assert found(run) == found(run, "--space", ids[1])
    removed = run("spaces", "remove", ids[0], "--yes", "--json")
    assert removed.json["removed"] == ids[0]
    assert list(spaces(run)) == [ids[1]]
    assert run("search", "x", "--space", ids[0]).code == 2
    assert run("status", "--json").json["images"] == 7
    assert run("index").code == 0


@pytest.mark.parametrize("answer", ["", "n\n", "y\n"])
def test_removal_asks_first(ids, run, monkeypatch, answer):
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    result = run("spaces", "remove", ids[1])
    is_removed = answer == "y\n"
    assert result.code == (0 if is_removed else 1)
    assert "Remove the space" in result.err
    assert list(spaces(run)) == (ids[:1] if is_removed else ids)


@pytest.mark.parametrize("command", ["default", "remove"])
@pytest.mark.parametrize("name", ["nonsense", "..", ""])
def test_unknown_spaces_are_errors(ids, run, command, name):
    options = ["--yes"] if command == "remove" else []
    result = run("spaces", command, name, *options)
    assert result.code == 2
    assert ids[0] in result.err
    assert list(spaces(run)) == ids
    assert run("spaces", "complete", "nonsense").code == 2


def test_answers_of_two_spaces_are_joined(ids, run):
    one, other = (found(run, "--space", space) for space in ids)
    assert one != other
    both = found(run, "--space", ids[0], "--space", ids[1])
    ranks = {name: 1 / (61 + one.index(name)) + 1 / (61 + other.index(name)) for name in one}
    assert [ranks[name] for name in both] == sorted(ranks.values(), reverse=True)
    assert run("search", "x", "--space", ids[0], "--space", ids[0]).code == 2


def test_notes_are_a_section_of_their_own(indexed, run, picture_folder):
    (picture_folder / "note.txt").write_text("Remember the milk.")
    run("index")
    shown = run("search", "milk", "--rerank", "none").out.splitlines()
    at = shown.index("Texts")
    assert at == 6
    assert "note.txt" in shown[at + 1]
    assert "Remember the milk." in shown[at + 1]
    assert "by its words" in shown[at + 1]
    assert "Texts" not in run("search", "milk", "--modality", "image").out
    modalities = {hit["modality"] for hit in run("search", "milk", "--json").json["hits"]}
    assert modalities == {"image", "text"}


def test_watch_says_which_spaces_it_leaves_behind(ids, tmp_path, run, monkeypatch):
    import indexer.watch

    monkeypatch.setattr(indexer.watch, "watch_sources", lambda *_, **__: None)
    assert ids[1] in run("watch").err
    assert len(open_library(tmp_path / "library").space_ids()) == 2

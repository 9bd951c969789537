"""`mmsearch QUERY` in a folder: found, made, brought up to date, searched."""

import json
import shutil
from pathlib import Path

import pytest

from api.cli import here as module
from api.cli.here import count_files
from retrieval.encoders.registry import EncoderChoice
from retrieval.library import open_library


@pytest.fixture
def folder(picture_folder, monkeypatch, encoder_name):
    """The folder of six pictures, in which the tests are; new libraries use the tiny encoder."""
    monkeypatch.chdir(picture_folder)
    monkeypatch.setattr(
        "retrieval.encoders.registry.choose_encoder",
        lambda *_: EncoderChoice(encoder_name, "as the test wants"),
    )
    return picture_folder


def found(result) -> set[str]:
    assert result.code == 0, result.err
    return {str(Path(hit["path"]).name) for hit in result.json["hits"]}


def test_a_folder_is_indexed_kept_up_to_date_and_searched(folder, run, tmp_path, monkeypatch):
    first = run("a dog", "--json")
    assert len(found(first)) == 6
    assert "6 added" in first.err
    libraries = json.loads((tmp_path / "data" / "mmsearch" / "folders.json").read_text())
    assert list(libraries) == [str(folder)]
    assert not (tmp_path / "library").exists()

    assert run("a dog", "--json").err == ""
    shutil.copy(folder / "folder 0" / "picture-0.png", folder / "folder 0" / "new.png")
    assert "new.png" not in found(run("a dog", "--json", "--no-update"))
    again = run("a", "dog", "--json")
    assert "new.png" in found(again)
    assert "1 added" in again.err

    monkeypatch.chdir(folder / "folder 1")
    assert found(run("a dog", "--json")) == {f"picture-{n}.png" for n in (1, 3, 5)}
    (folder / "folder 1" / "picture-1.png").unlink()
    assert found(run("a dog", "--json")) == {"picture-3.png", "picture-5.png"}
    assert len(libraries) == 1


def test_the_default_library_is_used_where_it_has_the_folder(indexed, folder, run, tmp_path):
    assert len(found(run("a dog", "--json"))) == 6
    assert not (tmp_path / "data").exists()


def test_a_library_can_be_kept_in_the_folder(folder, run, monkeypatch, tmp_path):
    assert len(found(run("a dog", "--json", "--library", ".mmsearch"))) == 6
    assert open_library(folder / ".mmsearch").space_ids()
    monkeypatch.chdir(folder / "folder 0")
    assert len(found(run("a dog", "--json"))) == 3
    assert not (tmp_path / "data").exists()


def test_an_image_of_the_folder_is_a_query(folder, run):
    answer = run("folder 0/picture-2.png", "--json").json
    assert answer["hits"][0]["path"] == str(folder / "folder 0" / "picture-2.png")
    assert answer["hits"][0]["similarity"] > 0.99


def test_another_process_that_indexes_is_no_hindrance(folder, run):
    run("a dog", "--json")
    [path] = (folder.parent / "data" / "mmsearch" / "folders").iterdir()
    (folder / "folder 0" / "picture-0.png").unlink()
    with open_library(path).writer():
        result = run("a dog", "--json")
    assert "Another process is indexing" in result.err
    assert len(found(result)) == 6
    assert len(found(run("a dog", "--json"))) == 5


def test_ctrl_c_keeps_and_searches_what_is_there(folder, run, monkeypatch):
    """As far as the run can be stopped: after the first file of each batch."""
    import indexer.pipeline

    original = indexer.pipeline.index_sources

    def stopped(*given, **options):
        return original(*given, **options | {"should_stop": lambda: True})

    monkeypatch.setattr("indexer.pipeline.index_sources", stopped)
    first = run("a dog", "--json")
    assert 0 < len(found(first)) < 6
    assert "the next search here goes on" in first.err
    monkeypatch.undo()


def test_nothing_is_made_where_nothing_can_be_found(run, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "program.exe").write_bytes(b"x")
    monkeypatch.chdir(tmp_path / "empty")
    result = run("a dog")
    assert result.code == 1
    assert "nothing in" in result.err
    assert "not indexed yet" in run("a dog", "--no-update").err
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("where", ["home", "/", "many"])
def test_large_folders_are_not_indexed_by_mistake(folder, run, monkeypatch, where):
    if where == "many":
        monkeypatch.setattr(module, "MOST_FILES", 5)
    elif where == "home":
        monkeypatch.setenv("HOME", str(folder))
    else:
        monkeypatch.chdir("/")
    result = run("a dog")
    assert result.code == 2
    assert "`--update` to index all of it" in result.err
    assert not (folder.parent / "data").exists()
    if where != "/":
        assert len(found(run("a dog", "--update", "--json"))) == 6


def test_counting_ends_early(folder):
    assert count_files(str(folder), 100) == 6
    assert count_files(str(folder), 3) == 4


def test_here_and_a_server_exclude_each_other(folder, run):
    assert run("a dog", "--server", "http://localhost:1").code == 2

"""`mmsearch config`: where defaults come from, and how they are changed."""

import sys

import pytest


@pytest.fixture(autouse=True)
def file(tmp_path, monkeypatch):
    """The user's file."""
    monkeypatch.setenv("MMSEARCH_CONFIG", str(tmp_path / "mine" / "config.toml"))
    monkeypatch.delenv("MMSEARCH_SERVER", raising=False)
    return tmp_path / "mine" / "config.toml"


def count(run, *options) -> int:
    result = run("search", "a dog", *options)
    assert result.code == 0, result.err
    return len(result.out.splitlines())


def test_option_before_library_before_user(indexed, run, tmp_path, monkeypatch):
    assert count(run) == 6
    assert run("config", "set", "k", 4).code == 0
    assert count(run) == 4
    assert run("config", "set", "k", 2, "--library", tmp_path / "library").code == 0
    assert count(run) == 2
    assert count(run, "--library", tmp_path / "library") == 2
    assert count(run, "-k", 3) == 3
    shown = run("config", "--json").json["settings"]
    assert shown["k"] == {"value": 2, "from": str(tmp_path / "library" / "config.toml")}
    assert shown["library"]["from"] == "$MMSEARCH_LIBRARY"
    assert "library/config.toml)" in run("config").out
    assert run("config", "unset", "k", "--library", tmp_path / "library").code == 0
    assert count(run) == 4


def test_wrong_settings_say_what_there_is(run, tmp_path, file):
    assert "takes a whole number" in run("config", "set", "k", "x").err
    assert "There are: k, kind" in run("config", "unset", "x").err
    assert run("config", "set", "k", 2, "--library", tmp_path / "none").code == 1
    assert not file.exists()
    file.parent.mkdir()
    file.write_text("x = 1")
    wrong = run("status")
    assert wrong.code == 2
    assert "mmsearch config edit" in wrong.err


def test_the_file_is_edited_with_the_editor_of_the_user(run, file, tmp_path, monkeypatch):
    editor = tmp_path / "editor.py"
    editor.write_text("import sys; open(sys.argv[1], 'a').write('k = 7\\n')")
    monkeypatch.setenv("VISUAL", f"{sys.executable} {editor}")
    assert run("config", "edit").code == 0
    assert file.read_text().startswith("# k =")
    assert run("config", "--json").json["settings"]["k"]["value"] == 7
    monkeypatch.setenv("VISUAL", "no-such-editor")
    assert "$EDITOR" in run("config", "edit").err

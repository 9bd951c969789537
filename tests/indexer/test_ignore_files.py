import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.ignore_files import IGNORE_FILE_NAME, IgnoreRules, rules_of_root, with_ignore_file
from indexer.scan import FoundFile, Unlisted, walk


def ignore(directory: Path, *lines: str) -> None:
    (directory / IGNORE_FILE_NAME).write_text("\n".join(lines), encoding="utf-8")


def found_names(root: Path) -> set[str]:
    return {
        os.path.relpath(entry.path, root)
        for entry in walk(str(root))
        if isinstance(entry, FoundFile)
    }


def test_lines_hold_for_their_directory_and_below(tmp_path, make):
    make(tmp_path, "a.png", "a.jpg", "sub/b.png", "sub/deep/c.png", "sub/c.jpg")
    ignore(tmp_path / "sub", "*.png")
    assert found_names(tmp_path) == {"a.png", "a.jpg", "sub/c.jpg"}


def test_deeper_files_win_and_later_lines_win(tmp_path, make):
    make(tmp_path, "a.png", "keep.png", "sub/b.png", "sub/c.png")
    ignore(tmp_path, "*.png", "!keep.png")
    ignore(tmp_path / "sub", "!b.png")
    assert found_names(tmp_path) == {"keep.png", "sub/b.png"}


def test_ignored_directories_are_not_entered(tmp_path, make):
    make(tmp_path, "raw/1.jpg", "raw/deep/2.jpg", "seen.jpg")
    ignore(tmp_path, "raw/")
    ignore(tmp_path / "raw", "!1.jpg")
    assert found_names(tmp_path) == {"seen.jpg"}


def test_git_ignore_files_are_not_honoured(tmp_path, make):
    make(tmp_path, "1.jpg")
    (tmp_path / ".gitignore").write_text("*.jpg")
    (tmp_path / ".ignore").write_text("*.jpg")
    assert found_names(tmp_path) == {"1.jpg"}


def test_files_above_the_root_count_but_never_against_the_root(tmp_path, monkeypatch, make):
    make(tmp_path, "album/raw/1.jpg", "album/2.jpg", "album/3.png")
    ignore(tmp_path, "album/", "album/raw", "*.png")
    assert found_names(tmp_path / "album") == {"2.jpg"}
    monkeypatch.chdir(tmp_path)
    assert found_names(Path("album")) == {"2.jpg"}
    assert found_names(Path("album/raw")) == {"1.jpg"}


def test_names_that_are_not_utf8_can_be_ignored(tmp_path, make):
    name = os.fsdecode(b"caf\xe9.jpg")
    try:
        make(tmp_path, name, "seen.jpg")
    except OSError:
        pytest.skip("this file system wants valid UTF-8")
    (tmp_path / IGNORE_FILE_NAME).write_bytes(b"\xef\xbb\xbfcaf\xe9.jpg\r\n")
    assert found_names(tmp_path) == {"seen.jpg"}


def test_names_with_line_feeds_and_blanks(tmp_path, make):
    make(tmp_path, "a\nb/1.jpg", "1.jpg\n.jpg", "dir /2.jpg", "dir/3.jpg")
    ignore(tmp_path, "1.jpg   ", "dir\\ ")
    assert found_names(tmp_path) == {"1.jpg\n.jpg", "dir/3.jpg"}


def test_what_cannot_be_understood_is_told_and_the_rest_holds(tmp_path, make):
    make(tmp_path, "a.png", "b.jpg")
    ignore(tmp_path, "*.png", "!", "bad\\")
    [problem] = [entry for entry in walk(str(tmp_path)) if isinstance(entry, Unlisted)]
    assert problem.path == str(tmp_path / IGNORE_FILE_NAME)
    assert problem.reason == "no pattern that can be understood in line 2, 3"
    assert found_names(tmp_path) == {"b.jpg"}


def test_an_ignore_file_that_cannot_be_read_is_told(tmp_path, make):
    make(tmp_path, "b.jpg")
    (tmp_path / IGNORE_FILE_NAME).symlink_to(tmp_path / IGNORE_FILE_NAME)
    [problem] = [entry for entry in walk(str(tmp_path)) if isinstance(entry, Unlisted)]
    assert problem.reason.startswith("cannot be read, so nothing is passed over for it: too many")
    assert found_names(tmp_path) == {"b.jpg"}


def test_a_pipe_or_directory_for_an_ignore_file_is_none(tmp_path, make):
    make(tmp_path, "b.jpg", f"sub/{IGNORE_FILE_NAME}/c.jpg")
    os.mkfifo(tmp_path / IGNORE_FILE_NAME)
    assert {type(entry) for entry in walk(str(tmp_path))} == {FoundFile}


def test_no_file_ignores_nothing(tmp_path):
    rules, problems = rules_of_root(str(tmp_path))
    assert problems == []
    assert with_ignore_file(rules, str(tmp_path / IGNORE_FILE_NAME)) == (rules, None)
    assert not IgnoreRules().ignores(str(tmp_path), is_directory=True)


words = st.sampled_from(["a", "b", "ab", "*", "**", "?", "a*", "*b", "[ab]", "[!a]"])
patterns = st.builds(
    lambda negated, anchored, parts, only_directories: (
        "!" * negated + "/" * anchored + "/".join(parts) + "/" * only_directories
    ),
    st.booleans(),
    st.booleans(),
    st.lists(words, min_size=1, max_size=3),
    st.booleans(),
)
lines = st.one_of(patterns, st.sampled_from(["", "# a", "\\!a", "/", "a ", "a\\ "]))
directories = ["", "a", "b", "a/a", "a/b", "a/b/ab", "ab", "ab/b"]
files = [f"{directory}/{name}".lstrip("/") for directory in directories for name in ("b.jpg", "c")]


@pytest.fixture(scope="module")
def tree(make):
    """A tree of a few files, which git takes for a working tree."""
    if not shutil.which("git"):
        pytest.skip("git is not installed")
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        subprocess.run(["git", "init", "--quiet", name], check=True)
        make(root, *(f"{file.removesuffix('c')}c.jpg" for file in files if file.endswith("c")))
        make(root, *(file for file in files if file.endswith(".jpg")))
        yield root


@settings(max_examples=60)
@given(written=st.dictionaries(st.sampled_from(directories), st.lists(lines, max_size=4)))
def test_ignoring_agrees_with_git(tree, written):
    for directory in directories:
        ignore(tree / directory, *written.get(directory, []))
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--others", f"--exclude-per-directory={IGNORE_FILE_NAME}"],
        cwd=tree,
        check=True,
        capture_output=True,
    ).stdout
    expected = {os.fsdecode(name) for name in listed.split(b"\0") if name.endswith(b".jpg")}
    assert found_names(tree) == expected

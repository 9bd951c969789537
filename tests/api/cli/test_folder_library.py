"""The library of a folder tree is found from anywhere in it."""

import json
import os
from pathlib import Path

import pytest

from api.cli.folder_library import (
    INSIDE,
    FolderLibrary,
    find_library,
    library_of,
    place_for_library,
    register,
    registered_folders,
)
from api.cli.options import library_directory
from api.cli.program import _hint_of_folder
from indexer.pipeline import index_sources
from retrieval.errors import NotFoundError
from retrieval.library import create_library, open_library


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A folder tree, with a data directory of its own and no default library."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("MMSEARCH_LIBRARY", str(tmp_path / "default"))
    monkeypatch.delenv("PWD", raising=False)
    (tmp_path / "photos" / "2019" / "May").mkdir(parents=True)
    (tmp_path / "photos-2").mkdir()
    return tmp_path.resolve() / "photos"


@pytest.fixture
def made(tree, tiny_encoder):
    """The library of the tree, made and registered."""
    found = place_for_library(tree)
    create_library(found.path, tiny_encoder.space)
    register(found)
    return found


def test_a_library_is_found_from_all_folders_below(made, tree):
    assert find_library(tree) == made
    below = tree / "2019" / "May"
    assert find_library(below) == FolderLibrary(made.path, str(tree), str(below))
    assert find_library(tree.parent) is None
    assert find_library(tree.parent / "photos-2") is None
    assert made.path.name.startswith("photos-")


def test_folders_of_one_name_have_libraries_of_their_own(made, tree):
    (tree.parent / "other" / "photos").mkdir(parents=True)
    assert place_for_library(tree.parent / "other" / "photos").path != made.path


def test_a_library_grows_to_the_folder_above(made, tree):
    grown = place_for_library(tree.parent)
    assert grown.path == made.path
    register(grown)
    assert registered_folders() == {str(tree.parent): made.path}
    assert find_library(tree / "2019") == FolderLibrary(
        made.path, str(tree.parent), str(tree / "2019")
    )


def test_a_library_in_the_tree_needs_no_registry(tree, tiny_encoder, monkeypatch):
    monkeypatch.chdir(tree)
    found = place_for_library(tree, tree / INSIDE)
    create_library(found.path, tiny_encoder.space)
    register(found)
    assert found.is_own
    assert registered_folders() == {}
    assert find_library(tree / "2019").path == tree / INSIDE


def test_a_library_in_the_tree_of_another_user_is_not_used(tree, tiny_encoder, monkeypatch):
    create_library(tree / INSIDE, tiny_encoder.space)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert find_library(tree) is None


def test_the_nearest_library_counts(made, tree, tiny_encoder):
    nearer = place_for_library(tree / "2019", tree / "2019" / INSIDE)
    create_library(nearer.path, tiny_encoder.space)
    assert find_library(tree / "2019" / "May").path == nearer.path
    assert find_library(tree).path == made.path


def test_the_default_library_comes_first_where_it_has_the_folder(made, tree, tiny_encoder):
    default = create_library(tree.parent / "default", tiny_encoder.space)
    assert find_library(tree).path == made.path
    index_sources(default, tiny_encoder, [tree / "2019"])
    assert find_library(tree).path == made.path
    assert find_library(tree / "2019" / "May") == FolderLibrary(
        default.path, str(tree / "2019"), str(tree / "2019" / "May")
    )


def test_folders_are_found_by_the_path_of_the_shell(tree, tiny_encoder, monkeypatch):
    link = tree.parent / "link"
    link.symlink_to(tree)
    default = create_library(tree.parent / "default", tiny_encoder.space)
    index_sources(default, tiny_encoder, [link])
    assert find_library(tree / "2019") is None
    monkeypatch.setenv("PWD", str(link / "2019"))
    assert find_library(tree / "2019").folder == str(link / "2019")
    monkeypatch.setenv("PWD", str(link))  # of another folder
    assert find_library(tree / "2019") is None


@pytest.mark.parametrize("content", ["", "[]", "{", '{"a": 1}', "3", "\xff"])
def test_a_damaged_registry_is_an_empty_one(tree, content):
    register(place_for_library(tree))
    file = tree.parent / "data" / "mmsearch" / "folders.json"
    assert json.loads(file.read_text()) == {str(tree): str(place_for_library(tree).path)}
    file.write_bytes(content.encode("latin-1"))
    assert registered_folders() == {}
    assert find_library(tree) is None


def test_a_folder_names_its_library(made, tree, monkeypatch):
    assert library_of(tree) == made.path
    assert library_of(tree / "2019") is None
    monkeypatch.chdir(tree)
    assert library_directory(Path()) == made.path
    assert library_directory(made.path) == made.path
    assert library_directory(Path("2019")) == Path("2019")
    assert library_directory(Path("new")) == Path("new")
    assert library_directory(None) is None
    assert find_library(tree / "2019").name == str(tree)


def test_a_command_without_a_library_names_that_of_the_folder(made, tree, monkeypatch):
    monkeypatch.chdir(tree / "2019")
    with pytest.raises(NotFoundError) as raised:
        open_library()
    assert str(tree.name) in _hint_of_folder(raised.value)
    monkeypatch.chdir(tree.parent)
    assert _hint_of_folder(raised.value) == ""
    assert _hint_of_folder(NotFoundError("There is no item 7.")) == ""


def test_a_library_that_was_deleted_is_none(tree):
    register(place_for_library(tree))
    assert find_library(tree) is None


def test_a_link_to_a_library_of_this_user_is_not_followed(tree, tmp_path, tiny_encoder):
    private = tmp_path / "private"
    create_library(private, tiny_encoder.space)
    (tree / INSIDE).symlink_to(private)
    assert find_library(tree) is None

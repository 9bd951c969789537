"""Which library and which encoder a command writes with."""

import shutil

import pytest

from api.cli.open_library import library_and_encoder
from retrieval.encoders.deferred import DeferredEncoder
from retrieval.errors import NotFoundError, UsageError


def test_another_encoder_than_the_librarys(indexed, run, picture_folder, tiny_checkpoint, tmp_path):
    other = tmp_path / "other-checkpoint"
    shutil.copytree(tiny_checkpoint, other)
    result = run("index", picture_folder, "--encoder", f"local-dir:{other}")
    assert result.code == 1
    assert "--space new" in result.err
    result = run("index", picture_folder, "--encoder", f"local-dir:{other}", "--space", "new")
    assert "6 added" in result.out
    spaces = run("status", "--json").json["spaces"]
    assert len(spaces) == 2
    for space in spaces:
        assert len(run("search", "x", "--space", space, "--json").json["hits"]) == 6
    assert run("search", "x", "--space", "nonsense").code == 2


def test_a_damaged_library_is_reported(indexed, run, tmp_path):
    (tmp_path / "library" / "library.toml").write_text("=")
    result = run("search", "x")
    assert result.code == 1
    assert "cannot be read" in result.err


def test_nothing_to_index_makes_no_library(tmp_path, tiny_checkpoint):
    with pytest.raises(NotFoundError, match="There is no library at"):
        library_and_encoder(tmp_path / "new", f"local-dir:{tiny_checkpoint}", None, "cpu", False)
    with pytest.raises(UsageError, match="so it has no space 'other'"):
        library_and_encoder(tmp_path / "new", None, "other", "cpu", True)
    assert not (tmp_path / "new").exists()


def test_the_environment_names_the_encoder_of_new_libraries(
    tmp_path, indexed_library, tiny_checkpoint, monkeypatch
):
    monkeypatch.setenv("MMSEARCH_ENCODER", f"local-dir:{tiny_checkpoint}")
    library, _ = library_and_encoder(tmp_path / "new", None, None, "cpu", True)
    assert library.space().encoder == f"local-dir:{tiny_checkpoint}"
    monkeypatch.setenv("MMSEARCH_ENCODER", "no such encoder")
    library_and_encoder(indexed_library.path, None, None, "cpu", True)
    with pytest.raises(UsageError, match="no such encoder"):
        library_and_encoder(tmp_path / "other", None, None, "cpu", True)


def test_the_encoder_of_a_library_is_loaded_when_it_is_used(indexed_library):
    """An update that finds nothing new need not wait for a model."""
    space = indexed_library.space()
    for name in (None, "auto", space.encoder):
        library, encoder = library_and_encoder(indexed_library.path, name, None, "cpu", True)
        assert (library.path, encoder.space) == (indexed_library.path, space)
        assert isinstance(encoder, DeferredEncoder)
    with pytest.raises(UsageError, match="needs `--encoder NAME`"):
        library_and_encoder(indexed_library.path, None, "new", "cpu", True)

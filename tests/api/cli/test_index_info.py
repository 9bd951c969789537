import json

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from api.cli import index_info as commands
from retrieval.errors import UsageError
from retrieval.indices import build as build_module
from retrieval.indices.build import BuildOptions
from retrieval.indices.maintenance import build_index
from retrieval.library import create_library
from retrieval.media import Modality

app = typer.Typer()
app.command()(commands.index_info)
app.command()(commands.build_index)


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)


@pytest.fixture
def library(tmp_path, tiny_encoder):
    """A library of 300 vectors that no file has made."""
    library = create_library(tmp_path / "many", tiny_encoder.space)
    vectors = np.random.default_rng(0).normal(size=(300, 32)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    library.embeddings(tiny_encoder.space, Modality.IMAGE).write(vectors, 0)
    with library.catalog.transaction() as transaction:
        transaction.extend_rows(tiny_encoder.space.id, Modality.IMAGE, 0, 300)
    return library


def facts(library):
    result = run("index-info", "--library", library.path, "--json")
    return json.loads(result.stdout)["indices"]["image"]


def test_a_small_library_says_that_it_needs_no_index(library):
    told = run("index-info", "--library", library.path).stdout
    assert "exact, of image vectors" in told
    assert "300: 0 in the index" in told
    assert "Up to 50,000 vectors are searched exactly." in told
    assert facts(library)["index"] is None
    result = run("build-index", "--library", library.path)
    assert "Nothing to build" in result.stdout


@pytest.mark.slow
def test_an_index_that_was_asked_for_is_built_and_explained(library):
    result = run(
        "build-index", "--factory", "IVF4,Flat", "--target-recall", "0.9", "--library", library.path
    )
    assert "Index of 300 image vectors built: IVF4,Flat" in result.stdout
    told = run("index-info", "--library", library.path).stdout
    for line in (
        "IVF4,Flat, of image vectors",
        "300: 300 in the index, 0 added since",
        "4 lists, 128 bytes per row",
        "Text queries",
        "Image queries",
        "recall@10",
        "(target: 0.9)",
        "IVF4,Flat was asked for.",
    ):
        assert line in told
    index = facts(library)["index"]
    assert index["rows"] == 300
    assert index["tuning"]["target_recall"] == 0.9
    assert set(index["tuning"]["settings"]) == {"text", "image"}


def test_a_damaged_index_is_told(library, tiny_encoder):
    options = BuildOptions("IVF4,Flat")
    built = build_index(
        library, Modality.IMAGE, lambda: tiny_encoder, library.space(), options=options
    )
    built.index_file(library.space_directory(library.space())).write_bytes(b"")
    assert "0 bytes" in facts(library)["problems"][0]
    assert "Problems" in run("index-info", "--library", library.path).stdout


def test_an_empty_library_has_nothing_to_build(tmp_path, tiny_encoder):
    library = create_library(tmp_path / "empty", tiny_encoder.space)
    with pytest.raises(UsageError, match="holds no vectors yet"):
        run("build-index", "--library", library.path)
    assert "holds no vectors" in run("index-info", "--library", library.path).output


def test_indexing_builds_what_is_due_and_a_failure_harms_nothing(
    library, tiny_encoder, monkeypatch, capsys
):
    assert commands.build_due_indices(library, tiny_encoder, is_quiet=True) == []
    monkeypatch.setattr(build_module, "EXACT_UP_TO_ROWS", 50)
    real = build_module._choose
    monkeypatch.setattr(
        build_module,
        "_choose",
        lambda rows, present, options, *rest: real(rows, present, BuildOptions("IVF4,Flat"), *rest),
    )
    with build_module.building(library.space_directory(tiny_encoder.space), "image"):
        assert commands.build_due_indices(library, tiny_encoder, is_quiet=True) == []
    assert "The index was not built: Another process" in capsys.readouterr().err
    [built] = commands.build_due_indices(library, tiny_encoder, is_quiet=True)
    assert built.rows == 300


def test_an_engine_on_a_server_needs_its_address(library, monkeypatch):
    monkeypatch.delenv("MMSEARCH_PGVECTOR", raising=False)
    with pytest.raises(UsageError, match="set MMSEARCH_PGVECTOR="):
        run("build-index", "--engine", "pgvector", "--library", library.path)
    result = run("build-index", "--engine", "nosuch", "--library", library.path)
    assert result.exit_code == 2
    assert facts(library)["index"] is None

"""`--cluster` and tables in the terminal, as far as no cluster is needed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("lance", reason="needs Lance: pip install 'mmsearch[cluster]'")
pytest.importorskip("ray", reason="needs Ray: pip install 'mmsearch[cluster]'")

from api.cli.cluster import table_location
from retrieval.catalog import FileEntry, ItemEntry
from retrieval.catalog.whole import StoredItem
from retrieval.encoders.base import Space
from retrieval.errors import UsageError
from retrieval.lance.records import stored_file, table_of
from retrieval.lance.table import LanceTable
from retrieval.media import MediaKind, Modality

pytestmark = pytest.mark.slow


def test_location_of_a_path() -> None:
    assert table_location(Path("lance+s3://bucket/library")) == "lance+s3://bucket/library"
    assert table_location(Path("lance:/data/library")) == "lance:/data/library"
    for other in (Path("/data/library"), None):
        with pytest.raises(UsageError, match="a library in a Lance table"):
            table_location(other)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--cluster", "local"], "a library in a Lance table"),
        (["--encoders", "2"], "`--encoders` needs `--cluster`"),
        (["--cluster", "local", "--with-tokens"], "`--with-tokens` cannot be used"),
        (["--cluster", "somewhere", "--library", "lance:new"], "not the address of a cluster"),
    ],
)
def test_options_that_do_not_fit(
    run: Callable[..., Any], tmp_path: Path, words: list[str], said: str
) -> None:
    words = [word.replace("lance:new", f"lance:{tmp_path / 'new'}") for word in words]
    done = run("index", str(tmp_path), "--encoder", "starter", *words)
    assert done.code == 2
    assert said in done.err


def test_sources_of_a_table_are_not_read_unless_they_are_named(
    run: Callable[..., Any], tmp_path: Path
) -> None:
    space = Space("starter", "none", "none", 16)
    LanceTable.create(f"lance:{tmp_path / 'table'}", space, {str(tmp_path): None})
    done = run("index", "--cluster", "local", "--library", f"lance:{tmp_path / 'table'}")
    assert done.code == 2
    assert "Name the sources" in done.err


def test_index_of_a_table(run: Callable[..., Any], tmp_path: Path) -> None:
    space = Space("vectors:toy", "none", "none", 16)
    location = f"lance:{tmp_path / 'table'}"
    table = LanceTable.create(location, space)
    vectors = np.random.default_rng(0).normal(size=(600, 16)).astype(np.float16)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    files = [
        stored_file(
            FileEntry(f"/{row}.jpg", MediaKind.IMAGE, 1, 1, f"{row:032x}"),
            [StoredItem(ItemEntry(Modality.IMAGE, -1), vector)],
        )
        for row, vector in enumerate(vectors)
    ]
    table.append(table_of(files, space))
    before = run("index-info", "--library", location, "--json").json
    assert (before["rows"], before["index"]) == (600, None)
    done = run("build-index", "--library", location, "--kind", "IVF_RQ", "--json")
    [built] = done.json["built"]
    assert (built["kind"], built["rows"], built["workers"]) == ("IVF_RQ", 600, 1)
    after = run("index-info", "--library", location, "--json").json
    assert after["index"] == built
    assert after["reasons"] == built["reasons"]
    assert "image queries" in run("index-info", "--library", location).out.lower()
    wrong = run("build-index", "--library", location, "--factory", "Flat")
    assert wrong.code == 2
    assert "`--factory` is of FAISS" in wrong.err

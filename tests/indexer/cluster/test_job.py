"""Jobs on two real nodes: spread, a node lost, the job itself killed, run again."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("lance", reason="needs Lance: pip install 'mmsearch[cluster]'")

from indexer.pipeline import index_sources
from indexer.vectors.stored import stored_vectors
from retrieval.catalog import FileEntry, ItemEntry
from retrieval.catalog.whole import StoredItem
from retrieval.encoders.base import Space
from retrieval.encoders.registry import load_encoder
from retrieval.lance.index_settings import HAS_VECTOR
from retrieval.lance.records import stored_file, table_of, vectors_of
from retrieval.lance.table import LanceTable
from retrieval.library import create_library
from retrieval.media import MediaKind, Modality
from tests.ray_cluster import ADDRESS, RayCluster, running_cluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

_PICTURES = 110


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    with running_cluster(cpus=(3, 2)) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of large blots, a file that is none, and a text."""
    folder = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    for number in range(_PICTURES):
        blots = Image.fromarray(generator.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        blots.resize((96, 96), Image.Resampling.BICUBIC).save(folder / f"{number:03}.png")
    (folder / "bad.jpg").write_text("no picture at all")
    (folder / "text.txt").write_text("A dog runs over the snow.")
    return folder


@pytest.fixture(scope="module")
def local(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[Any, Any]:
    """Vectors of a library of this machine, by path, modality and part."""
    encoder = load_encoder("starter", "cpu")
    library = create_library(tmp_path_factory.mktemp("local") / "library", encoder.space)
    index_sources(library, encoder, [folder], workers=1)
    return {
        (item.path, str(item.modality), item.part): vector
        for batch in stored_vectors(library, encoder.space)
        for item, vector in zip(batch.items, batch.vectors, strict=True)
    }


def _run(
    cluster: RayCluster,
    folder: Path,
    table: Path,
    on_line: Callable[[Any, "subprocess.Popen[bytes]"], None] = lambda *_: None,
) -> Any:
    """Run the job to its end; returns its counts, or None where it was killed."""
    driver = Path(__file__).with_name("driver.py")
    command = [sys.executable, str(driver), str(folder), f"lance:{table}"]
    process = cluster.start(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    told: Any = None
    with process.stdout as lines:
        for line in lines:
            if line.startswith((b"[", b"{")) and not line.startswith(b"[20"):
                told = json.loads(line)
                on_line(told, process)
    return told if process.wait() == 0 else None


def _rows(table: Path) -> Any:
    return LanceTable.open(f"lance:{table}").dataset.to_table()


def _require_equal(table: Path, folder: Path, local: dict[Any, Any]) -> None:
    """Each item is there once, with the vector of the local library."""
    rows = _rows(table)
    names = ("path", "modality", "part")
    keys = list(zip(*(rows.column(name).to_pylist() for name in names), strict=True))
    items = [place for place, key in enumerate(keys) if key[1] is not None]
    assert len(items) == len(local)
    assert {keys[place] for place in items} == local.keys()
    vectors = vectors_of(rows).astype(np.float32)
    for place in items:
        assert vectors[place] @ local[keys[place]] >= 0.9999
    [failed] = [place for place, key in enumerate(keys) if key[1] is None]
    assert keys[failed][0] == str(folder / "bad.jpg")
    assert rows.column("failure")[failed].as_py()


def test_index_built_by_several_processes(cluster: RayCluster, tmp_path: Path) -> None:
    space = Space("vectors:toy", "none", "none", 16)
    location = f"lance:{tmp_path / 'table'}"
    table = LanceTable.create(location, space)
    vectors = np.random.default_rng(0).normal(size=(900, 16)).astype(np.float16)
    for part in range(3):
        files = [
            stored_file(
                FileEntry(f"/{row}.jpg", MediaKind.IMAGE, 1, 1, f"{row:032x}"),
                [StoredItem(ItemEntry(Modality.IMAGE, -1), vectors[row])],
            )
            for row in range(300 * part, 300 * part + 300)
        ]
        table.append(table_of(files, space))
    command = [str(Path(sys.executable).with_name("mmsearch")), "build-index", "--json"]
    command += ["--library", location, "--kind", "IVF_RQ", "--cluster", ADDRESS]
    done = cluster.run(command, stdout=subprocess.PIPE)
    assert done.returncode == 0
    told = done.stdout[done.stdout.index(b"{\n") :]
    [built] = json.loads(told)["built"]
    assert (built["rows"], built["workers"]) == (900, 3)
    table.refresh()
    [index] = [one for one in table.dataset.describe_indices() if one.field_names == ["vector"]]
    assert (index.index_type, index.num_rows_indexed) == ("IVF_RQ", 900)


def test_job_killed_and_run_again(
    cluster: RayCluster, folder: Path, local: dict[Any, Any], tmp_path: Path
) -> None:
    def kill(told: Any, process: "subprocess.Popen[bytes]") -> None:
        if isinstance(told, list) and told[0] > 0:
            process.send_signal(signal.SIGKILL)

    assert _run(cluster, folder, tmp_path / "table", kill) is None
    before = LanceTable.open(f"lance:{tmp_path / 'table'}").count(HAS_VECTOR)
    assert 0 < before < len(local)
    summary = _run(cluster, folder, tmp_path / "table")
    assert summary["embedded"] == len(local) - before
    _require_equal(tmp_path / "table", folder, local)


def test_node_killed(
    cluster: RayCluster, folder: Path, local: dict[Any, Any], tmp_path: Path
) -> None:
    killed = []

    def kill(told: Any, _: "subprocess.Popen[bytes]") -> None:
        if isinstance(told, list) and told[1] >= 60 and not killed:
            killed.append(told[1])
            cluster.kill_node(1)

    summary = _run(cluster, folder, tmp_path / "table", kill)
    assert killed
    assert killed[0] < _PICTURES
    assert summary is not None
    assert (summary["added"], summary["failed"]) == (_PICTURES + 1, 1)
    _require_equal(tmp_path / "table", folder, local)
    version = LanceTable.open(f"lance:{tmp_path / 'table'}").version
    again = _run(cluster, folder, tmp_path / "table")
    assert (again["unchanged"], again["failed"], again["embedded"]) == (_PICTURES + 1, 1, 0)
    assert LanceTable.open(f"lance:{tmp_path / 'table'}").version == version

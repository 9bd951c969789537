"""Runs that are killed at any moment and resumed make the library of a run that was not.

`MMSEARCH_TEST_KILLS` sets the number of kills, `MMSEARCH_TEST_SEED` what is drawn.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest

from retrieval.catalog import Item
from retrieval.library import Library, open_library
from retrieval.media import Modality

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # one fixture starts dozens of runs

PROGRAM = Path(__file__).with_name("repeated_kills.py")
KILLS = int(os.environ.get("MMSEARCH_TEST_KILLS", "14"))
SEED = os.environ.get("MMSEARCH_TEST_SEED", "0")
PHOTOS = 150
ROWS = 1200


def contents(library: Library) -> dict[tuple[str, Modality, str], tuple[Item, np.ndarray]]:
    """What can be found, by file, modality and part: the item and its vector."""
    space = library.space()
    found = {}
    for modality in Modality:
        with library.catalog.snapshot() as snapshot:
            count = snapshot.row_count(space.id, modality)
            items = snapshot.items_at(space.id, modality, range(count))
        rows = library.embeddings(space, modality).rows(count)
        for row, at_row in items.items():
            for item in at_row:
                assert (item.path, modality, item.part) not in found
                found[item.path, modality, item.part] = (item, rows[row])
    return found


def facts(item: Item) -> tuple[object, ...]:
    """What is to be the same in every library: all but the id."""
    names = ("kind", "width", "height", "text", "columns", "content_hash", "size", "mtime_ns")
    return tuple(getattr(item, name) for name in names)


def processes_marked(mark: str) -> list[int]:
    """Running processes that have a mark in their environment."""
    marked = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark.encode() in environment.read_bytes():
                marked.append(int(environment.parent.name))
        except OSError:
            continue
    return marked


@pytest.fixture(scope="module")
def killed(
    tmp_path_factory: pytest.TempPathFactory,
    add_photos: Callable[[Path, int], set[str]],
    settle: Callable[[Path], None],
) -> tuple[Path, str]:
    """Where the libraries are, and what the processes that made them are marked with."""
    folder = tmp_path_factory.mktemp("killed") / "folder"
    paths = sorted(add_photos(folder, PHOTOS))
    # Copies: of these, too, each must be found once, whatever moment their original was lost at.
    for path in paths[::15]:
        Path(path).with_name(f"copy of {Path(path).name}").write_bytes(Path(path).read_bytes())
    # Read in three steps, between which a run may end.
    rows = "".join(f"the number {number},{number}\n" for number in range(ROWS))
    (folder / "album 2" / "numbers.csv").write_text(f"text,number\n{rows}")
    settle(folder)
    mark = f"mark-{uuid4()}"
    libraries = folder.with_name("libraries")
    done = subprocess.run(
        [sys.executable, PROGRAM, folder, libraries, str(KILLS), SEED],
        env=os.environ | {"MMSEARCH_TEST_MARK": mark, "OMP_NUM_THREADS": "1"},
        check=False,
        capture_output=True,
        text=True,
        timeout=800,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    report = json.loads(done.stdout)
    assert len(report["moments"]) == KILLS
    return libraries, mark


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
def test_no_reading_process_outlives_its_run(killed: tuple[Path, str]) -> None:
    _, mark = killed
    end = time.monotonic() + 10
    while processes_marked(mark) and time.monotonic() < end:
        time.sleep(0.05)
    assert processes_marked(mark) == []


def test_resumed_libraries_equal_one_that_was_not_killed(killed: tuple[Path, str]) -> None:
    libraries, _ = killed
    expected = contents(open_library(libraries / "uninterrupted"))
    assert len(expected) == PHOTOS + PHOTOS / 15 + ROWS
    resumed = sorted(libraries.glob("killed *"))
    assert len(resumed) > 2
    for path in resumed:
        library = open_library(path)
        found = contents(library)
        assert found.keys() == expected.keys()
        for key, (item, vector) in found.items():
            assert facts(item) == facts(expected[key][0])
            # The sums of a matrix product come in another order in a batch of another size.
            np.testing.assert_allclose(vector, expected[key][1], atol=1e-3)
        with library.catalog.snapshot() as snapshot:
            assert snapshot.failures() == []
        library.close()

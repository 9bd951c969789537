"""A power cut at any instant: what was acknowledged is there, and the library opens.

A kill never tests fsync, since the system keeps what a dead process wrote. Here all that was not
flushed is lost, or any part of it.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from retrieval.errors import DamagedLibraryError, NotFoundError
from retrieval.integrity.backup import restore
from retrieval.integrity.check import check_library
from retrieval.library import open_library
from retrieval.media import Modality
from tests.faults.lost_writes import Disk, compiled, read_events

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PROGRAM = """
import sys
import numpy as np
from retrieval.catalog import FileEntry, FileUpdate, ItemEntry
from retrieval.encoders.base import Space
from retrieval.integrity.backup import back_up
from retrieval.library import create_library
from retrieval.media import MediaKind, Modality

root = sys.argv[1]

def acknowledge(what):
    with open(root + "/acknowledged", "a") as file:
        file.write(what + "\\n")

space = Space("toy", "0" * 64, "1" * 16, 8)
library = create_library(root + "/library", space)
acknowledge("created")
for number in range(8):
    with library.writer():
        library.embeddings(space, Modality.IMAGE).write(np.eye(3, 8, k=number % 6), 3 * number)
        with library.catalog.transaction() as transaction:
            transaction.extend_rows(space.id, Modality.IMAGE, 3 * number, 3)
            transaction.record_files(space.id, [
                FileUpdate(
                    FileEntry(f"/{number}-{i}.jpg", MediaKind.IMAGE, 1, 1, f"{number}{i}" * 8),
                    [ItemEntry(Modality.IMAGE, 3 * number + i)],
                )
                for i in range(3)
            ])
    acknowledge(f"commit {number + 1}")
    if number in (3, 6):
        back_up(library, root + "/backup")
        acknowledge(f"backup {3 * number + 3}")
library.close()
"""


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    compiler = shutil.which("cc") or shutil.which("gcc")
    if sys.platform != "linux" or compiler is None:
        pytest.skip("needs Linux and a C compiler, to record the writes of a process")
    folder = tmp_path_factory.mktemp("recorded")
    root = folder / "root"
    root.mkdir()
    settings = {
        "LD_PRELOAD": str(compiled(folder, compiler)),
        "LOST_WRITES_ROOT": str(root),
        "LOST_WRITES_LOG": str(folder / "log"),
    }
    program = [sys.executable, "-c", PROGRAM, str(root)]
    done = subprocess.run(
        program, env=os.environ | settings, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = read_events(folder / "log")
    assert {event.what for event in found} >= set("CWSRD")
    return root, found


def written(disk, chance, root, to):
    for path, content in disk.after_power_cut(chance):
        if path.endswith(("-shm", "/acknowledged")):
            continue  # of the shared memory, nothing counts after a restart
        target = to / Path(path).relative_to(root)
        if not target.parent.is_dir():
            continue
        if content is None:
            target.mkdir(exist_ok=True)
        else:
            target.write_bytes(content)


def assert_whole(where, acknowledged):
    """What was acknowledged is there, with its vectors, and nothing is damaged."""
    promised = [int(line.split()[1]) for line in acknowledged if line.startswith("commit")]
    try:
        library = open_library(where / "library")
    except (NotFoundError, DamagedLibraryError):
        assert acknowledged == []
        return
    space = library.space()
    with library.catalog.snapshot() as snapshot:
        count = snapshot.row_count(space.id, Modality.IMAGE)
        items = snapshot.items_at(space.id, Modality.IMAGE, range(count))
    assert count >= 3 * max(promised, default=0)
    assert sorted(items) == list(range(count))
    report = check_library(library)
    assert report.is_whole, report.problems
    library.close()
    if backed_up := [int(line.split()[1]) for line in acknowledged if line.startswith("backup")]:
        done = restore(where / "backup", where / "restored")
        assert done.rows >= backed_up[-1]
        assert done.damaged == 0


@pytest.mark.parametrize("seed", [None, 1, 2])
def test_power_cuts(events, tmp_path, seed):
    root, found = events
    disk, acknowledged = Disk(), []
    chance = None if seed is None else Random(seed)
    picked = Random(seed)
    cuts = 0
    for place, event in enumerate(found):
        disk.apply(event)
        is_acknowledgement = event.path.endswith("/acknowledged") and event.what == "W"
        if is_acknowledgement:
            acknowledged += event.data.decode().splitlines()
        if is_acknowledgement or picked.random() < 60 / len(found):
            where = tmp_path / str(place)
            where.mkdir()
            written(disk, chance, root, where)
            assert_whole(where, acknowledged)
            cuts += 1
    assert acknowledged[-1] == "commit 8"
    assert cuts > 20


def test_the_replay_without_losses_is_what_was_written(events):
    _, found = events
    disk = Disk()
    for event in found:
        disk.apply(event)
    for path, content in {
        path: file.content for path, file in disk._names.items() if file is not None
    }.items():
        if not path.endswith("-shm"):
            assert bytes(content) == Path(path).read_bytes()


def test_a_write_that_is_not_flushed_is_lost(events, tmp_path):
    """The model can fail: without its flushes, the same record loses what was acknowledged."""
    root, found = events
    disk = Disk()
    for event in found:
        if event.what != "S" or not event.path.endswith(".f16"):
            disk.apply(event)
    written(disk, None, root, tmp_path)
    library = open_library(tmp_path / "library")
    assert not check_library(library).is_whole

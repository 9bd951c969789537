"""A process killed at every step of the protocol leaves a library that opens and completes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from indexer.pipeline import index_sources
from retrieval.errors import DamagedLibraryError, NotFoundError
from retrieval.library import Library, create_library, open_library
from retrieval.media import Modality
from retrieval.media.images import read_image
from tests.conftest import REPOSITORY
from tests.faults.repeated_kills import ProjectingEncoder

PROGRAM = """
import os, signal, sys
from indexer import pipeline
from retrieval import catalog, embeddings, library
from tests.faults.repeated_kills import ProjectingEncoder

libraries, folder, *steps = sys.argv[1:]
encoder = ProjectingEncoder()
for step in steps:  # what is loaded is loaded once: each run is a fork
    if pid := os.fork():
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
    else:
        break
else:
    sys.exit()

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def kill_at_call(owner, name, number, *, after=False):
    original = getattr(owner, name)
    calls = iter(range(1, 10**6))
    def wrapped(*args, **kwargs):
        last = next(calls) == number
        if last and not after:
            die()
        result = original(*args, **kwargs)
        if last:
            die()
        return result
    setattr(owner, name, wrapped)

def write_half_and_die(self, vectors, first_row):
    if first_row == 0:
        return full_write(self, vectors, first_row)
    half = bytes(vectors.astype("float16").tobytes())[: vectors.size]
    with open(self.path, "r+b") as file:
        file.seek(first_row * self.dimension * 2)
        file.write(half)
    die()

def die_at_the_next_flush(self, vectors, first_row):
    if first_row:
        kill_at_call(os, "fsync", 1)
    full_write(self, vectors, first_row)

full_write = embeddings.EmbeddingsFile.write
if step == "manifest": kill_at_call(library, "write_atomically", 2)
if step == "space": kill_at_call(library, "write_atomically", 1)
if step == "migrate": kill_at_call(catalog.Catalog, "migrate", 1)
if step == "before rows": kill_at_call(embeddings.EmbeddingsFile, "write", 2)
if step == "half rows": embeddings.EmbeddingsFile.write = write_half_and_die
if step == "before flush": embeddings.EmbeddingsFile.write = die_at_the_next_flush
if step in ("before checksums", "after checksums"):
    after = step == "after checksums"
    kill_at_call(embeddings.EmbeddingsFile, "write_checksums", 2, after=after)
if step == "after rows": kill_at_call(embeddings.EmbeddingsFile, "write", 2, after=True)
if step == "in transaction": kill_at_call(catalog.Transaction, "record_files", 2, after=True)
if step == "after commit": kill_at_call(pipeline, "commit", 2, after=True)

opened = library.create_library(f"{libraries}/{step}", encoder.space)
pipeline.index_sources(opened, encoder, [folder], batch_size=2)
"""

STEPS = {
    "space": 0,
    "migrate": 0,
    "manifest": 0,
    "before rows": 2,
    "half rows": 2,
    "before flush": 2,
    "before checksums": 2,
    "after checksums": 2,
    "after rows": 2,
    "in transaction": 2,
    "after commit": 4,
}
"""Where the process is killed, and how many pictures are committed by then."""


def contents(library: Library) -> dict[str, np.ndarray]:
    """Map each file that can be found to its stored vector."""
    space = library.space()
    with library.catalog.snapshot() as snapshot:
        count = snapshot.row_count(space.id, Modality.IMAGE)
        items = snapshot.items_at(space.id, Modality.IMAGE, range(count))
    rows = library.embeddings(space, Modality.IMAGE).rows(count)
    return {item.path: rows[row] for row, [item] in items.items()}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of six pictures of noise, too small to be shrunk while they are decoded."""
    folder = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    for number in range(6):
        pixels = generator.integers(0, 256, (30, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Path:
    """The libraries of runs that were killed, by the name of the step."""
    libraries = tmp_path_factory.mktemp("killed")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, libraries, pictures, *STEPS],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        check=False,
        capture_output=True,
        text=True,
    )
    codes = [int(line) for line in done.stdout.splitlines()]
    assert dict(zip(STEPS, codes, strict=True)) == dict.fromkeys(STEPS, -signal.SIGKILL), (
        done.stderr
    )
    return libraries


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
def test_killed_and_resumed(step: str, killed: Path, pictures: Path) -> None:
    where, encoder = killed / step, ProjectingEncoder()
    if STEPS[step]:
        committed = contents(open_library(where))
    else:
        with pytest.raises((DamagedLibraryError, NotFoundError), match="mmsearch index"):
            open_library(where)
        committed = {}
    assert len(committed) == STEPS[step]

    library = create_library(where, encoder.space)
    summary = index_sources(library, encoder, [pictures], batch_size=2)
    assert (summary.unchanged, summary.embedded) == (STEPS[step], 6 - STEPS[step])
    resumed = contents(library)
    assert len(resumed) == 6
    for path, row in resumed.items():
        [vector] = encoder.encode(Modality.IMAGE, [encoder.preprocess(read_image(path))])
        np.testing.assert_allclose(row, vector, atol=1e-3)
    for path, row in committed.items():
        np.testing.assert_array_equal(row, resumed[path])

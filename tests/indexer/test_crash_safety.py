"""A process killed at every step of the protocol leaves a library that opens and completes."""

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from indexer.pipeline import index_sources
from retrieval.encoders.base import Encoder
from retrieval.errors import DamagedLibraryError, NotFoundError
from retrieval.library import Library, create_library, open_library
from retrieval.media import Modality
from retrieval.media.images import read_image

PROGRAM = """
import os, signal, sys
from indexer import pipeline
from retrieval import catalog, embeddings, library
from retrieval.encoders.open_clip import OpenClipEncoder

where, folder, checkpoint, step = sys.argv[1:]
encoder = OpenClipEncoder(f"local-dir:{checkpoint}")

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

opened = library.create_library(where, encoder.space)
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


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
def test_killed_and_resumed(
    step: str,
    tmp_path: Path,
    picture_folder: Path,
    tiny_checkpoint: Path,
    tiny_encoder: Encoder,
) -> None:
    where = tmp_path / "library"
    killed = subprocess.run(
        [sys.executable, "-c", PROGRAM, where, picture_folder, tiny_checkpoint, step],
        check=False,
        capture_output=True,
        text=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr

    if STEPS[step]:
        committed = contents(open_library(where))
    else:
        with pytest.raises((DamagedLibraryError, NotFoundError), match="mmsearch index"):
            open_library(where)
        committed = {}
    assert len(committed) == STEPS[step]

    library = create_library(where, tiny_encoder.space)
    summary = index_sources(library, tiny_encoder, [picture_folder], batch_size=2)
    assert (summary.unchanged, summary.embedded) == (STEPS[step], 6 - STEPS[step])
    resumed = contents(library)
    assert len(resumed) == 6
    for path, row in resumed.items():
        [vector] = tiny_encoder.encode(
            Modality.IMAGE, tiny_encoder.preprocess(read_image(path))[None]
        )
        np.testing.assert_allclose(row, vector, atol=1e-3)
    for path, row in committed.items():
        np.testing.assert_array_equal(row, resumed[path])

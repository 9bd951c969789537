"""What nodes do, called in this process: read, encode, measure. No Ray is started."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ray", reason="needs Ray: pip install 'mmsearch[cluster]'")

from indexer.cluster.stages import (
    Encoding,
    FileToRead,
    Task,
    measure,
    pack_files,
    read_files,
    unpack_steps,
)
from indexer.encode import read_options
from indexer.scan import FoundFile, walk
from indexer.sources import SourceOptions
from retrieval.encoders.base import Encoder
from retrieval.errors import MMSearchError, SpaceMismatchError
from retrieval.media import Modality

pytestmark = pytest.mark.slow


@pytest.fixture
def task(tiny_encoder: Encoder, picture_folder: Path) -> Task:
    options = read_options(tiny_encoder, SourceOptions(), 60.0)
    return Task(tiny_encoder.space, {str(picture_folder): options}, 60.0)


@pytest.fixture
def files(picture_folder: Path) -> list[FileToRead]:
    (picture_folder / "bad.png").write_text("no picture")
    found = [one for one in walk(str(picture_folder)) if isinstance(one, FoundFile)]
    return [FileToRead(one, str(picture_folder)) for one in found]


def _columns(rows: list[dict[str, bytes]]) -> dict[str, list[bytes]]:
    return {name: [row[name] for row in rows] for name in rows[0]}


def test_read_and_encode(
    task: Task, files: list[FileToRead], tiny_encoder: Encoder, picture_folder: Path
) -> None:
    read: dict[str, list[object]] = {"number": [], "step": []}
    for part in read_files(_columns(pack_files(files)), task):
        for name, values in part.items():
            read[name] += values
    numbered = unpack_steps(Encoding(task)(read))
    assert [one.number for one in numbered] == [0] * len(files)
    by_path = {one.step.found.path: one.step for one in numbered}
    bad = by_path.pop(str(picture_folder / "bad.png"))
    assert bad.failure is not None
    for path, step in by_path.items():
        from PIL import Image

        with Image.open(path) as image:
            pixels = tiny_encoder.preprocess(image.convert("RGB"))
        [expected] = tiny_encoder.encode(Modality.IMAGE, pixels[np.newaxis])
        [piece] = step.pieces
        assert piece.vector is not None
        assert piece.vector.astype(np.float32) @ expected > 0.999


def test_measurement_gives_every_step(task: Task, files: list[FileToRead]) -> None:
    measured = measure(files, task, 2)
    assert measured.paths == tuple(file.found.path for file in files)
    assert [one.step.found.path for one in measured.steps] == list(measured.paths)
    assert measured.batch_size == 2
    assert measured.memory_bytes > 1 << 20


def test_known_content_is_not_read(task: Task, files: list[FileToRead]) -> None:
    picture = next(file for file in files if not file.found.path.endswith("bad.png"))
    [first] = measure([picture], task, None).steps
    assert first.step.content is not None
    known = replace(picture, known=frozenset([first.step.content.hash]))
    [again] = measure([known], task, None).steps
    assert again.step.is_known
    assert not again.step.pieces


def test_other_version_of_a_node(task: Task, files: list[FileToRead]) -> None:
    with pytest.raises(MMSearchError, match=r"has mmsearch .*, and the job was started with 9.9"):
        next(read_files(_columns(pack_files(files)), replace(task, version="9.9")))


def test_other_encoder_of_a_node(task: Task) -> None:
    other = replace(task.space, preprocessing="another one")
    with pytest.raises(SpaceMismatchError, match="makes vectors of another space"):
        Encoding(replace(task, space=other))

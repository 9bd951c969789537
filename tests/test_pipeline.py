import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from indexer.pipeline import Progress, index_sources, remove_paths
from retrieval.engine import Engine
from retrieval.errors import NotFoundError
from retrieval.library import Library, create_library
from retrieval.query import ImagePart, Query


@pytest.fixture
def library(tmp_path, tiny_encoder) -> Library:
    return create_library(tmp_path / "library", tiny_encoder.space)


@pytest.fixture
def index(library, tiny_encoder, picture_folder):
    """Index the picture folder and give the summary."""
    return lambda *paths, **options: index_sources(
        library, tiny_encoder, paths or [picture_folder], **options
    )


def found_paths(library: Library) -> set[str]:
    query = Query((ImagePart(Image.new("RGB", (8, 8))),), k=1000)
    return {hit.path for hit in Engine(library, device="cpu").search(query).hits}


def images_in(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*.png")}


def save_noise(path: Path, seed: int) -> None:
    noise = np.random.default_rng(seed).integers(0, 256, (30, 30, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)


def test_a_folder_is_indexed_once(library, index, picture_folder):
    first = index()
    assert (first.found, first.added, first.embedded, first.failed) == (6, 6, 6, 0)
    assert found_paths(library) == images_in(picture_folder)
    second = index()
    assert (second.found, second.unchanged, second.embedded) == (6, 6, 0)


def test_added_changed_and_deleted_files_are_picked_up(library, index, picture_folder):
    index()
    paths = sorted(images_in(picture_folder))
    save_noise(picture_folder / "new.png", 100)
    save_noise(Path(paths[0]), 101)
    Path(paths[1]).unlink()
    summary = index()
    assert (summary.added, summary.changed, summary.removed, summary.unchanged) == (1, 1, 1, 4)
    assert found_paths(library) == images_in(picture_folder)
    with Image.open(paths[0]) as image:
        [hit, *_] = Engine(library, device="cpu").search(Query((ImagePart(image),))).hits
    assert hit.path == paths[0]
    assert hit.similarity == pytest.approx(1, abs=1e-3)


def test_a_touched_file_is_read_but_not_embedded(index, picture_folder):
    index()
    os.utime(next(picture_folder.rglob("*.png")), ns=(1, 1))
    summary = index()
    assert (summary.unchanged, summary.embedded) == (6, 0)
    assert index().unchanged == 6


def test_a_file_that_returns_is_found_again_without_embedding(library, index, picture_folder):
    index()
    path = next(picture_folder.rglob("*.png"))
    hidden = path.with_suffix(".hidden")
    path.rename(hidden)
    assert index().removed == 1
    hidden.rename(path)
    summary = index()
    assert (summary.added, summary.embedded) == (1, 0)
    assert found_paths(library) == images_in(picture_folder)


def test_unreadable_files_are_recorded_and_not_retried(library, index, picture_folder):
    bad = picture_folder / "bad.png"
    bad.write_bytes(b"not a picture")
    (picture_folder / "empty.jpg").touch()
    (picture_folder / "gone.png").symlink_to("nowhere")
    summary = index()
    assert (summary.added, summary.failed) == (6, 3)
    with library.catalog.snapshot() as snapshot:
        reasons = {Path(f.path).name: f.failure for f in snapshot.failures()}
    assert reasons == {
        "bad.png": "not an image of a known format",
        "empty.jpg": "the file is empty",
        "gone.png": "no such file or directory",
    }
    again = index()
    assert (again.failed, again.unchanged, again.embedded) == (3, 6, 0)
    save_noise(bad, 7)
    assert index().added == 1


def test_failed_files_can_be_retried(index, picture_folder, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # more than twice as much is refused
    assert index().failed == 6
    monkeypatch.undo()
    assert index().embedded == 0
    assert index(retry_failed=True).added == 6


def test_a_file_that_breaks_is_no_longer_found(library, index, picture_folder):
    index()
    path = next(picture_folder.rglob("*.png"))
    path.write_bytes(path.read_bytes()[:50])
    assert index().failed == 1
    assert str(path) not in found_paths(library)


def test_an_exception_in_a_batch_loses_no_other_batch(index, tiny_encoder, monkeypatch):
    encode = tiny_encoder.encode_images
    calls = []

    def fail_at_the_third(pixels):
        calls.append(len(pixels))
        if len(calls) == 3:
            raise RuntimeError("out of memory")
        return encode(pixels)

    monkeypatch.setattr(tiny_encoder, "encode_images", fail_at_the_third)
    with pytest.raises(RuntimeError, match="out of memory"):
        index(batch_size=2)
    summary = index(batch_size=2)
    assert (summary.unchanged, summary.added) == (4, 2)


def test_a_vector_that_is_not_finite_costs_its_file_only(index, tiny_encoder, monkeypatch):
    encode = tiny_encoder.encode_images

    def break_one(pixels):
        vectors = encode(pixels)
        vectors[1] = np.nan
        return vectors

    monkeypatch.setattr(tiny_encoder, "encode_images", break_one)
    summary = index()
    assert (summary.added, summary.failed) == (5, 1)


def test_a_run_can_be_stopped_and_resumed(library, index, picture_folder):
    summary = index(batch_size=2, should_stop=lambda: True)
    assert (summary.added, summary.interrupted) == (2, True)
    assert len(found_paths(library)) == 2
    summary = index(batch_size=2)
    assert (summary.unchanged, summary.added, summary.interrupted) == (2, 4, False)
    assert found_paths(library) == images_in(picture_folder)


def test_progress_counts_up_to_the_total(index):
    events: list[Progress] = []
    index(batch_size=4, on_progress=events.append)
    assert [(event.done, event.total) for event in events] == [
        (0, None),
        (0, 6),
        (4, 6),
        (6, 6),
    ]


def test_without_paths_all_sources_are_brought_up_to_date(
    library, tiny_encoder, index, picture_folder
):
    index()
    save_noise(picture_folder / "new.png", 100)
    assert index_sources(library, tiny_encoder).added == 1


def test_a_source_that_vanished_keeps_its_items(library, tiny_encoder, index, picture_folder):
    index()
    kept = images_in(picture_folder)
    moved = picture_folder.rename(picture_folder.with_name("unmounted"))
    summary = index_sources(library, tiny_encoder)
    assert (summary.removed, summary.failed) == (0, 1)
    assert found_paths(library) == kept
    moved.rename(picture_folder)
    summary = index_sources(library, tiny_encoder)
    assert (summary.unchanged, summary.embedded, summary.failed) == (6, 0, 0)


def test_paths_inside_each_other_are_read_once(index, picture_folder):
    summary = index(picture_folder, picture_folder / "folder 0", picture_folder)
    assert (summary.found, summary.added) == (6, 6)


def test_a_missing_path_is_an_error_that_changes_nothing(library, index, picture_folder):
    with pytest.raises(NotFoundError, match="nothing at"):
        index(picture_folder, picture_folder / "nowhere")
    assert found_paths(library) == set()


def test_removing_hides_at_once_and_leaves_the_disk_alone(library, index, picture_folder):
    index()
    assert remove_paths(library, [picture_folder / "folder 1"]) == 3
    assert found_paths(library) == images_in(picture_folder / "folder 0")
    assert len(images_in(picture_folder)) == 6
    with pytest.raises(NotFoundError, match="knows nothing at"):
        remove_paths(library, [picture_folder / "folder 2"])
    shutil.rmtree(picture_folder)
    assert remove_paths(library, [picture_folder]) == 3
    with library.catalog.snapshot() as snapshot:
        assert snapshot.sources() == []


def test_a_second_space_embeds_the_same_files(library, index, tiny_encoder, monkeypatch):
    import dataclasses

    index()
    second = dataclasses.replace(tiny_encoder.space, preprocessing="another")
    monkeypatch.setattr(tiny_encoder, "space", second)
    library.add_space(second)
    summary = index()
    assert (summary.embedded, summary.unchanged) == (6, 0)
    assert index().unchanged == 6

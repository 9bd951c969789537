import os
import shlex
import shutil
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from numpy.typing import NDArray
from PIL import Image

from indexer import pipeline
from indexer.pipeline import index_sources, remove_paths
from indexer.progress import Progress, Summary
from retrieval.catalog import Item
from retrieval.encoders.base import Inputs, Space, Vectors
from retrieval.errors import NotFoundError
from retrieval.filters import Filter
from retrieval.library import Library, create_library
from retrieval.media import MediaKind, Modality
from retrieval.search.engine import Engine
from retrieval.search.query import ImagePart, Query, TextPart

pytestmark = pytest.mark.slow


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


def items_in(library: Library) -> list[Item]:
    space_id = library.space().id
    with library.catalog.snapshot() as snapshot:
        return [
            item
            for modality in Modality
            for items in snapshot.items_at(
                space_id, modality, range(snapshot.row_count(space_id, modality))
            ).values()
            for item in items
        ]


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


def settle(folder: Path) -> None:
    """Let all files be an hour old: the times of fresh ones are not trusted."""
    for path in folder.rglob("*"):
        then = path.stat().st_mtime - 3600
        os.utime(path, (then, then))


def test_failed_files_can_be_retried(index, picture_folder):
    settle(picture_folder)
    assert index(max_pixels=100).failed == 6
    assert index().embedded == 0
    assert index(retry_failed=True, max_pixels=10_000_000).added == 6


def test_a_file_that_breaks_is_no_longer_found(library, index, picture_folder):
    index()
    path = next(picture_folder.rglob("*.png"))
    path.write_bytes(path.read_bytes()[:50])
    assert index().failed == 1
    assert str(path) not in found_paths(library)


def test_an_exception_in_a_batch_loses_no_other_batch(index, tiny_encoder, monkeypatch):
    encode = tiny_encoder.encode
    calls = []

    def fail_at_the_third(modality, inputs):
        calls.append(len(inputs))
        if len(calls) == 3:
            raise RuntimeError("out of memory")
        return encode(modality, inputs)

    monkeypatch.setattr(tiny_encoder, "encode", fail_at_the_third)
    with pytest.raises(RuntimeError, match="out of memory"):
        index(batch_size=2)
    summary = index(batch_size=2)
    assert (summary.unchanged, summary.added) == (4, 2)


def test_a_vector_that_is_not_finite_costs_its_file_only(index, tiny_encoder, monkeypatch):
    encode = tiny_encoder.encode

    def break_one(modality, inputs):
        vectors = encode(modality, inputs)
        vectors[1] = np.nan
        return vectors

    monkeypatch.setattr(tiny_encoder, "encode", break_one)
    summary = index()
    assert (summary.added, summary.failed) == (5, 1)


def test_a_run_can_be_stopped_and_resumed(library, index, picture_folder):
    summary = index(batch_size=2, should_stop=iter([False] * 2 + [True]).__next__)
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


def test_files_are_counted_as_they_are_read(index, picture_folder):
    for number in range(20):
        save_noise(picture_folder / f"more-{number}.png", 100 + number)
    events: list[Progress] = []
    index(on_progress=events.append)
    assert [(e.done, e.read) for e in events[1:]] == [(0, 0), (0, 8), (0, 16), (0, 24), (26, 26)]


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


def test_a_moved_file_keeps_its_item_and_its_vector(library, index, picture_folder):
    index()
    before = {Path(item.path).name: item.id for item in items_in(library)}
    (picture_folder / "folder 0").rename(picture_folder / "elsewhere")
    settle(picture_folder)
    summary = index()
    assert (summary.moved, summary.embedded, summary.removed, summary.added) == (3, 0, 0, 0)
    assert found_paths(library) == images_in(picture_folder)
    assert {Path(item.path).name: item.id for item in items_in(library)} == before


@pytest.mark.slow
def test_files_that_change_places_keep_their_vectors(library, index, picture_folder):
    index(batch_size=1)
    first, second, *_ = sorted(picture_folder.rglob("*.png"))
    contents = first.read_bytes(), second.read_bytes()
    first.write_bytes(contents[1])
    second.write_bytes(contents[0])
    new = picture_folder / "z.png"
    save_noise(new, 5)
    third = sorted(picture_folder.rglob("*.png"))[2]
    third.rename(picture_folder / "zz.png")
    new.rename(third)
    summary = index(batch_size=1)
    assert summary.failed == 0
    assert found_paths(library) == images_in(picture_folder)
    for path in images_in(picture_folder):
        with Image.open(path) as image:
            [hit, *_] = Engine(library, device="cpu").search(Query((ImagePart(image),))).hits
        assert hit.path == path
        assert hit.similarity == pytest.approx(1, abs=1e-3)


def test_files_of_the_same_content_share_one_vector(library, index, picture_folder, tiny_encoder):
    paths = sorted(picture_folder.rglob("*.png"))
    shutil.copy(paths[0], picture_folder / "copy.png")
    summary = index()
    assert (summary.added, summary.embedded) == (7, 6)
    shutil.copy(paths[1], picture_folder / "later copy.png")
    summary = index()
    assert (summary.added, summary.duplicates, summary.embedded) == (1, 1, 0)
    assert found_paths(library) == images_in(picture_folder)
    with library.catalog.snapshot() as snapshot:
        assert snapshot.row_count(tiny_encoder.space.id, Modality.IMAGE) == 6


def test_a_folder_of_every_kind(library, index, tmp_path):
    folder = tmp_path / "every kind"
    folder.mkdir()
    save_noise(folder / "image.png", 1)
    pages = [Image.new("RGB", (60, 80), colour) for colour in ("red", "blue")]
    pages[0].save(folder / "document.pdf", save_all=True, append_images=pages[1:])
    (folder / "notes.md").write_text("One sentence. " * 40)
    (folder / "table.csv").write_text("text,image,place\na dog,image.png,Rome\n")
    summary = index(folder)
    assert (summary.found, summary.added, summary.failed) == (4, 4, 0)
    kinds = Counter((item.kind, item.modality) for item in items_in(library))
    assert kinds.pop((MediaKind.TEXT, Modality.TEXT)) > 2
    assert kinds == {
        (MediaKind.IMAGE, Modality.IMAGE): 1,
        (MediaKind.DOCUMENT, Modality.IMAGE): 2,
        (MediaKind.TABLE, Modality.TEXT): 1,
    }
    [picture] = [item for item in items_in(library) if item.kind is MediaKind.IMAGE]
    with library.catalog.snapshot() as snapshot:
        said = {"text": "a dog", "place": "Rome"}
        assert snapshot.details(picture).annotations == [said]
    query = Query((TextPart("a dog"),), k=1, modality=Modality.TEXT)
    [hit] = Engine(library, device="cpu").search(query).hits
    assert (hit.item.text, hit.item.columns) == ("a dog", {"image": "image.png", "place": "Rome"})


def test_passages_fit_the_encoder(library, index, tmp_path, tiny_encoder):
    path = tmp_path / "long.txt"
    path.write_text("The quick brown fox jumps over the lazy dog. " * 30)
    index(path)
    texts = [item.text for item in items_in(library)]
    assert len(texts) > 1
    assert max(map(tiny_encoder.token_count, texts)) <= tiny_encoder.context_length


def test_a_long_file_that_was_stopped_goes_on(library, index, tmp_path):
    path = tmp_path / "long.csv"
    path.write_text("text\n" + "".join(f"caption {n}\n" for n in range(1_200)))
    settle(tmp_path)
    summary = index(path, should_stop=lambda: True)
    assert (summary.interrupted, summary.embedded, summary.added) == (True, 500, 0)
    assert len(items_in(library)) == 500
    summary = index(path)
    assert (summary.interrupted, summary.embedded, summary.added) == (False, 700, 1)
    assert len(items_in(library)) == 1_200
    assert index(path).unchanged == 1


def test_options_of_a_source_are_remembered(library, index, picture_folder):
    save_noise(picture_folder / ".hidden.png", 1)
    assert index(changes={"hidden": True}).found == 7
    assert index().found == 7
    summary = index(changes={"hidden": False})
    assert (summary.found, summary.removed) == (6, 1)


def test_a_second_space_embeds_the_same_files(library, index, tiny_encoder, monkeypatch):
    import dataclasses

    index()
    second = dataclasses.replace(tiny_encoder.space, preprocessing="another")
    monkeypatch.setattr(tiny_encoder, "space", second)
    library.add_space(second)
    summary = index()
    assert (summary.embedded, summary.unchanged) == (6, 0)
    assert index().unchanged == 6


def ids_by_name(library: Library) -> dict[str, int]:
    return {Path(item.path).name: item.id for item in items_in(library)}


def test_a_renamed_folder_is_found_once_and_not_embedded_again(library, index, picture_folder):
    index()
    ids = ids_by_name(library)
    new = picture_folder.rename(picture_folder.with_name("renamed"))
    summary = index(new)
    assert (summary.relocated, summary.unchanged, summary.added, summary.embedded) == (6, 6, 0, 0)
    assert summary.notes == [f"{picture_folder} was moved to {new}: 6 of its 6 files are there."]
    assert found_paths(library) == images_in(new)
    assert ids_by_name(library) == ids
    again = index(new)
    assert (again.relocated, again.unchanged, again.failed, again.notes) == (0, 6, 0, [])


def test_what_changed_in_a_renamed_folder_is_picked_up(library, index, picture_folder):
    index()
    new = picture_folder.rename(picture_folder.with_name("renamed"))
    first, second, third, *_ = sorted(map(Path, images_in(new)))
    save_noise(first, 50)
    second.unlink()
    third.rename(new / "another name.png")
    summary = index(new)
    assert (summary.relocated, summary.changed, summary.moved) == (6, 1, 1)
    assert (summary.removed, summary.embedded) == (1, 1)
    assert found_paths(library) == images_in(new)


def test_a_missing_source_is_named_with_what_helps(
    library, tiny_encoder, index, picture_folder, tmp_path
):
    index()
    picture_folder.rename(tmp_path / "unknown")
    summary = index_sources(library, tiny_encoder)
    assert f"mmsearch relocate {picture_folder} NEW" in summary.notes[0]
    assert len(summary.notes) == summary.failed == 1
    assert len(found_paths(library)) == 6


def test_a_file_that_left_its_source_keeps_its_item(library, index, picture_folder, tmp_path):
    index()
    ids = ids_by_name(library)
    other = tmp_path / "other"
    other.mkdir()
    old = min(map(Path, images_in(picture_folder)))
    old.rename(other / old.name)
    summary = index(other)
    assert (summary.moved, summary.added, summary.embedded) == (1, 0, 0)
    assert ids_by_name(library) == ids
    assert found_paths(library) == images_in(picture_folder) | images_in(other)
    assert index().removed == 0


def test_a_copy_of_a_file_of_an_absent_drive_does_not_take_its_item(
    library, index, picture_folder, tmp_path
):
    index()
    other = tmp_path / "other"
    other.mkdir()
    copy = Path(shutil.copy(min(images_in(picture_folder)), other))
    drive = picture_folder.rename(tmp_path / "unmounted")
    summary = index(other)
    assert (summary.moved, summary.duplicates, summary.embedded) == (0, 1, 0)
    drive.rename(picture_folder)
    assert found_paths(library) == images_in(picture_folder) | {str(copy)}


def test_a_renamed_file_that_is_a_source_replaces_it(library, index, picture_folder):
    old = min(map(Path, images_in(picture_folder)))
    index(old)
    new = old.rename(old.with_name("new name.png"))
    assert index(new).moved == 1
    with library.catalog.snapshot() as snapshot:
        assert snapshot.sources() == [str(new)]
    assert found_paths(library) == {str(new)}


def mean_and_process(image: Image.Image) -> NDArray[np.float64]:
    return np.array([*image.resize((1, 1)).getpixel((0, 0)), os.getpid()], np.float64)


class MeanColours:
    """An encoder of mean colours that notes where its pictures were made ready."""

    space = Space("mean colours", "none", "none", 3)
    modalities = frozenset({Modality.IMAGE})
    context_length = input_side = 1
    preprocess = staticmethod(mean_and_process)

    def __init__(self) -> None:
        self.processes: set[float] = set()

    def encode(self, _: Modality, inputs: Inputs) -> Vectors:
        values = np.stack(inputs)
        self.processes |= set(values[:, 3])
        means = values[:, :3] + 1
        return (means / np.linalg.norm(means, axis=1, keepdims=True)).astype(np.float32)

    def token_count(self, text: str) -> int:
        return len(text)


def test_pictures_are_made_ready_where_they_are_read(tmp_path, picture_folder):
    vectors = []
    for preprocess in (mean_and_process, partial(mean_and_process)):
        encoder = MeanColours()
        encoder.preprocess = preprocess
        library = create_library(tmp_path / str(len(vectors)), encoder.space)
        summary = index_sources(library, encoder, [picture_folder])
        assert summary.added > 1
        assert (os.getpid() in encoder.processes) is bool(vectors)
        vectors.append(library.embeddings(encoder.space, Modality.IMAGE).rows(summary.embedded))
    np.testing.assert_array_equal(*vectors)


SIDECAR = """<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF
 xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'
 xmlns:dc='http://purl.org/dc/elements/1.1/' xmlns:xmp='http://ns.adobe.com/xap/1.0/'>
<rdf:Description xmp:Rating='{}'><dc:subject><rdf:Bag><rdf:li>{}</rdf:li></rdf:Bag></dc:subject>
</rdf:Description></rdf:RDF></x:xmpmeta>"""


def names_where(library: Library, **where: object) -> set[str]:
    with library.catalog.snapshot() as snapshot:
        items = snapshot.items(library.space().id, where=Filter(**where), limit=100)
    return {Path(item.path).name for item in items}


def counts(summary: Summary) -> tuple[int, int, int]:
    return summary.added, summary.embedded, summary.refreshed


def test_sidecars_are_read_and_noticed_when_they_change(library, index, picture_folder):
    folder = picture_folder / "folder 0"
    sidecar = folder / "picture-0.xmp"
    sidecar.write_text(SIDECAR.format(3, "quokka"))
    first = index()
    assert (first.added, first.refreshed) == (6, 0)
    assert names_where(library, keyword="Quokka") == {"picture-0.png"}
    settle(picture_folder)
    assert index().refreshed == 1  # their times changed
    assert counts(index()) == (0, 0, 0)
    sidecar.write_text(SIDECAR.format(5, "wombat"))
    assert counts(index()) == (0, 0, 1)
    assert names_where(library, keyword="quokka") == set()
    assert names_where(library, keyword="wombat", rating={"min": 5}) == {"picture-0.png"}
    with library.catalog.snapshot() as snapshot:
        assert list(snapshot.details(one_named(library, "picture-0.png")).annotations) == [
            {"rating": 5, "keyword": ["wombat"]}
        ]
    sidecar.unlink()
    assert counts(index()) == (0, 0, 1)
    assert names_where(library, keyword="wombat") == set()


def one_named(library: Library, name: str) -> Item:
    return next(item for item in items_in(library) if Path(item.path).name == name)


def test_the_sidecar_of_one_copy_says_nothing_of_the_other(library, index, picture_folder):
    original = picture_folder / "folder 0" / "picture-0.png"
    original.with_suffix(".xmp").write_text(SIDECAR.format(3, "quokka"))
    index()
    shutil.copyfile(original, picture_folder / "copy.png")
    summary = index()
    assert (summary.duplicates, summary.embedded, summary.refreshed) == (1, 0, 1)
    assert names_where(library, keyword="quokka") == {"picture-0.png"}
    (picture_folder / "second.png.xmp").write_text(SIDECAR.format(3, "wombat"))
    shutil.copyfile(original, picture_folder / "second.png")
    index()
    assert names_where(library, keyword="wombat") == {"second.png"}


def test_metadata_is_read_again_and_goes_on_after_a_stop(
    library, index, picture_folder, monkeypatch
):
    index()
    settle(picture_folder)
    index()
    assert counts(index()) == (0, 0, 0)
    assert counts(index(refresh_metadata=True)) == (0, 0, 6)
    monkeypatch.setattr(pipeline, "_LOOKED_UP_AT_ONCE", 2)
    stops = iter([False, True])
    stopped = index(refresh_metadata=True, should_stop=lambda: next(stops, True))
    assert (stopped.refreshed, stopped.interrupted) == (2, True)
    assert counts(index(refresh_metadata=True)) == (0, 0, 4)
    assert counts(index(refresh_metadata=True)) == (0, 0, 6)


def test_that_more_can_be_read_is_said_once(library, index, picture_folder):
    index()
    settle(picture_folder)
    assert index().notes == []
    with library.catalog.transaction() as transaction:
        transaction.mark_old_metadata([str(path) for path in picture_folder.rglob("*.png")])
    assert index().notes == []  # said by the run that marked them
    assert index(refresh_metadata=True).refreshed == 6
    set_metadata_version(library, 1)
    [note] = index().notes
    assert "--refresh-metadata" in note
    assert index().notes == []
    assert index(refresh_metadata=True).refreshed == 6


def set_metadata_version(library: Library, version: int) -> None:
    with library.catalog.dialect.connect(write=True) as connection:
        connection.execute(sa.text(f"UPDATE files SET metadata_version = {version}"))


def notes_in(library: Library) -> list[str]:
    with library.catalog.snapshot() as snapshot:
        return [note for noted in snapshot.notes() for note in noted.notes]


def test_notes_of_damaged_metadata_are_renewed_when_it_is_read_again(
    library, index, picture_folder
):
    folder = picture_folder / "folder 0"
    damaged = folder / "picture-0.xmp"
    damaged.write_text("<x:xmpmeta")
    index()
    assert len(notes_in(library)) == 1
    assert notes_in(library)[0].startswith("metadata: its sidecar picture-0.xmp cannot be read")
    settle(picture_folder)
    index(refresh_metadata=True)
    assert len(notes_in(library)) == 1
    damaged.write_text(SIDECAR.format(3, "quokka"))
    index()
    assert notes_in(library) == []
    damaged.write_text("<x:xmpmeta")
    index()
    assert len(notes_in(library)) == 1


def test_pages_that_an_earlier_version_left_out_are_found(library, index, picture_folder):
    scan = picture_folder / "scan.tif"
    pages = [Image.new("RGB", (30, 20 + page), (80 * page, 0, 0)) for page in range(3)]
    pages[0].save(scan, save_all=True, append_images=pages[1:])
    index()
    settle(picture_folder)
    index()
    # As versions recorded it that knew no pages.
    with library.catalog.dialect.connect(write=True) as connection:
        of_others = "(SELECT id FROM items WHERE part IN ('p2', 'p3'))"
        connection.execute(sa.text(f"DELETE FROM rows WHERE item_id IN {of_others}"))
        connection.execute(sa.text("DELETE FROM items WHERE part IN ('p2', 'p3')"))
        connection.execute(sa.text("UPDATE items SET part = '', page = NULL WHERE part = 'p1'"))
    set_metadata_version(library, 1)
    assert "--refresh-metadata" in index().notes[0]
    refreshed = index(refresh_metadata=True)
    assert (refreshed.refreshed, refreshed.embedded) == (7, 0)
    assert "1 TIFF file" in refreshed.notes[0]
    assert parts_of(library, scan) == [""]
    assert counts(index()) == (1, 3, 0)
    assert parts_of(library, scan) == ["p1", "p2", "p3"]
    assert counts(index()) == (0, 0, 0)
    assert index(refresh_metadata=True).notes == []


def parts_of(library: Library, path: Path) -> list[str]:
    return sorted(item.part for item in items_in(library) if item.path == str(path))


def test_what_failed_before_a_version_that_reads_more_is_told(library, index, picture_folder):
    (picture_folder / "broken.jpg").write_bytes(b"no picture")
    index()
    set_metadata_version(library, 1)
    assert ["--retry-failed" in note for note in index().notes] == [False, True]
    assert index().notes == []


@pytest.mark.parametrize("of", ["folder 0", ""])
def test_an_emptied_folder_is_told_with_the_command(library, index, picture_folder, of):
    index()
    folder = picture_folder / of
    for path in folder.rglob("*.png"):
        path.unlink()
    for left in picture_folder.iterdir() if not of else ():
        left.rmdir()
    for _ in range(2):
        summary = index()
        assert summary.removed == 0
        assert len(summary.notes) == 1
        assert f"mmsearch remove {shlex.quote(str(folder))}" in summary.notes[0]
    assert remove_paths(library, [folder]) == (3 if of else 6) + 1  # and the folder, that failed
    if of:
        assert index().notes == []

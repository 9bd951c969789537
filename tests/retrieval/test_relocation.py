import os
import shutil
from pathlib import Path

import pytest

from retrieval.errors import LibraryLockedError, NotFoundError, UsageError
from retrieval.library import Library, create_library, open_library
from retrieval.relocation import presence_at, way_beside

LONG_AGO_NS = 1_600_000_000 * 10**9


def write(root: Path, contents: dict[str, str]) -> None:
    for name, content in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        os.utime(path, ns=(LONG_AGO_NS, LONG_AGO_NS))


def items(library: Library) -> dict[int, str]:
    """Return the paths of all items that can be found, by their ids."""
    with library.catalog.snapshot() as snapshot:
        return {item.id: item.path for item in snapshot.items(library.space().id, limit=1000)}


def sources(library: Library) -> list[str]:
    with library.catalog.snapshot() as snapshot:
        return snapshot.sources()


@pytest.fixture
def library(tmp_path, tiny_encoder) -> Library:
    return create_library(tmp_path / "usb" / "library", tiny_encoder.space)


@pytest.fixture
def photos(library, tmp_path, record_source) -> Path:
    """Three photos on the disk of the library, recorded."""
    folder = tmp_path / "usb" / "photos"
    write(folder, {"a.jpg": "first", "x/b.jpg": "second", "x/c.jpg": "third"})
    record_source(library, folder)
    return folder


def test_a_renamed_folder_is_relocated(library, photos, tmp_path):
    before = items(library)
    new = photos.rename(tmp_path / "pictures")
    plan = library.relocate(photos, new, dry_run=True)
    assert items(library) == before
    assert (plan.presence.files, plan.presence.there, plan.presence.same) == (3, 3, 3)
    done = library.relocate(f"{photos}/", new)
    assert (done.relocated, done.hidden) == (3, 0)
    assert sources(library) == [str(new)]
    assert items(library) == {
        item_id: path.replace(str(photos), str(new)) for item_id, path in before.items()
    }


def test_a_part_of_a_source_may_be_relocated(library, photos, tmp_path):
    new = (photos / "x").rename(tmp_path / "y")
    library.relocate(photos / "x", new)
    assert sources(library) == [str(photos)]
    assert sorted(items(library).values()) == sorted(map(str, [photos / "a.jpg", *new.iterdir()]))


def test_files_of_another_time_are_told_by_their_content(library, photos, tmp_path):
    new = tmp_path / "pictures"
    write(new, {"a.jpg": "first", "x/b.jpg": "SECOND", "x/c.jpg": "longer than third"})
    os.utime(new / "a.jpg")
    with library.catalog.snapshot() as snapshot:
        known = list(snapshot.files_below([str(photos)], ""))
    os.utime(new / "x" / "b.jpg")
    presence = presence_at(known, str(photos), str(new))
    assert (presence.files, presence.there, presence.same) == (3, 3, 1)
    assert not presence.is_most


def test_what_cannot_be_a_relocation_is_refused(library, photos, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFoundError, match="nothing at"):
        library.relocate(photos, tmp_path / "nowhere")
    with pytest.raises(NotFoundError, match="knows nothing at"):
        library.relocate(tmp_path / "nowhere", photos)
    with pytest.raises(UsageError, match="None of the 3 files"):
        library.relocate(photos, tmp_path / "empty")
    with pytest.raises(UsageError, match="the old path and the new one"):
        library.relocate(photos, photos)
    assert sources(library) == [str(photos)]
    library.relocate(photos, tmp_path / "empty", force=True)
    assert sources(library) == [str(tmp_path / "empty")]


def test_other_files_known_at_the_new_path_are_not_replaced(
    library, photos, tmp_path, record_source
):
    new = tmp_path / "pictures"
    write(new, {"a.jpg": "other", "x/b.jpg": "second"})
    record_source(library, new)
    with pytest.raises(UsageError, match=r"other files at 1 of the new paths: .*a\.jpg"):
        library.relocate(photos, new)
    done = library.relocate(photos, new, force=True)
    assert (done.relocated, done.hidden) == (1, 2)
    assert sorted(Path(path).name for path in items(library).values()) == [
        "a.jpg",
        "b.jpg",
        "c.jpg",
    ]


def test_a_busy_library_is_not_relocated(library, photos, tmp_path):
    new = photos.rename(tmp_path / "pictures")
    with library.writer(), pytest.raises(LibraryLockedError):
        library.relocate(photos, new)


@pytest.mark.parametrize("inside", [False, True])
def test_photos_that_move_with_their_library_are_followed(
    library, photos, tmp_path, tiny_encoder, record_source, inside
):
    if inside:  # a library in the folder of its photos
        library.close()
        photos = tmp_path / "usb2"
        library = create_library(photos / ".library", tiny_encoder.space)
        write(photos, {"a.jpg": "first", "b.jpg": "second"})
        record_source(library, photos)
    before = items(library)
    library.close()
    disk = photos if inside else photos.parent
    moved = disk.rename(tmp_path / "mnt")
    opened = open_library(moved / library.path.relative_to(disk))
    new = moved / photos.relative_to(disk)
    assert sources(opened) == [str(new)]
    assert items(opened) == {
        item_id: path.replace(str(photos), str(new), 1) for item_id, path in before.items()
    }
    assert all(Path(path).exists() for path in items(opened).values())
    # And back again: the way is remembered still.
    opened.close()
    moved.rename(disk)
    assert items(open_library(library.path)) == before


def test_a_copied_library_keeps_to_the_photos_that_are_still_there(library, photos, tmp_path):
    library.close()
    copy = Path(shutil.copytree(tmp_path / "usb", tmp_path / "copy"))
    assert sources(open_library(copy / "library")) == [str(photos)]


def test_other_photos_at_the_same_relative_place_are_not_taken(library, photos, tmp_path):
    library.close()
    moved = (tmp_path / "usb" / "library").rename(tmp_path / "mnt")
    photos.rename(tmp_path / "elsewhere")
    write(tmp_path / "photos", {"a.jpg": "OTHER", "d.jpg": "others"})
    assert sources(open_library(moved)) == [str(photos)]


def test_a_library_that_cannot_be_written_says_so(library, photos, tmp_path):
    library.close()
    moved = (tmp_path / "usb").rename(tmp_path / "mnt")
    opened = Library(moved / "library", library.manifest)
    with opened.writer():
        reader = open_library(moved / "library")
    new = moved / "photos"
    assert sources(reader) == [str(photos)]
    assert f"mmsearch relocate {photos} {new}" in reader.warnings[0]
    assert any("mmsearch relocate" in text for text in reader.search("x", rerank="none").warnings)


def test_the_way_to_a_source_is_of_one_tree_only(tmp_path, monkeypatch):
    home = tmp_path / "home" / "me"
    for folder in (home / "data" / "library", home / "pictures", tmp_path / "usb" / "photos"):
        folder.mkdir(parents=True)
        (folder / "x").touch()
    monkeypatch.setenv("HOME", str(home))
    library = home / "data" / "library"
    assert way_beside(library, str(home / "pictures")) is None
    assert way_beside(library, str(tmp_path / "usb" / "photos")) is None
    assert way_beside(library, str(home / "data")) == ".."
    assert way_beside(tmp_path / "usb" / "library", str(tmp_path / "usb" / "photos")) == "../photos"
    assert way_beside(tmp_path / "usb" / "library", str(tmp_path / "usb" / "none")) is None

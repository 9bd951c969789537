import os
from datetime import timedelta
from pathlib import Path

import pytest

from retrieval.errors import LibraryError, NotFoundError, UsageError
from retrieval.lance.library import (
    LanceLibrary,
    as_table,
    drop_oldest,
    split_version,
    table_of,
    with_slashes,
)
from retrieval.lance.records import table_of as rows_of
from retrieval.lance.table import LanceTable
from retrieval.library import create_library, is_place_for_library, open_library
from retrieval.media import Modality

pytest.importorskip("lance", reason="needs Lance: pip install 'mmsearch[cluster]'")


@pytest.fixture
def location(tmp_path, space, make_file):
    table = LanceTable.create(f"lance:{tmp_path}/table", space, {"/photos": None})
    table.append(rows_of([make_file(f"/photos/{name}.jpg") for name in "abc"], space))
    return table.location


def paths(library: LanceLibrary) -> list[str]:
    with library.catalog.snapshot() as snapshot:
        listed = snapshot.items(library.space().id, limit=100)
    return [Path(item.path).stem for item in listed]


def test_a_table_is_opened_like_a_directory(location, space):
    library = open_library(location)
    assert isinstance(library, LanceLibrary)
    assert library.is_table
    assert library.location == location
    assert library.space() == space
    assert library.space_ids() == [space.id]
    assert library.warnings == []
    assert library.missing() is None
    assert library.max_pixels is None
    assert paths(library) == ["a", "b", "c"]
    assert not library.path.exists()
    assert open_library(Path(location)).version == library.version
    library.close()


@pytest.mark.parametrize("text", ["lance+s3://bucket/a/b", "lance:/a/b", "lance:a", "/a/lance:b"])
def test_a_location_is_spelled_as_it_was_before_path_joined_its_slashes(text):
    assert with_slashes(Path(text)) == text


def test_a_version_is_named_behind_an_at_sign():
    assert split_version("lance:/a/b@3") == ("lance:/a/b", 3)
    assert split_version("lance+s3://bucket/me@home/b") == ("lance+s3://bucket/me@home/b", None)
    assert split_version("lance:/a@b") == ("lance:/a@b", None)


def test_new_versions_are_taken_up_and_old_ones_stay(location, space, make_file):
    library = as_table(open_library(location))
    first = library.version
    pinned = as_table(open_library(f"{location}@{first}"))
    LanceTable.open(location).append(rows_of([make_file("/photos/d.jpg")], space))
    assert library.catalog.dialect.version() == first + 1
    assert paths(library) == ["a", "b", "c", "d"]
    assert pinned.catalog.dialect.version() == pinned.refresh() == first
    assert paths(pinned) == ["a", "b", "c"]
    assert pinned.location == f"{location}@{first}"
    assert pinned.path != library.path
    for change in (lambda: pinned.remove(["/photos/a.jpg"]), pinned.compact):
        with pytest.raises(UsageError, match="versions do not change"):
            change()


def test_files_and_folders_are_removed(location, space, make_file):
    library = as_table(open_library(location))
    LanceTable.open(location).append(rows_of([make_file("/photosx/d.jpg", parts=3)], space))
    library.refresh()
    with pytest.raises(NotFoundError, match="knows nothing at or below /nowhere"):
        library.remove(["/photos/a.jpg", "/nowhere"])
    assert len(paths(library)) == 6
    assert library.remove(["/photos/a.jpg", "/photosx"]) == 2
    assert paths(library) == ["b", "c"]
    assert library.table.sources == {"/photos": None}
    assert library.remove(["/photos"]) == 2
    assert library.table.sources == {}
    for path in ("/photos' OR true --", "/\0", "/é'"):
        with pytest.raises(NotFoundError):
            library.remove([path])


def test_compaction_keeps_what_is_there_and_the_versions_that_are_wanted(location):
    library = as_table(open_library(location))
    before = library.version
    library.remove(["/photos/b.jpg"])
    library.compact()
    assert paths(library) == ["a", "c"]
    assert before in [one.version for one in library.table.versions()]
    assert paths(as_table(open_library(f"{location}@{before}"))) == ["a", "b", "c"]
    library.compact(keep=timedelta(0))
    assert before not in [one.version for one in library.table.versions()]
    with pytest.raises(NotFoundError, match="mmsearch versions"):
        open_library(f"{location}@{before}")
    assert paths(library) == ["a", "c"]


def test_what_is_not_a_table_is_told(tmp_path, tiny_encoder, location):
    with pytest.raises(NotFoundError, match="mmsearch export --lance"):
        open_library(f"lance:{tmp_path}/nothing")
    with pytest.raises(UsageError, match="lance:DIR"):
        open_library("lance:")
    with pytest.raises(UsageError, match="is to be a table"):
        create_library(location, tiny_encoder.space)
    assert not is_place_for_library(Path(location))
    made = create_library(tmp_path / "library", tiny_encoder.space)
    with pytest.raises(UsageError, match="in a directory"):
        table_of(made)


def test_what_a_table_does_not_have_is_told_with_the_way(location):
    library = open_library(location)
    for change in (
        lambda: library.hide([1]),
        lambda: library.unhide([1]),
        lambda: library.collections.create("x"),
        lambda: library.saved_searches.save("x", {}),
        lambda: library.add_space(library.space()),
        lambda: library.embeddings(library.space(), Modality.IMAGE),
        lambda: library.relocate("/photos", "/elsewhere"),
        lambda: library.set_default_space(library.space().id),
        library.share,
        library.writer,
        lambda: library.catalog.dialect.find_damage,
    ):
        with pytest.raises((LibraryError, UsageError)):
            change()
    with pytest.raises(UsageError, match="no space"):
        library.space("other")


def test_thumbnails_are_bounded(location, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("retrieval.lance.library.THUMBNAIL_BYTES", 1000)
    library = as_table(open_library(location))
    library.thumbnails.mkdir(parents=True)
    for number in range(10):
        file = library.thumbnails / f"{number}.jpg"
        file.write_bytes(b"x" * 300)
        os.utime(file, (number, number))
        library.kept_thumbnail(300)
    kept = sorted(path.name for path in library.thumbnails.iterdir())
    assert kept == ["7.jpg", "8.jpg", "9.jpg"]
    drop_oldest(tmp_path / "nothing", 10)

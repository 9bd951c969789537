import os
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.scan import FoundFile, Unlisted, compare, walk
from retrieval.catalog import FileState, KnownFile


def found_names(root: Path) -> list[str]:
    return [
        os.path.relpath(entry.path, root)
        for entry in walk(str(root))
        if isinstance(entry, FoundFile)
    ]


def make(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def test_images_are_found_in_a_fixed_order(tmp_path):
    make(tmp_path, "b/2.JPG", "a.png", "b/1.webp", "notes.txt", "c/d/e/deep.gif", "noext")
    assert found_names(tmp_path) == ["a.png", "b/1.webp", "b/2.JPG", "c/d/e/deep.gif"]


def test_hidden_files_and_folders_are_passed_over(tmp_path):
    make(tmp_path, ".hidden.jpg", ".git/x.jpg", "seen.jpg")
    assert found_names(tmp_path) == ["seen.jpg"]


def test_a_library_among_the_photos_is_passed_over(tmp_path):
    make(tmp_path, "lib/library.toml", "lib/catalog.sqlite", "lib/thumbnails/x.jpg", "seen.jpg")
    assert found_names(tmp_path) == ["seen.jpg"]


def test_a_root_that_is_a_file_is_taken_whatever_its_name(tmp_path):
    make(tmp_path, "photo-without-ending")
    assert found_names(tmp_path / "photo-without-ending") == ["."]


def test_link_loops_end_and_links_to_files_count(tmp_path):
    make(tmp_path, "a/1.jpg")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    (tmp_path / "linked.jpg").symlink_to(tmp_path / "a" / "1.jpg")
    (tmp_path / "broken.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (tmp_path / "self.jpg").symlink_to(tmp_path / "self.jpg")
    assert found_names(tmp_path) == ["linked.jpg", "a/1.jpg"]
    unlisted = {Path(e.path).name for e in walk(str(tmp_path)) if isinstance(e, Unlisted)}
    assert unlisted == {"broken.jpg", "self.jpg"}


def test_pipes_and_directories_with_image_names_are_not_files(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    make(tmp_path, "folder.jpg/inside.png")
    assert found_names(tmp_path) == ["folder.jpg/inside.png"]


def test_names_that_are_not_utf8(tmp_path):
    try:
        make(tmp_path, os.fsdecode(b"caf\xe9.jpg"), "雪の犬.jpg", "new\nline.jpg")
    except OSError:
        pytest.skip("this file system wants valid UTF-8")
    assert len(found_names(tmp_path)) == 3


@pytest.fixture
def folder_of_all():
    """A folder below which other users may look; pytest's own is closed to them."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@contextmanager
def without_privileges():
    """Root reads everything, so be somebody else for a while."""
    uid = os.geteuid()
    if uid == 0:
        os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(uid)


def test_an_unreadable_folder_is_told_and_hides_nothing_known(folder_of_all):
    make(folder_of_all, "open/1.jpg", "closed/2.jpg")
    closed = folder_of_all / "closed"
    closed.chmod(0)
    with without_privileges():
        entries = list(walk(str(folder_of_all)))
    closed.chmod(0o755)
    assert {Path(e.path).name for e in entries} == {"closed", "1.jpg"}
    [unlisted] = [e for e in entries if isinstance(e, Unlisted)]
    assert unlisted == Unlisted(str(closed), "cannot be listed: permission denied")
    result = compare(entries, [known_file(str(closed / "2.jpg"), 1)])
    assert result.gone == []
    assert [failed.path for failed in result.unlisted] == [str(closed)]


def test_a_vanished_root_is_told(tmp_path):
    [entry] = walk(str(tmp_path / "gone"))
    assert entry == Unlisted(str(tmp_path / "gone"), "no such file or directory")


def known_file(
    path: str, mtime_ns: int, state: FileState = FileState.INDEXED, embedded: bool = True
) -> KnownFile:
    return KnownFile(path, state, 1, mtime_ns, "hash", embedded)


names = st.sampled_from([f"/p/{letter}.jpg" for letter in "abcdefgh"])
folders = st.dictionaries(names, st.integers(0, 3))


@given(
    now=folders,
    before=st.dictionaries(
        names, st.tuples(st.integers(0, 3), st.sampled_from(FileState), st.booleans())
    ),
    retry=st.booleans(),
)
def test_comparing_agrees_with_its_definition(now, before, retry):
    known = {path: known_file(path, *fields) for path, fields in before.items()}
    result = compare(
        [FoundFile(path, 1, mtime) for path, mtime in now.items()],
        known.values(),
        retry_failed=retry,
    )
    to_read = {file.path for file in result.to_read}
    for path, mtime in now.items():
        file = known.get(path)
        same = file is not None and file.mtime_ns == mtime
        if same and file.state is FileState.INDEXED:
            assert (path in to_read) == (not file.embedded)
        elif same and file.state is FileState.FAILED:
            assert (path in to_read) == retry
        else:
            assert path in to_read
    assert len(to_read) + result.unchanged + result.still_failed == len(now)
    assert set(result.gone) == {
        path
        for path, file in known.items()
        if path not in now and file.state is not FileState.REMOVED
    }
    assert set(result.known) == to_read & set(known)

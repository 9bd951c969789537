import os
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.decode import is_stable
from indexer.scan import (
    EmptyRoot,
    FoundFile,
    MountPoint,
    PassedOver,
    Unlisted,
    WalkOptions,
    _pack,
    _unpack,
    compare,
    walk,
)
from retrieval.catalog import FileState, KnownFile
from retrieval.media import MediaKind

IMAGES = WalkOptions(kinds=frozenset({MediaKind.IMAGE}))
FOLLOW = WalkOptions(follow=True)


def found_names(root: Path, options: WalkOptions = IMAGES) -> list[str]:
    return [
        os.path.relpath(entry.path, root)
        for entry in walk(str(root), options)
        if isinstance(entry, FoundFile)
    ]


def unlisted(root: Path, options: WalkOptions = IMAGES) -> dict[str, str]:
    return {
        os.path.relpath(entry.path, root): entry.reason
        for entry in walk(str(root), options)
        if isinstance(entry, Unlisted)
    }


def test_images_are_found_in_a_fixed_order(tmp_path, make):
    make(tmp_path, "b/2.JPG", "a.png", "b/1.webp", "notes.txt", "c/d/e/deep.gif", "noext")
    assert found_names(tmp_path) == ["a.png", "b/1.webp", "b/2.JPG", "c/d/e/deep.gif"]


def test_every_kind_is_found_unless_only_some_are_asked_for(tmp_path, make):
    make(tmp_path, "a.jpg", "b.mp4", "bc.mp3", "c.pdf", "d.txt", "e.csv", "f.exe")
    kinds = [entry.kind for entry in walk(str(tmp_path)) if isinstance(entry, FoundFile)]
    assert kinds == list(MediaKind)
    some = WalkOptions(kinds=frozenset({MediaKind.TEXT, MediaKind.VIDEO}))
    assert found_names(tmp_path, some) == ["b.mp4", "d.txt"]


def test_hidden_files_and_folders_are_passed_over_unless_asked_for(tmp_path, make):
    make(tmp_path, ".hidden.jpg", ".git/x.jpg", "seen.jpg")
    assert found_names(tmp_path) == ["seen.jpg"]
    assert found_names(tmp_path, WalkOptions(hidden=True)) == [
        ".hidden.jpg",
        "seen.jpg",
        ".git/x.jpg",
    ]


def test_a_library_among_the_photos_is_passed_over(tmp_path, make):
    make(tmp_path, "lib/library.toml", "lib/spaces/x/y", "lib/thumbnails/x.jpg", "seen.jpg")
    assert found_names(tmp_path) == ["seen.jpg"]


def test_a_root_that_is_a_file_is_taken_whatever_its_name(tmp_path, make):
    make(tmp_path, "photo-without-ending", "notes.txt")
    [photo] = walk(str(tmp_path / "photo-without-ending"))
    [notes] = walk(str(tmp_path / "notes.txt"), IMAGES)
    assert (photo.size, photo.kind, notes.kind) == (1, MediaKind.IMAGE, MediaKind.TEXT)


def test_link_loops_end_and_links_to_files_count(tmp_path, make):
    make(tmp_path, "a/1.jpg")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    (tmp_path / "linked.jpg").symlink_to(tmp_path / "a" / "1.jpg")
    (tmp_path / "broken.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (tmp_path / "self.jpg").symlink_to(tmp_path / "self.jpg")
    assert found_names(tmp_path) == ["linked.jpg", "a/1.jpg"]
    assert set(unlisted(tmp_path)) == {"broken.jpg", "self.jpg"}


def test_links_to_folders_are_entered_when_asked_for_and_loops_end(tmp_path, make):
    make(tmp_path, "root/a/1.jpg", "elsewhere/2.jpg", "elsewhere/deep/3.jpg")
    root = tmp_path / "root"
    (root / "a" / "loop").symlink_to(root)
    (root / "a" / "self").symlink_to(root / "a" / "self")
    (root / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(root / "a")
    assert found_names(root) == ["a/1.jpg"]
    assert found_names(root, FOLLOW) == ["a/1.jpg", "link/2.jpg", "link/deep/3.jpg"]


def test_a_folder_reached_twice_is_entered_once_by_its_path_without_links(tmp_path, make):
    make(tmp_path, "z/1.jpg", "y/x/2.jpg")
    (tmp_path / "a").symlink_to("z")
    (tmp_path / "b").symlink_to("y/x")
    (tmp_path / "c").symlink_to("y")
    assert found_names(tmp_path, FOLLOW) == ["y/x/2.jpg", "z/1.jpg"]


def test_followed_links_that_lead_nowhere_keep_what_was_known_below(tmp_path):
    (tmp_path / "drive").symlink_to(tmp_path / "unmounted")
    entries = list(walk(str(tmp_path), FOLLOW))
    assert entries == [Unlisted(str(tmp_path / "drive"), "no such file or directory")]
    assert compare(entries, [known_file(str(tmp_path / "drive" / "1.jpg"), 1)]).gone == []


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs a second file system")
def test_other_file_systems_are_not_entered_when_asked_not_to(tmp_path, make):
    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:
        if os.stat(other).st_dev == tmp_path.stat().st_dev:  # noqa: PTH116
            pytest.skip("needs a second file system")
        make(tmp_path, "1.jpg", "sub/2.jpg")
        make(Path(other), "3.jpg")
        (tmp_path / "mount").symlink_to(other)
        assert found_names(tmp_path, FOLLOW) == ["1.jpg", "sub/2.jpg", "mount/3.jpg"]
        only_here = WalkOptions(follow=True, one_file_system=True)
        assert found_names(tmp_path, only_here) == ["1.jpg", "sub/2.jpg"]
        assert found_names(Path(other), only_here) == ["3.jpg"]


@pytest.fixture
def deep_folder(tmp_path):
    """2,500 levels and some photos, made and removed without naming the whole path."""
    place = os.open(tmp_path, os.O_RDONLY)
    for level in range(2500):
        if level % 50 == 0:
            os.close(os.open("p.jpg", os.O_CREAT | os.O_WRONLY, dir_fd=place))
        os.mkdir("d", dir_fd=place)
        inner = os.open("d", os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = inner
    os.close(place)
    yield tmp_path
    # Python's own rmtree recurses.
    subprocess.run(["rm", "-rf", str(tmp_path)], check=True)


def test_a_tree_deeper_than_a_path_can_be_is_walked_as_far_as_files_can_be_opened(deep_folder):
    entries = list(walk(str(deep_folder)))
    found = [entry for entry in entries if isinstance(entry, FoundFile)]
    assert len(found[-1].path) > 3900
    assert Path(found[-1].path).read_bytes() == b""
    told = [entry for entry in entries if isinstance(entry, Unlisted)]
    assert told
    assert all("its path is longer than this system can open" in entry.reason for entry in told)
    below = f"{told[-1].path}/d/p.jpg"
    assert compare(entries, [known_file(below, 1)]).gone == []


def test_pipes_and_directories_with_image_names_are_not_files(tmp_path, make):
    os.mkfifo(tmp_path / "pipe.jpg")
    make(tmp_path, "folder.jpg/inside.png")
    assert found_names(tmp_path) == ["folder.jpg/inside.png"]


def test_names_that_are_not_utf8(tmp_path, make):
    try:
        make(tmp_path, os.fsdecode(b"caf\xe9.jpg"), "雪の犬.jpg", "new\nline.jpg", "blank / .jpg")
    except OSError:
        pytest.skip("this file system wants valid UTF-8")
    assert len(found_names(tmp_path)) == 4


@pytest.fixture
def folder_of_all():
    """A folder below which other users may look; pytest's own is closed to them."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_an_unreadable_folder_is_told_and_hides_nothing_known(
    folder_of_all, make, without_privileges
):
    make(folder_of_all, "open/1.jpg", "closed/2.jpg")
    closed = folder_of_all / "closed"
    closed.chmod(0)
    with without_privileges():
        entries = list(walk(str(folder_of_all)))
    closed.chmod(0o755)
    assert {Path(e.path).name for e in entries} == {"closed", "1.jpg"}
    [told] = [e for e in entries if isinstance(e, Unlisted)]
    assert told == Unlisted(str(closed), "cannot be listed: permission denied")
    result = compare(entries, [known_file(str(closed / "2.jpg"), 1)])
    assert result.gone == []
    assert [failed.path for failed in result.unlisted] == [str(closed)]


def test_a_vanished_root_is_told(tmp_path):
    [entry] = walk(str(tmp_path / "gone"))
    assert entry == Unlisted(str(tmp_path / "gone"), "no such file or directory")


def test_a_root_that_is_empty_all_at_once_keeps_what_was_known(tmp_path):
    known = [known_file(str(tmp_path / name), 1) for name in ("1.jpg", "sub/2.jpg")]
    entries = list(walk(str(tmp_path)))
    assert entries == [EmptyRoot(str(tmp_path))]
    result = compare(entries, known)
    assert result.gone == []
    [told] = result.unlisted
    assert told.path == str(tmp_path)
    assert "mount it" in told.failure
    assert "mmsearch remove" in told.failure


def test_an_empty_root_of_which_nothing_was_known_is_fine(tmp_path):
    elsewhere = str(tmp_path) + "-2/1.jpg"
    removed = known_file(str(tmp_path / "1.jpg"), 1, FileState.REMOVED)
    result = compare(walk(str(tmp_path)), [removed, known_file(elsewhere, 1)])
    assert (result.unlisted, result.gone) == ([], [elsewhere])


def test_a_root_with_anything_left_in_it_lost_its_files(tmp_path, make):
    make(tmp_path, "readme")
    known = known_file(str(tmp_path / "1.jpg"), 1)
    assert compare(walk(str(tmp_path)), [known]).gone == [known.path]


def test_files_just_written_are_not_settled():
    second = 1_000_000_000
    now = 1_700_000_000 * second
    assert is_stable(now - 2 * second, now)
    assert not is_stable(now - 2 * second + 1, now)
    assert not is_stable(now, now)
    assert is_stable(now + 3600 * second, now)


def known_file(
    path: str,
    mtime_ns: int,
    state: FileState = FileState.INDEXED,
    embedded: bool = True,
    *,
    content_hash: str | None = "hash",
) -> KnownFile:
    return KnownFile(path, state, 1, mtime_ns, content_hash, embedded)


def image(path: str, size: int = 1, mtime_ns: int = 1) -> FoundFile:
    return FoundFile(path, size, mtime_ns, MediaKind.IMAGE)


def test_a_file_without_a_time_is_read_again():
    known = known_file("/p/a.jpg", -1)
    assert compare([image("/p/a.jpg", mtime_ns=-1)], [known]).to_read


def test_a_moved_file_is_told_by_its_size_and_content():
    known = [
        known_file("/p/b/old.jpg", 1, content_hash="one"),
        known_file("/p/a/old.jpg", 1, content_hash="one"),
        known_file("/p/a/before.jpg", 1, FileState.REMOVED, content_hash="one"),
        known_file("/p/stays.jpg", 1, content_hash="one"),
        known_file("/p/broken.jpg", 1, FileState.FAILED, content_hash=None),
    ]
    found = [image("/p/stays.jpg"), image("/p/new.jpg"), image("/p/larger.jpg", size=2)]
    result = compare(found, known)
    assert set(result.gone) == {"/p/b/old.jpg", "/p/a/old.jpg", "/p/broken.jpg"}
    assert [file.path for file in result.to_read] == ["/p/new.jpg", "/p/larger.jpg"]
    assert result.take_moved("/p/new.jpg", 1, "two") is None
    assert result.take_moved("/p/larger.jpg", 2, "one") is None
    moved = [result.take_moved("/p/new.jpg", 1, "one") for _ in range(4)]
    assert moved == [known[1], known[0], known[2], None]


def test_of_files_gone_with_the_same_content_the_one_of_the_same_name_moved():
    known = [known_file("/p/1.jpg", 1), known_file("/p/2.jpg", 1)]
    result = compare([image("/q/2.jpg")], known)
    assert result.take_moved("/q/2.jpg", 1, "hash") == known[1]


def test_files_below_what_could_not_be_listed_have_not_moved():
    known = known_file("/p/closed/1.jpg", 1)
    result = compare([Unlisted("/p/closed", "closed"), image("/p/1.jpg")], [known])
    assert (result.gone, result.maybe_moved) == ([], {})


def test_only_files_whose_size_is_new_somewhere_are_held_as_moved():
    known = [known_file(f"/p/{number}.jpg", 1) for number in range(3)]
    assert compare([image("/p/1.jpg", mtime_ns=2)], known).maybe_moved == {}


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
        [image(path, mtime_ns=mtime) for path, mtime in now.items()],
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


@pytest.mark.parametrize(
    "folder",
    [
        *("@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found"),
        *(".Trash-1000", "Previews.lrdata", "x.photoslibrary/resources", ".stfolder", "RECYCLER"),
    ],
)
def test_system_folders_are_passed_over_and_counted(tmp_path, folder, make):
    make(tmp_path, f"{folder}/a.jpg")
    make(tmp_path, "x.photoslibrary/originals/b.jpg")
    options = WalkOptions(hidden=True)
    entries = list(walk(str(tmp_path), options))
    assert [Path(e.path).name for e in entries if isinstance(e, FoundFile)] == ["b.jpg"]
    assert Path(folder).name in [
        name for e in entries if isinstance(e, PassedOver) for name in e.folders
    ]
    taken = walk(str(tmp_path), WalkOptions(hidden=True, system_folders=True))
    assert sum(isinstance(entry, FoundFile) for entry in taken) == 2


def test_files_of_other_kinds_are_counted(tmp_path, make):
    make(tmp_path, "a.jpg", "b.PSB", "c.psb", "d", "package.json")
    (tmp_path / "rows.json").write_text(' [ {"text": "a"}]')
    (tmp_path / "go.mod").write_text("module x")
    (tmp_path / "clip.mod").write_bytes(b"\0\0\1\xba")
    entries = list(walk(str(tmp_path)))
    found = [Path(e.path).name for e in entries if isinstance(e, FoundFile)]
    assert found == ["a.jpg", "clip.mod", "rows.json"]
    (passed,) = [entry for entry in entries if isinstance(entry, PassedOver)]
    assert passed.endings == {".psb": 2, "without an ending": 1, ".json": 1, ".mod": 1}


def known_below(*paths):
    return [KnownFile(p, FileState.INDEXED, 10 + n, 5, f"h{n}", True) for n, p in enumerate(paths)]


@pytest.mark.parametrize("left", [[], ["lost+found/"]])
def test_a_folder_that_is_suddenly_empty_keeps_its_files(tmp_path, left, make):
    make(tmp_path, "home.jpg")
    (tmp_path / "usb").mkdir()
    for name in left:
        (tmp_path / "usb" / name).mkdir()
    usb = str(tmp_path / "usb")
    known = known_below(f"{usb}/a.jpg", f"{usb}/deep/b.jpg")
    result = compare(walk(str(tmp_path)), known)
    assert result.gone == []
    assert [failed.path for failed in result.unlisted] == [usb]


def test_files_that_were_moved_out_of_a_folder_are_not_kept_there(tmp_path):
    (tmp_path / "inbox").mkdir()
    (tmp_path / "a.jpg").write_bytes(b"x" * 10)
    (tmp_path / "b.jpg").write_bytes(b"x" * 11)
    known = known_below(str(tmp_path / "inbox/a.jpg"), str(tmp_path / "inbox/b.jpg"))
    result = compare(walk(str(tmp_path)), known)
    assert len(result.gone) == 2
    assert len(result.maybe_moved) == 2


@pytest.mark.parametrize("leftover", [None, "usb/other.jpg"])
def test_a_former_mount_keeps_its_files_whatever_is_left_in_its_place(tmp_path, leftover, make):
    make(tmp_path, "home.jpg")
    if leftover:
        make(tmp_path, leftover)
    usb = str(tmp_path / "usb")
    known = known_below(f"{usb}/a.jpg")
    result = compare(walk(str(tmp_path)), known, former_mounts=[usb])
    assert result.gone == []
    assert result.mounts == [usb]
    assert compare(walk(str(tmp_path)), known).gone == [f"{usb}/a.jpg"]
    found = [MountPoint(usb)]
    assert compare(found, known, former_mounts=[usb]).gone == [f"{usb}/a.jpg"]


@pytest.mark.parametrize(
    ("found", "before", "is_read"),
    [
        ((1, 5, "v1"), (1, 5, "v1"), False),
        ((1, 6, "v1"), (1, 5, "v1"), False),  # written again as it was
        ((1, 5, "v2"), (1, 5, "v1"), True),
        ((2, 5, "v1"), (1, 5, "v1"), True),
        ((-1, -1, "v1"), (1, 5, "v1"), False),  # a server that tells no size
        ((1, 5, "v1"), (1, 5, None), True),
        ((1, 5, None), (1, 5, "v1"), False),
        ((1, 6, None), (1, 5, "v1"), True),
        ((1, -1, None), (1, -1, None), True),
    ],
)
def test_an_object_changes_with_its_etag_or_size(found, before, is_read):
    path = "s3://bucket/a.jpg"
    entry = FoundFile(path, found[0], found[1], MediaKind.IMAGE, etag=found[2])
    known = KnownFile(path, FileState.INDEXED, *before[:2], "hash", True, etag=before[2])
    comparison = compare([entry], [known])
    assert bool(comparison.to_read) is is_read
    assert comparison.gone == []


@given(st.none() | st.text(), st.none() | st.just("0" * 32))
def test_what_is_known_of_a_file_is_packed_and_unpacked(etag, content_hash):
    etag = (etag and etag.replace("\0", "")) or None
    known = KnownFile("/a", FileState.INDEXED, 1, 2, content_hash, True, 3, 2, etag)
    assert _unpack("/a", _pack(known)) == known

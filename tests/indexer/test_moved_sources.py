import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexer.moved_sources import MoveOptions, PossibleMove, advice_on_missing, follow_moves
from retrieval.errors import NotFoundError, UsageError
from retrieval.library import Library, create_library

pytestmark = pytest.mark.slow

LONG_AGO_NS = 1_600_000_000 * 10**9


def write(root: Path, contents: dict[str, str]) -> Path:
    for name, content in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        os.utime(path, ns=(LONG_AGO_NS, LONG_AGO_NS))
    return root


def items(library: Library) -> dict[int, str]:
    """Return the paths of all items that can be found, by their ids."""
    with library.catalog.snapshot() as snapshot:
        return {item.id: item.path for item in snapshot.items(library.space().id, limit=1000)}


def sources(library: Library) -> list[str]:
    with library.catalog.snapshot() as snapshot:
        return snapshot.sources()


def follow(library: Library, *paths: Path, **options):
    return follow_moves(library, paths, None, MoveOptions(**options))


@pytest.fixture
def library(tmp_path, tiny_encoder) -> Library:
    return create_library(tmp_path / "library", tiny_encoder.space)


@pytest.fixture
def add(library, tmp_path, record_source):
    """Write files, which are named after their content, to a folder and record it as a source."""

    def add_source(name: str, *files: str, **options) -> Path:
        folder = write(tmp_path / name, {f"{file}.jpg": f"content of {file}" for file in files})
        record_source(library, folder, **options)
        return folder

    return add_source


@pytest.mark.parametrize("trusted", [True, False])
def test_a_renamed_folder_takes_the_place_of_its_source(library, add, tmp_path, trusted):
    old = add("pictures", "a", "x/b", trusted=trusted)
    with library.catalog.transaction() as transaction:
        transaction.add_sources({str(old): {"hidden": True}})
    before = items(library)
    new = old.rename(tmp_path / "photos")
    moves = follow(library, new)
    assert moves.files == 2
    assert moves.notes == (f"{old} was moved to {new}: 2 of its 2 files are there.",)
    assert items(library) == {i: path.replace(str(old), str(new)) for i, path in before.items()}
    with library.catalog.snapshot() as snapshot:
        assert snapshot.source_options() == {str(new): {"hidden": True}}


def test_a_copy_takes_no_place(library, add, tmp_path):
    old = add("pictures", "a", "b")
    copy = Path(shutil.copytree(old, tmp_path / "copy"))
    assert follow(library, copy).notes == ()
    assert sources(library) == [str(old)]


def test_other_photos_of_the_same_names_and_sizes_take_no_place(library, add, tmp_path):
    old = add("pictures", "a", "b", "c")
    shutil.rmtree(old)
    other = write(tmp_path / "other", {f"{name}.jpg": f"CONTENT OF {name}" for name in "abc"})
    for file in other.iterdir():
        os.utime(file)
    assert follow(library, other).files == 0
    assert sources(library) == [str(old)]


def test_a_known_copy_takes_no_place_while_a_drive_is_away(library, add, tmp_path):
    drive = add("drive", "a", "b")
    copy = add("copy", "a", "b")
    drive.rename(tmp_path / "elsewhere")
    before = items(library)
    moves = follow(library)
    assert moves.files == 0
    assert "they were known there before, so nothing was changed" in moves.notes[0]
    assert f"mmsearch index {copy} --moved-from {drive}" in moves.notes[0]
    assert (items(library), sources(library)) == (before, sorted(map(str, [copy, drive])))
    follow(library, copy, moved_from=[drive])
    assert sources(library) == [str(copy)]
    assert sorted(items(library).values()) == [str(copy / "a.jpg"), str(copy / "b.jpg")]


def test_it_is_found_below_another_source_and_above_what_is_indexed(library, add, tmp_path):
    old = add("pictures", "x/a", "y/b")
    archive = add("archive", "z")
    new = archive / "2020" / "pictures"
    new.parent.mkdir()
    old.rename(new)
    follow(library)
    assert sources(library) == sorted([str(archive), str(new)])
    drive = new.rename(tmp_path / "drive")
    moves = follow(library, drive / "x")
    assert moves.files == 0
    assert "that is more than is indexed now, so nothing was changed" in moves.notes[0]
    follow(library, drive / "x", moved_from=[new])
    assert sources(library) == sorted([str(archive), str(drive)])


def test_two_sources_that_moved_together_are_told_apart(library, add, tmp_path):
    olds = [add("disk/2019", "a", "b"), add("disk/2020", "a", "c")]
    (tmp_path / "disk").rename(tmp_path / "mnt")
    assert follow(library, tmp_path / "mnt").files == 4
    assert sources(library) == [str(tmp_path / "mnt" / old.name) for old in olds]


def test_nested_sources_move_with_the_outer_one(library, add, tmp_path):
    outer = add("pictures", "a", "x/b", "x/c")
    with library.catalog.transaction() as transaction:
        transaction.add_sources({str(outer / "x"): {"hidden": True}})
    new = outer.rename(tmp_path / "photos")
    follow(library, new)
    assert sources(library) == [str(new), str(new / "x")]


def test_part_of_a_source_is_a_question(library, add, tmp_path):
    old = add("pictures", "a", "b", "c", "d", "e")
    new = tmp_path / "photos"
    new.mkdir()
    for name in "ab":
        (old / f"{name}.jpg").rename(new / f"{name}.jpg")
    shutil.rmtree(old)
    [note] = follow(library, new).notes
    assert "2 of its 5 files are at" in note
    assert f"--moved-from {old}" in note
    assert f"mmsearch remove {old}" in note
    assert sources(library) == [str(old)]
    asked: list[PossibleMove] = []
    assert follow(library, new, ask=lambda move: bool(asked.append(move))).files == 0
    assert [(move.old, move.new) for move in asked] == [(str(old), str(new))]
    assert follow(library, new, not_moved=True, ask=pytest.fail).notes == ()
    assert follow(library, new, ask=lambda _: True).files == 5
    assert sources(library) == [str(new)]


def test_two_sources_that_fit_are_a_question(library, add, tmp_path):
    first, second = add("first", "a", "b"), add("second", "a", "b")
    new = Path(shutil.copytree(first, tmp_path / "new"))
    for old in (first, second):
        shutil.rmtree(old)
    moves = follow(library, new)
    assert moves.files == 0
    assert all("another missing source fits as well, so" in note for note in moves.notes)
    assert len(moves.notes) == 2
    follow(library, new, moved_from=[second])
    assert sources(library) == sorted([str(first), str(new)])


def test_an_emptied_folder_stays_a_source(library, add, tmp_path):
    inbox, archive = add("inbox", "a", "b"), add("archive", "c")
    for file in inbox.iterdir():
        file.rename(archive / file.name)
    follow(library)
    assert sources(library) == [str(archive), str(inbox)]
    assert all(Path(path).exists() for path in items(library).values())


def test_a_source_that_is_a_file_moves_to_another_folder(library, tmp_path, add):
    old = add("one", "a") / "a.jpg"
    with library.catalog.transaction() as transaction:
        transaction.remove_sources_below(str(old.parent))
        transaction.add_sources({str(old): None})
    new = tmp_path / "two" / "a.jpg"
    new.parent.mkdir()
    old.rename(new)
    follow(library, new)
    assert sources(library) == [str(new)]
    assert list(items(library).values()) == [str(new)]


def test_options_that_cannot_be_meant_are_refused(library, add, tmp_path):
    old = add("pictures", "a")
    new = Path(shutil.copytree(old, tmp_path / "new"))
    with pytest.raises(UsageError, match="still there"):
        follow(library, new, moved_from=[old])
    with pytest.raises(UsageError, match="contradict"):
        follow(library, new, moved_from=[old], not_moved=True)
    with pytest.raises(NotFoundError, match="knows nothing at"):
        follow(library, new, moved_from=[tmp_path / "nowhere"])
    shutil.rmtree(old)
    shutil.rmtree(new)
    for name in ("one", "two"):
        write(tmp_path / name, {"z.jpg": "z"})
    with pytest.raises(UsageError, match="None of the files"):
        follow(library, tmp_path / "one", tmp_path / "two", moved_from=[old])
    follow(library, tmp_path / "one", moved_from=[old])
    assert sources(library) == [str(tmp_path / "one")]


def test_a_missing_source_is_told_how_to_help():
    advice = advice_on_missing("/my photos")
    assert "`mmsearch relocate '/my photos' NEW`" in advice
    assert "`mmsearch remove '/my photos'`" in advice


names = st.sampled_from(["a.jpg", "b.jpg", "x/a.jpg", "x/y/c.jpg", "z/b.jpg", "z/d.jpg"])
trees = st.dictionaries(names, st.integers(0, 3), min_size=1)
FATES = ("moved", "touched", "changed", "gone", "copied")


@pytest.mark.slow
@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(
    tree=trees,
    added=trees,
    fates=st.lists(st.sampled_from(FATES), min_size=6, max_size=6),
    keep_old=st.booleans(),
    depth=st.sampled_from(["", "deep", "deep/er"]),
)
def test_random_trees_move_as_a_model_says(
    tiny_encoder, record_source, tree, added, fates, keep_old, depth
):
    """No item is lost or doubled: at least half of the files there is a move, less is none."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        library = create_library(root / "library", tiny_encoder.space)
        old = write(root / "old", {name: f"{n}{name}" for name, n in tree.items()})
        record_source(library, old)
        before = items(library)
        new = root / "new" / depth
        fate_of = dict(zip(sorted(tree), fates, strict=False))
        there = {n: f for n, f in fate_of.items() if f != "gone"}
        write(new, {f"more/{name}": f"other {n}" for name, n in added.items()})
        for name, fate in there.items():
            changed = "changed!" * (fate == "changed")
            write(new, {name: f"{changed}{tree[name]}{name}"})
            if fate == "touched":
                os.utime(new / name)
        if not keep_old:
            shutil.rmtree(old)
        moves = follow(library, root / "new")
        same = sum(fate != "changed" for fate in there.values())
        is_move = not keep_old and 2 * same >= len(tree)
        if is_move:
            assert sources(library) == [str(new)]
            assert items(library) == {
                i: path.replace(str(old), str(new)) for i, path in before.items()
            }
            assert moves.files == len(tree)
        else:
            assert (sources(library), items(library)) == ([str(old)], before)
            assert moves.files == 0
        assert len(moves.notes) == (same > 0 and not keep_old)
        library.close()


PROGRAM = """
import os, signal, sys
from indexer.moved_sources import MoveOptions, follow_moves
from retrieval.catalog import Transaction
from retrieval.library import open_library

relocate = Transaction.relocate

def relocate_and_die(*arguments):
    relocate(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)

Transaction.relocate = relocate_and_die
follow_moves(open_library(sys.argv[1]), sys.argv[2:], None, MoveOptions())
"""


@pytest.mark.slow
def test_a_process_killed_in_a_relocation_changes_nothing(library, add, tmp_path):
    old = add("pictures", "a", "b")
    before = items(library)
    new = old.rename(tmp_path / "photos")
    killed = subprocess.run([sys.executable, "-c", PROGRAM, library.path, new], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert (sources(library), items(library)) == ([str(old)], before)
    follow(library, new)
    assert sources(library) == [str(new)]
    assert items(library).keys() == before.keys()

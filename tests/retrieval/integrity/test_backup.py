"""A backup is whole, whatever happens meanwhile, and a library restored of it equals the one."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

from indexer.pipeline import index_sources
from retrieval.errors import DamagedLibraryError, NotFoundError, UsageError
from retrieval.integrity import backup as backup_module
from retrieval.integrity.backup import back_up, read_backup, restore
from retrieval.integrity.check import check_library
from retrieval.library import open_library
from retrieval.media import Modality

DIMENSION = 32


def contents(library):
    space = library.space()
    with library.catalog.snapshot() as snapshot:
        count = snapshot.row_count(space.id, Modality.IMAGE)
        items = snapshot.items_at(space.id, Modality.IMAGE, range(count))
    rows = np.array(library.embeddings(space, Modality.IMAGE).rows(count))
    return {item.path: (item.id, rows[row].tobytes()) for row, at in items.items() for item in at}


def unit(count, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(count, DIMENSION)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def files_of(directory):
    return {
        file.relative_to(directory).as_posix(): file.read_bytes()
        for file in directory.rglob("*")
        if file.is_file() and file.name != "backup.lock"
    }


def restored(destination, to):
    assert restore(destination, to).damaged == 0
    library = open_library(to)
    assert check_library(library).is_whole
    return library


def test_a_restored_library_equals_the_one(indexed_library, tmp_path):
    (indexed_library.space_directory(indexed_library.space()) / "relevance.json").write_text("{}")
    done = back_up(indexed_library, tmp_path / "backup")
    assert (done.rows, done.copied_rows, done.damaged) == (6, 6, 0)
    library = restored(tmp_path / "backup", tmp_path / "new")
    assert contents(library) == contents(indexed_library)
    assert library.manifest == indexed_library.manifest
    assert (library.space_directory(library.space()) / "relevance.json").read_text() == "{}"


def test_the_next_backup_copies_only_what_is_new(indexed_library, tmp_path, write_files):
    back_up(indexed_library, tmp_path / "backup")
    write_files(indexed_library, {"/a.jpg": unit(1), "/b.mp4": unit(3, seed=1)})
    done = back_up(indexed_library, tmp_path / "backup")
    assert (done.rows, done.copied_rows) == (10, 4)
    assert back_up(indexed_library, tmp_path / "backup").copied_rows == 0
    assert contents(restored(tmp_path / "backup", tmp_path / "new")) == contents(indexed_library)
    assert len(files_of(tmp_path / "backup")) == 4


def test_rows_that_were_replaced_are_copied_again_beside_the_former(indexed_library, tmp_path):
    """As after a repair, or after a space was removed and added again."""
    back_up(indexed_library, tmp_path / "backup")
    indexed_library.embeddings(indexed_library.space(), Modality.IMAGE).write(unit(6), 0)
    assert back_up(indexed_library, tmp_path / "backup").copied_rows == 6
    assert contents(restored(tmp_path / "backup", tmp_path / "new")) == contents(indexed_library)


def test_damage_in_the_library_does_not_reach_rows_that_were_backed_up(indexed_library, tmp_path):
    before = contents(indexed_library)
    back_up(indexed_library, tmp_path / "backup")
    file = indexed_library.embeddings(indexed_library.space(), Modality.IMAGE)
    file.path.write_bytes(bytes(file.path.stat().st_size))
    back_up(indexed_library, tmp_path / "backup")
    assert contents(restored(tmp_path / "backup", tmp_path / "new")) == before
    assert back_up(indexed_library, tmp_path / "another").damaged == 6


def test_rot_of_the_backup_is_mended_by_the_next_and_told_by_restoring(indexed_library, tmp_path):
    back_up(indexed_library, tmp_path / "backup")
    [file] = (tmp_path / "backup").rglob("*.f16")
    whole = file.read_bytes()
    file.write_bytes(bytes(64) + whole[64:])
    assert restore(tmp_path / "backup", tmp_path / "new").damaged == 1
    back_up(indexed_library, tmp_path / "backup")
    assert file.read_bytes() == whole
    file.write_bytes(whole[:-1])
    with pytest.raises(DamagedLibraryError, match="has 5 vectors, not the 6"):
        restore(tmp_path / "backup", tmp_path / "another")
    assert not (tmp_path / "another").exists()


@pytest.mark.parametrize("name", ["backup.json", "catalog-1.sqlite"])
def test_nothing_is_restored_of_a_damaged_backup(indexed_library, tmp_path, name):
    back_up(indexed_library, tmp_path / "backup")
    file = tmp_path / "backup" / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(DamagedLibraryError):
        restore(tmp_path / "backup", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_paths_that_leave_the_backup_are_refused(indexed_library, tmp_path):
    back_up(indexed_library, tmp_path / "backup")
    file = tmp_path / "backup" / "backup.json"
    told = json.loads(file.read_text())
    del told["checksum"]
    told["texts"]["../evil"] = "x"
    file.write_text(json.dumps(told | {"checksum": backup_module._digest(told)}))
    with pytest.raises(DamagedLibraryError, match="not below the backup"):
        restore(tmp_path / "backup", tmp_path / "new")


def test_other_directories_are_refused(indexed_library, tmp_path, picture_folder, tiny_encoder):
    with pytest.raises(UsageError, match="not empty"):
        back_up(indexed_library, picture_folder)
    with pytest.raises(UsageError, match="in the library"):
        back_up(indexed_library, indexed_library.path / "backup")
    back_up(indexed_library, tmp_path / "backup")
    other = shutil.copytree(indexed_library.path, tmp_path / "other")
    with pytest.raises(UsageError, match="is a backup of"):
        back_up(open_library(other), tmp_path / "backup")
    with pytest.raises(UsageError, match="not empty"):
        restore(tmp_path / "backup", indexed_library.path)
    with pytest.raises(NotFoundError, match="not a backup"):
        restore(picture_folder, tmp_path / "new")


def test_what_a_killed_first_backup_leaves_is_no_other_program_s(indexed_library, tmp_path):
    """A kill while the manifest is written leaves all of it under a name of its own."""
    place = tmp_path / "backup"
    back_up(indexed_library, place)
    (place / "backup.json").rename(place / "backup.json.0123abcd.new")
    summary = back_up(indexed_library, place)
    assert summary.rows == summary.copied_rows > 0
    assert not list(place.glob("*.new"))


def test_a_failure_anywhere_leaves_the_former_backup(
    indexed_library, tmp_path, write_files, monkeypatch
):
    """Every call that changes the disk fails once, in turn, as if the process ended there."""
    before = contents(indexed_library)
    back_up(indexed_library, tmp_path / "backup")
    write_files(indexed_library, {"/a.jpg": unit(1)})
    after = contents(indexed_library)
    for number in range(1, 40):
        calls = iter(range(1, 1000))

        def fail(descriptor, real=os.fsync, calls=calls, number=number):
            if next(calls) == number:
                raise KeyboardInterrupt
            real(descriptor)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fail)
            try:
                back_up(indexed_library, tmp_path / "backup")
            except KeyboardInterrupt:
                is_done = False
            else:
                is_done = True
        library = restored(tmp_path / "backup", tmp_path / f"new {number}")
        assert contents(library) in (before, after)
        if is_done:
            assert contents(library) == after
            break
    assert number > 5


def test_a_space_that_is_removed_meanwhile(
    indexed_library, tmp_path, other_encoder, monkeypatch, picture_folder
):
    indexed_library.add_space(other_encoder.space)
    index_sources(indexed_library, other_encoder)
    real, calls = backup_module._copy_rows, []

    def copy(*arguments):
        if not calls:
            indexed_library.remove_space(other_encoder.space.id)
        calls.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(backup_module, "_copy_rows", copy)
    back_up(indexed_library, tmp_path / "backup")
    assert [part.space for part in read_backup(tmp_path / "backup").embeddings] == [
        indexed_library.space().id
    ]
    restored(tmp_path / "backup", tmp_path / "new")


def test_backups_while_another_thread_writes(indexed_library, tmp_path, write_files):
    stop = threading.Event()

    def write():
        number = 0
        while not stop.is_set():
            number += 1
            write_files(indexed_library, {f"/{number}.jpg": unit(1, seed=number)})

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(4):
            back_up(indexed_library, tmp_path / "backup")
            library = restored(tmp_path / "backup", tmp_path / f"new {number}")
            found = contents(library)
    finally:
        stop.set()
        writer.join()
    now = contents(indexed_library)
    assert found.items() <= now.items()
    assert len(found) > 6


PROGRAM = """
import sys
from retrieval.integrity.backup import back_up
from retrieval.library import open_library
library = open_library(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
back_up(library, sys.argv[2])
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="kills processes")
def test_kills_at_random_instants(indexed_library, tmp_path, write_files):
    """The former backup, or the new one, is whole after each."""
    generator = np.random.default_rng(0)
    write_files(indexed_library, {"/0.jpg": unit(1)})
    back_up(indexed_library, tmp_path / "backup")
    states = [contents(indexed_library)]
    for number in range(1, 7):
        vectors = unit(400, seed=number)
        write_files(indexed_library, {f"/{number}-{i}.jpg": v[None] for i, v in enumerate(vectors)})
        states.append(contents(indexed_library))
        child = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, indexed_library.path, tmp_path / "backup"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        with child:
            child.stdout.readline()
            child.stdin.write(b"\n")
            child.stdin.flush()
            threading.Event().wait(generator.uniform(0, 0.15))
            child.send_signal(signal.SIGKILL)
        library = restored(tmp_path / "backup", tmp_path / f"new {number}")
        assert contents(library) in states
    back_up(indexed_library, tmp_path / "backup")
    assert contents(restored(tmp_path / "backup", tmp_path / "last")) == states[-1]
    assert len(files_of(tmp_path / "backup")) == 4

"""Disks that are full, read-only or gone: runs end with a reason, and nothing is lost."""

import contextlib
import io
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from api.http.uploads import Received, StorageFullError, open_upload_folder
from indexer.pipeline import index_sources
from indexer.progress import Summary
from retrieval.encoders.base import Encoder
from retrieval.errors import LibraryError
from retrieval.library import create_library, open_library

pytestmark = pytest.mark.slow

DISK_KIB = 8192


@contextlib.contextmanager
def mounted(place: Path, *arguments: object) -> Iterator[Path]:
    """Mount a file system at a new directory, or skip the test where that is not allowed."""
    place.mkdir(exist_ok=True)
    try:
        subprocess.run(["mount", *map(str, arguments), place], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting needs privileges that are not here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MiB, twice as much as the catalog lets its log grow."""
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", f"size={DISK_KIB}k", "tmpfs") as place:
        yield place


@pytest.fixture
def photos(
    tmp_path: Path, add_photos: Callable[[Path, int], set[str]], settle: Callable[[Path], None]
) -> Path:
    """A folder of 200 photos, 40 of them in each of its folders."""
    add_photos(tmp_path / "photos", 200)
    settle(tmp_path / "photos")
    return tmp_path / "photos"


def fill(disk: Path, spare_kib: int) -> Path:
    """Leave so much space on a disk; gives the file that takes the rest."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    os.truncate(ballast, ballast.stat().st_size - spare_kib * 1024)
    return ballast


def index(where: Path, encoder: Encoder, *folders: Path) -> Summary:
    library = create_library(where, encoder.space)
    try:
        return index_sources(library, encoder, folders, batch_size=8, workers=1)
    finally:
        library.close()


def found(where: Path) -> set[str]:
    library = open_library(where)
    try:
        return {hit.path for hit in library.search("anything", k=10_000)}
    finally:
        library.close()


def paths_in(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("photo*")}


@pytest.mark.parametrize("spare_kib", [0, 16, 40, 64, 120, 200, 300])
def test_a_full_disk_ends_the_run_and_loses_nothing(
    spare_kib: int, disk: Path, photos: Path, tiny_encoder: Encoder
) -> None:
    where = disk / "library"
    index(where, tiny_encoder, photos / "album 0")
    before = paths_in(photos / "album 0")
    ballast = fill(disk, spare_kib)

    with pytest.raises(LibraryError, match=r"[Nn]o space left"):
        index(where, tiny_encoder, photos)
    ballast.unlink()
    assert before <= found(where) < paths_in(photos)

    summary = index(where, tiny_encoder, photos)
    assert (summary.failed, summary.interrupted) == (0, False)
    assert found(where) == paths_in(photos)


def test_the_command_line_says_that_the_disk_is_full(
    disk: Path, photos: Path, tiny_checkpoint: Path, run_mmsearch: Callable[..., object]
) -> None:
    where = disk / "library"
    ballast = fill(disk, 640)
    command = ("index", photos, "--encoder", f"local-dir:{tiny_checkpoint}", "--batch-size", 8)
    stopped = run_mmsearch(where, *command)
    assert stopped.returncode == 1
    assert "No space left on the disk of" in stopped.stderr
    assert str(where) in stopped.stderr
    assert "run the same command again" in stopped.stderr
    # Searching needs no space: the disk is still full.
    committed = found(where)
    assert 0 < len(committed) < 200

    ballast.unlink()
    assert run_mmsearch(where, *command).returncode == 0
    assert found(where) == paths_in(photos)


def test_a_library_on_a_read_only_disk_is_searched_and_left_alone(
    disk: Path, photos: Path, tiny_encoder: Encoder
) -> None:
    where = disk / "library"
    index(where, tiny_encoder, photos / "album 0")
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    with pytest.raises(LibraryError, match=r"cannot be (opened or )?written"):
        index(where, tiny_encoder, photos)
    assert found(where) == paths_in(photos / "album 0")
    subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    assert found(where) == paths_in(photos / "album 0")


def test_a_library_without_permission_to_write_is_left_alone(
    tmp_path: Path, photos: Path, tiny_encoder: Encoder, run_mmsearch: Callable[..., object]
) -> None:
    where = tmp_path / "library"
    index(where, tiny_encoder, photos / "album 0")
    kept = {path: path.stat().st_mode for path in (where, *where.rglob("*"))}
    for path, mode in kept.items():
        path.chmod(mode & ~0o222)
    refused = run_mmsearch(where, "index", photos)
    searched = run_mmsearch(where, "search", "anything")
    for path, mode in kept.items():
        path.chmod(mode)
    assert refused.returncode == 1
    assert str(where) in refused.stderr
    assert "written" in refused.stderr
    assert searched.returncode == 0
    assert "photo" in searched.stdout
    assert found(where) == paths_in(photos / "album 0")


def test_a_drive_that_is_not_mounted_loses_nothing(
    tmp_path: Path, photos: Path, tiny_encoder: Encoder
) -> None:
    where, drive = tmp_path / "library", tmp_path / "drive"
    with mounted(drive, "--bind", photos):
        assert index(where, tiny_encoder, drive).added == 200
    kept = found(where)
    assert kept == {path.replace(str(photos), str(drive)) for path in paths_in(photos)}

    for summary in (index(where, tiny_encoder), index(where, tiny_encoder, drive)):
        assert (summary.removed, summary.failed) == (0, 1)
        assert found(where) == kept
    drive.rmdir()
    summary = index(where, tiny_encoder)
    assert (summary.removed, summary.failed) == (0, 1)
    assert found(where) == kept

    with mounted(drive, "--bind", photos):
        summary = index(where, tiny_encoder)
        assert (summary.unchanged, summary.embedded, summary.failed) == (200, 0, 0)
    assert found(where) == kept


def test_an_upload_to_a_full_disk_leaves_nothing_behind(
    disk: Path, tmp_path: Path, noise: Callable[..., bytes]
) -> None:
    uploads = disk / "uploads"
    folder = open_upload_folder(uploads, tmp_path / "library", 10_000_000)
    large = noise(0) + bytes(500_000)
    with contextlib.closing(folder):
        ballast = fill(disk, 300)
        with pytest.raises(StorageFullError, match="No space left"):
            folder.add(
                [Received("small.jpg", io.BytesIO(noise(1))), Received("a.jpg", io.BytesIO(large))],
                "a job",
            )
        assert list(uploads.iterdir()) == []
        ballast.unlink()
        [kept] = folder.add([Received("a.jpg", io.BytesIO(large))], "a job")
        assert kept.read_bytes() == large

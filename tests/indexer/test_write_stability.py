import os
import time

import pytest

from indexer.scan import FoundFile
from indexer.write_stability import LASTING_S, WriteStability
from retrieval.media import MediaKind


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"some")
    return path


def age(path, seconds) -> FoundFile:
    """Let a file have been written so many seconds ago (in so many, where negative)."""
    mtime_ns = time.time_ns() - int(seconds * 1e9)
    os.utime(path, ns=(mtime_ns, mtime_ns))
    return found(path)


def found(path) -> FoundFile:
    status = path.stat()
    return FoundFile(str(path), status.st_size, status.st_mtime_ns, MediaKind.IMAGE)


def test_old_file_is_read_and_not_looked_at_again(file):
    stability = WriteStability()
    assert stability.admit(age(file, 60))
    assert not stability.is_being_written(str(file))
    assert stability.look_again == {}


def test_fresh_file_is_left_alone_and_looked_at_soon(file):
    stability = WriteStability()
    assert not stability.admit(age(file, 0))
    assert stability.is_being_written(str(file))
    assert 0 < stability.look_again[str(file)] - time.monotonic() <= 0.5


def test_file_written_lately_is_read_and_looked_at_once_more(file):
    stability = WriteStability()
    assert stability.admit(age(file, 1))
    left_s = stability.look_again[str(file)] - time.monotonic()
    assert left_s == pytest.approx(LASTING_S - 1, abs=0.5)


def test_file_of_a_time_to_come_is_read_when_it_stays_the_same(file):
    stability = WriteStability()
    assert not stability.admit(age(file, -3600))
    time.sleep(0.6)
    file.write_bytes(b"some more")
    assert not stability.admit(age(file, -3600))
    time.sleep(0.6)
    assert stability.admit(found(file))


@pytest.mark.parametrize("name", ["", "missing.png"])
def test_only_files_are_waited_for(tmp_path, name):
    assert not WriteStability().is_being_written(str(tmp_path / name))


def test_file_that_is_read_again_just_as_it_is_is_no_news(file):
    stability = WriteStability()
    as_it_is = age(file, 1)
    assert stability.admit(as_it_is)
    assert stability.has_news
    stability.has_news = False
    assert stability.admit(as_it_is)
    assert not stability.has_news
    assert stability.admit(age(file, 2))
    assert stability.has_news

import os
import pwd
import stat
import tempfile
from pathlib import Path

import pytest

from retrieval import files
from retrieval.errors import DamagedLibraryError, UsageError
from retrieval.files import (
    SHARED_FOLDER,
    make_directories,
    replacing,
    require_plain_name,
    sealed,
    set_permissions,
    unsealed,
    write_atomically,
)


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_is_created_and_replaced(tmp_path, durable):
    file = tmp_path / "file.toml"
    for content in (b"one", b"another"):
        write_atomically(file, content, durable=durable)
        assert file.read_bytes() == content
    assert list(tmp_path.iterdir()) == [file]


def test_nothing_changes_where_writing_fails(tmp_path):
    file = tmp_path / "file"
    write_atomically(file, b"whole")

    def fail() -> None:
        with replacing(file) as unfinished:
            unfinished.write_bytes(b"ha")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert file.read_bytes() == b"whole"
    assert list(tmp_path.iterdir()) == [file]


def test_a_durable_file_is_flushed_before_and_its_folder_after_it_has_its_name(
    tmp_path, monkeypatch
):
    file, flushed = tmp_path / "file", []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        flushed.append(file.exists())
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    write_atomically(file, b"x")
    assert flushed == []
    file.unlink()
    write_atomically(file, b"x", durable=True)
    assert flushed == [False, True]


@pytest.fixture(params=[0o000, 0o022, 0o077])
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
@pytest.mark.parametrize("name", ["../x", "/x", "a/b", "a\\b", ".", "..", "", "a\0", "x" * 300])
def test_a_path_is_no_plain_name(name):
    with pytest.raises(DamagedLibraryError):
        require_plain_name(name)


@pytest.mark.parametrize("name", ["0f3a", "fusion-12", "xxh3_128-3.x"])
def test_plain_names_are_kept(name):
    assert require_plain_name(name) == name


def test_every_new_directory_is_flushed_in_the_one_above_it(tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr("retrieval.files.flush_names", flushed.append)
    make_directories(tmp_path / "a" / "b")
    assert flushed == [tmp_path, tmp_path / "a"]
    make_directories(tmp_path / "a" / "b")
    assert len(flushed) == 2


@pytest.mark.parametrize("content", [b"", b"x", bytes(100)])
def test_a_seal_tells_every_damage(content):
    stored = sealed(content)
    assert unsealed(stored) == content
    assert unsealed(content) is None
    for at in range(len(stored)):
        flipped = bytearray(stored)
        flipped[at] ^= 1
        assert unsealed(bytes(flipped)) is None
        assert unsealed(stored[:at]) is None


@pytest.fixture
def homeless(monkeypatch, tmp_path):
    """A user id without an entry of its own, and without HOME."""
    for name in ("HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "MMSEARCH_LIBRARY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", missing_user)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def missing_user(uid):
    raise KeyError(uid)


@pytest.mark.usefixtures("homeless")
def test_a_user_without_a_home_has_caches_and_no_library(tmp_path):
    assert not files.has_home()
    cache = files.user_cache_directory()
    assert cache.is_relative_to(tmp_path)
    assert files.user_cache_directory() == cache
    with pytest.raises(UsageError, match="--library"):
        files.user_data_directory()
    with pytest.raises(ValueError, match="whole path"):
        files.expand_home(Path("~/library"))


@pytest.mark.usefixtures("homeless")
def test_a_directory_that_others_may_write_is_never_a_home(tmp_path):
    first = files.temporary_home()
    assert first.stat().st_mode & 0o777 == 0o700
    first.chmod(0o777)
    assert files.temporary_home() != first
    first.rmdir()
    first.symlink_to(tmp_path)
    assert files.temporary_home() != first


@pytest.mark.parametrize("folder_mode", [0o700, 0o750, 0o755])
def test_a_file_can_be_used_by_nobody_who_may_not_use_its_folder(tmp_path, umask, folder_mode):
    folder = tmp_path / "folder"
    folder.mkdir()
    folder.chmod(folder_mode)
    write_atomically(folder / "file", b"content")
    assert mode(folder / "file") == 0o666 & ~umask & folder_mode
    make_directories(folder / "a" / "b")
    for made in (folder / "a", folder / "a" / "b"):
        assert mode(made) == 0o777 & ~umask & folder_mode
    make_directories(folder / "a" / "b")


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_what_is_made_in_a_shared_folder_is_shared_whatever_the_umask(tmp_path, umask):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "old").write_bytes(b"")
    set_permissions(folder, SHARED_FOLDER)
    make_directories(folder / "new")
    write_atomically(folder / "new" / "file", b"content")
    assert mode(folder) == mode(folder / "new") == SHARED_FOLDER
    assert mode(folder / "old") == mode(folder / "new" / "file") == 0o660

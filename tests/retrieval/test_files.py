import os
import stat

import pytest

from retrieval.files import (
    SHARED_FOLDER,
    make_folder,
    replacing,
    set_permissions,
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
@pytest.mark.parametrize("folder_mode", [0o700, 0o750, 0o755])
def test_a_file_can_be_used_by_nobody_who_may_not_use_its_folder(tmp_path, umask, folder_mode):
    folder = tmp_path / "folder"
    folder.mkdir()
    folder.chmod(folder_mode)
    write_atomically(folder / "file", b"content")
    assert mode(folder / "file") == 0o666 & ~umask & folder_mode
    make_folder(folder / "a" / "b")
    for made in (folder / "a", folder / "a" / "b"):
        assert mode(made) == 0o777 & ~umask & folder_mode
    make_folder(folder / "a" / "b")


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_what_is_made_in_a_shared_folder_is_shared_whatever_the_umask(tmp_path, umask):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "old").write_bytes(b"")
    set_permissions(folder, SHARED_FOLDER)
    make_folder(folder / "new")
    write_atomically(folder / "new" / "file", b"content")
    assert mode(folder) == mode(folder / "new") == SHARED_FOLDER
    assert mode(folder / "old") == mode(folder / "new" / "file") == 0o660

import io
import os

import pytest
import xxhash

from retrieval.files import content_hash, replacing, write_atomically


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


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_others_may_read_it_as_far_as_the_umask_says(tmp_path):
    before = os.umask(0o022)
    try:
        write_atomically(tmp_path / "file", b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("size", [0, 1, 3_000_000])
def test_the_hash_is_that_of_the_whole_content(tmp_path, size):
    content = os.urandom(size)
    (tmp_path / "file").write_bytes(content)
    with (tmp_path / "file").open("rb") as file:
        assert content_hash(file) == xxhash.xxh3_128_hexdigest(content)
    assert content_hash(io.BytesIO(content)) == xxhash.xxh3_128_hexdigest(content)

"""One way to open what a path names, a file or an object."""

import os

import pytest

from retrieval.objects import opening
from retrieval.objects.opening import is_there, open_parts, open_path, status_of
from retrieval.objects.trust import trust_uri
from tests.object_servers import clean_sources, shard, web  # noqa: F401 - fixtures


def test_files_are_opened_as_ever(tmp_path):
    (tmp_path / "a.tar.txt").write_bytes(b"abc")
    path = str(tmp_path / "a.tar.txt")
    with open_path(path) as file:
        assert file.read() == b"abc"
    assert status_of(path)[:1] == (3,)
    with pytest.raises(OSError, match="not a regular file"):
        status_of(str(tmp_path))
    with pytest.raises(FileNotFoundError):
        open_path(str(tmp_path / "none"))


def test_members_of_a_shard_are_opened_by_their_path(tmp_path, clean_sources):  # noqa: F811
    (tmp_path / "0.tar").write_bytes(shard({"a/b.jpg": b"abc"}))
    path = str(tmp_path / "0.tar" / "a" / "b.jpg")
    with open_path(path) as file, open_parts(path) as other:
        assert file.read() == other.read() == b"abc"
    assert is_there(path)
    (tmp_path / "0.tar").unlink()
    assert not is_there(path)
    with pytest.raises(FileNotFoundError):
        status_of(path)


def test_a_folder_may_be_named_like_a_shard(tmp_path):
    (tmp_path / "0.tar").mkdir()
    (tmp_path / "0.tar" / "a.jpg").write_bytes(b"abc")
    with open_path(str(tmp_path / "0.tar" / "a.jpg")) as file:
        assert file.read() == b"abc"


@pytest.mark.slow
def test_an_object_is_fetched_once_while_it_stays(web):  # noqa: F811
    web.files["/a.pdf"] = b"abc"
    trust_uri(web.address)
    opening._fetched.cache_clear()
    for _ in range(3):
        with open_path(web.address + "/a.pdf") as file:
            assert file.read() == b"abc"
    assert web.read() == ["/a.pdf"]
    web.files["/a.pdf"] = b"abd"
    with open_path(web.address + "/a.pdf") as file:
        assert file.read() == b"abd"


@pytest.mark.slow
def test_what_tells_nothing_of_its_changes_is_read_each_time(web):  # noqa: F811
    web.files["/a.pdf"] = b"abc"
    web.has_etags = web.has_times = False
    trust_uri(web.address)
    for content in (b"abc", b"abd"):
        web.files["/a.pdf"] = content
        with open_path(web.address + "/a.pdf") as file:
            assert file.read() == content


@pytest.mark.slow
def test_a_folder_of_a_server_may_be_named_like_a_shard(web):  # noqa: F811
    web.files["/0.tar/a.jpg"] = b"abc"
    trust_uri(web.address)
    with open_path(web.address + "/0.tar/a.jpg") as file:
        assert file.read() == b"abc"


def test_whether_a_uri_is_there_its_server_is_not_asked():
    assert is_there("https://127.0.0.1:9/a.jpg")
    assert not os.environ.get("MMSEARCH_TRUSTED_SOURCES")

"""Object stores and web servers, really asked: what is there, what it holds, what goes wrong."""

import asyncio
import os
import subprocess
import sys
from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from retrieval.errors import UnreadableFileError, UsageError
from retrieval.objects import fetched, remote
from retrieval.objects.remote import TIMEOUT_VARIABLE, remote_of, source_of, timeout_s
from retrieval.objects.trust import SOURCES, trust_uri
from tests.object_servers import (  # noqa: F401 - fixtures
    clean_sources,
    other_web,
    s3,
    s3_process,
    web,
)

pytestmark = pytest.mark.slow


def listed(uri):
    return {one.path: one for one in source_of(uri).list(uri)}


def test_a_bucket_is_listed_with_what_its_objects_are(s3):  # noqa: F811
    s3.put("bucket", {"p/a.jpg": b"abc", "p/sub dir/ü.txt": b"x", "p/": b"", "p//e": b""})
    trust_uri("s3://bucket")
    found = listed("s3://bucket/p")
    assert set(found) == {"s3://bucket/p/a.jpg", "s3://bucket/p/sub dir"}
    status = found["s3://bucket/p/a.jpg"].status
    assert status.st_size == 3
    assert status.st_mtime_ns > 10**18
    assert status == source_of("s3://bucket").stat("s3://bucket/p/a.jpg")
    assert found["s3://bucket/p/sub dir"].is_folder
    assert set(listed("s3://bucket/p/sub dir")) == {"s3://bucket/p/sub dir/ü.txt"}
    s3.put("bucket", {"p/a.jpg": b"abd"})
    assert source_of("s3://bucket").stat("s3://bucket/p/a.jpg").etag != status.etag


def test_objects_are_read_whole_and_in_parts(s3, monkeypatch):  # noqa: F811
    content = os.urandom(300_000)
    s3.put("bucket", {"film.mp4": content})
    trust_uri("s3://bucket")
    store, path = remote_of("s3://bucket"), "s3://bucket/film.mp4"
    assert store.fetch(path, len(content)).open().read() == content
    monkeypatch.setattr(remote, "IN_MEMORY_BYTES", 1000)
    with store.fetch(path, len(content)).open() as file:
        assert file.read() == content
    with store.open(path) as file:
        file.seek(-5, os.SEEK_END)
        assert file.read() == content[-5:]
    assert store.read_range(path, 100, 50) == content[100:150]
    assert store.read_range(path, 100, 0) == b""


def test_what_is_not_there_is_told_from_what_is_out_of_reach(s3, monkeypatch):  # noqa: F811
    s3.put("bucket", {"p/a.jpg": b"abc"})
    trust_uri("s3://bucket")
    trust_uri("s3://no-such-bucket")
    for uri in ("s3://bucket/p/b.jpg", "s3://no-such-bucket/x"):
        with pytest.raises(FileNotFoundError):
            source_of(uri).stat(uri)
    with pytest.raises(IsADirectoryError):
        source_of("s3://bucket/p").stat("s3://bucket/p")
    with pytest.raises(FileNotFoundError):
        list(source_of("s3://bucket/none").list("s3://bucket/none"))
    remote._opened.cache_clear()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv(TIMEOUT_VARIABLE, "2")
    with pytest.raises(OSError, match=r"its server bucket cannot be used|no answer") as refused:
        source_of("s3://bucket").stat("s3://bucket/p/a.jpg")
    assert not isinstance(refused.value, FileNotFoundError)
    assert "secret-of-the-test" not in str(refused.value)


def test_without_credentials_it_says_so(s3, monkeypatch, tmp_path):  # noqa: F811
    s3.put("bucket", {"a.jpg": b"abc"})
    trust_uri("s3://bucket")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(OSError, match=r"no credentials|denied|cannot be used"):
        source_of("s3://bucket").stat("s3://bucket/a.jpg")


def test_nothing_is_asked_of_a_server_that_nobody_named(s3, web):  # noqa: F811
    web.files["/a.jpg"] = b"abc"
    for uri in ("s3://bucket/a.jpg", web.address + "/a.jpg"):
        with pytest.raises(PermissionError, match="mmsearch trust"):
            source_of(uri)
    assert s3.asked() == []
    assert web.asked == []


def test_a_web_folder_is_its_index_page(web):  # noqa: F811
    web.files |= {"/p/a b.jpg": b"abc", "/p/sub/c.jpg": b"x", "/q/d.jpg": b""}
    root = web.address + "/p"
    trust_uri(root)
    assert set(listed(root)) == {f"{root}/a%20b.jpg", f"{root}/sub"}
    assert listed(root)[f"{root}/sub"].is_folder
    status = source_of(root).stat(f"{root}/a%20b.jpg")
    assert (status.st_size, status.st_mtime_ns) == (3, 10**18)
    assert status.etag.startswith('"')
    assert source_of(root).open(f"{root}/a%20b.jpg").read() == b"abc"
    web.has_etags = web.has_times = False
    assert source_of(root).stat(f"{root}/a%20b.jpg") == (3, -1, None)


def test_parts_of_a_file_need_a_server_that_gives_them(web):  # noqa: F811
    web.files["/a.bin"] = bytes(range(100))
    trust_uri(web.address)
    folder = remote_of(web.address)
    assert folder.read_range(web.address + "/a.bin", 10, 5) == bytes(range(10, 15))
    web.has_ranges = False
    assert folder.read_range(web.address + "/a.bin", 10, 5) is None


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        (404, FileNotFoundError, "not there"),
        (403, PermissionError, "denied"),
        (500, OSError, "HTTP 500"),
        (503, OSError, "HTTP 503"),
    ],
)
def test_what_a_web_server_answers_is_told(web, status, error, words):  # noqa: F811
    web.files["/p/a.jpg"] = b"abc"
    web.statuses |= {"/p/a.jpg": status, "/p/": status}
    trust_uri(web.address)
    folder = source_of(web.address)
    for ask in (folder.stat, folder.open, lambda path: list(folder.list(path.rpartition("/")[0]))):
        with pytest.raises(error, match=words) as refused:
            ask(web.address + "/p/a.jpg")
        assert isinstance(refused.value, FileNotFoundError) is (status == 404)


@pytest.mark.parametrize("header", ["Location", "URI"])
def test_a_redirection_to_another_server_is_not_followed(web, other_web, header):  # noqa: F811
    web.redirect_header = header
    other_web.files["/secret"] = b"of the network inside"
    web.redirects |= {"/a.jpg": other_web.address + "/secret", "/b.jpg": "/c.jpg"}
    web.files["/c.jpg"] = b"abc"
    trust_uri(web.address)
    for ask in (source_of(web.address).stat, source_of(web.address).open):
        with pytest.raises(PermissionError, match="another server"):
            ask(web.address + "/a.jpg")
    assert other_web.asked == []
    assert source_of(web.address).open(web.address + "/b.jpg").read() == b"abc"


@pytest.mark.parametrize(
    ("asked", "target", "is_followed"),
    [
        ("http://host/a", "https://host/a", True),
        ("http://host:8080/a", "https://host/a", True),
        ("http://host/a", "//HOST/b", True),
        ("http://host/a", "https://host:6443/a", False),
        ("https://host/a", "http://host/a", False),
        ("http://host/a", "http://host:8080/a", False),
        ("http://host/a", "//other/a", False),
        ("http://host/a", "https://host@other/a", False),
    ],
)
def test_only_the_same_server_is_followed_or_its_encrypted_one(asked, target, is_followed):
    yarl = pytest.importorskip("yarl", reason="the extra `cluster` is not installed")
    response = SimpleNamespace(headers={"Location": target})
    followed = remote._require_same_host(
        None, None, SimpleNamespace(url=yarl.URL(asked), response=response)
    )
    with nullcontext() if is_followed else pytest.raises(remote._AnswerError):
        asyncio.run(followed)


def test_a_server_that_gives_no_answer_is_given_up(web, monkeypatch):  # noqa: F811
    web.files["/p/a.jpg"] = b"abc"
    web.stalls |= {"/p/", "/p/a.jpg"}
    monkeypatch.setenv(TIMEOUT_VARIABLE, "0.5")
    trust_uri(web.address)
    with pytest.raises(TimeoutError, match="no answer in time"):
        list(source_of(web.address).list(web.address + "/p"))
    with pytest.raises(TimeoutError, match="no answer in time"):
        source_of(web.address).stat(web.address + "/p/a.jpg")


def test_what_is_no_index_page_is_no_folder(web):  # noqa: F811
    web.files["/p/"] = b"not HTML"
    trust_uri(web.address)
    with pytest.raises(NotADirectoryError, match="no index page"):
        list(source_of(web.address).list(web.address + "/p"))


def test_an_object_that_is_too_large_is_refused(web, monkeypatch):  # noqa: F811
    web.files["/a.jpg"] = bytes(1000)
    monkeypatch.setattr(fetched, "MOST_BYTES", 500)
    trust_uri(web.address)
    with pytest.raises(UnreadableFileError, match="larger than"):
        source_of(web.address).open(web.address + "/a.jpg")


@pytest.mark.parametrize("given", ["x", "0", "-1", "inf", "nan"])
def test_a_time_limit_is_a_number_of_seconds(monkeypatch, given):
    monkeypatch.setenv(TIMEOUT_VARIABLE, given)
    with pytest.raises(UsageError, match=TIMEOUT_VARIABLE):
        timeout_s()


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        (  # gcsfs
            {"size": 3, "etag": "CAE=", "updated": "2001-09-09T01:46:40.123Z", "type": "file"},
            (3, 10**18, "CAE="),
        ),
        ({"size": 3, "name": "x"}, (3, -1, None)),
        ({"size": None, "ETag": '"abc"', "LastModified": "?"}, (0, -1, "abc")),
    ],
)
def test_stores_tell_their_status_in_words_of_their_own(info, expected):
    assert remote._status(info) == expected


@pytest.mark.parametrize(
    ("scheme", "package", "extra"),
    [
        ("s3", "s3fs", "cluster"),
        ("http", "aiohttp", "cluster"),
        ("gs", "gcsfs", "gcs"),
        ("az", "adlfs", "azure"),
        ("s3", "fsspec", "cluster"),
    ],
)
def test_a_missing_package_is_told_with_its_extra(scheme, package, extra):
    uri = f"{scheme}://place"
    program = f"""
import os, sys
sys.modules[{package!r}] = None
from retrieval.objects.remote import source_of
try:
    source_of({uri!r})
except Exception as error:
    print(type(error).__name__, error)
"""
    told = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, SOURCES.variable: uri},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert told.startswith("MissingExtraError")
    assert f"pip install 'mmsearch[{extra}]'" in told

"""Tar shards, here and on servers: their members, read by themselves; damaged and hostile ones."""

import io
import os
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.objects import shards
from retrieval.objects.shards import Shard, _plain_name
from retrieval.objects.trust import trust_uri
from tests.object_servers import (  # noqa: F401 - fixtures
    clean_sources,
    s3,
    s3_process,
    shard,
    web,
)

MEMBERS = {"a.jpg": b"first", "sub/b.txt": b"second one", "empty": b""}


@pytest.fixture
def place(tmp_path, clean_sources):  # noqa: F811
    def write(content, name="000.tar", at=10**9):
        path = tmp_path / name
        path.write_bytes(content)
        os.utime(path, (at, at))
        return str(path)

    return write


def content_of(path):
    return {
        one.path.removeprefix(path + "/"): Shard(path).open(one.path).read()
        for one in Shard(path).list(path)
    }


def test_members_are_read_by_themselves(place):
    path = place(shard(MEMBERS))
    assert content_of(path) == MEMBERS
    status = Shard(path).stat(f"{path}/sub/b.txt")
    assert (status.st_size, status.st_mtime_ns) == (10, 10**18)
    assert status.etag
    with pytest.raises(FileNotFoundError):
        Shard(path).stat(f"{path}/none.jpg")


def test_a_shard_that_changed_has_other_members(place):
    path = place(shard(MEMBERS))
    before = Shard(path).stat(f"{path}/a.jpg")
    place(shard({**MEMBERS, "a.jpg": b"changed"}), at=10**9 + 60)
    assert Shard(path).open(f"{path}/a.jpg").read() == b"changed"
    assert Shard(path).stat(f"{path}/a.jpg").etag != before.etag


def test_what_is_just_being_written_is_not_trusted(place, tmp_path):
    path = tmp_path / "new.tar"
    path.write_bytes(shard(MEMBERS))
    assert Shard(str(path)).stat(f"{path}/a.jpg") == (5, -1, None)


def test_members_are_listed_once_and_remembered(place, monkeypatch):
    path = place(shard(MEMBERS))
    known = dict(Shard(path).members())
    shards._members.cache_clear()  # as of another process
    monkeypatch.setattr(shards, "_listed", lambda *_: pytest.fail("it was read again"))
    assert dict(Shard(path).members()) == known


def test_a_damaged_memory_is_made_again(place):
    path = place(shard(MEMBERS))
    known = dict(Shard(path).members())
    [file] = (shards.user_cache_directory() / "shards").iterdir()
    for content in (b"", b"[1]", b'{"a.jpg": [1]}', b'{"a.jpg": ["x", 1, 2]}'):
        file.write_bytes(content)
        shards._members.cache_clear()
        assert dict(Shard(path).members()) == known


@pytest.mark.parametrize("cut", [1, 511, 700, 1500])
def test_a_shard_that_was_cut_is_refused_and_not_half_read(place, cut):
    path = place(shard(MEMBERS)[:cut])
    with pytest.raises(OSError, match="no whole tar"):
        list(Shard(path).list(path))


def test_a_shard_cut_at_a_block_is_refused(place):
    content = shard({"a.jpg": bytes(5000)})
    path = place(content[:2048])
    with pytest.raises(OSError, match="no whole tar"):
        list(Shard(path).list(path))


@pytest.mark.parametrize("content", [b"", b"no tar" * 1024, bytes(511) + b"x"])
def test_what_is_no_tar_file_is_refused(place, content):
    with pytest.raises(OSError, match="no whole tar"):
        list(Shard(path := place(content)).list(path))


def header_of(name, size, kind=tarfile.REGTYPE):
    """Write the header of a member, also of one with a negative size."""
    member = tarfile.TarInfo(name)
    member.type = kind
    header = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    header[124:136] = (
        b"\xff" + (256**11 + size).to_bytes(12, "big")[-11:] if size < 0 else b"%011o\0" % size
    )
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


@pytest.mark.parametrize(
    "content",
    [
        header_of("b.jpg", 512) + bytes(512) + header_of("a.jpg", -512),
        header_of("a.jpg", -512),
        header_of("x", 0, tarfile.XHDTYPE) * 2000 + header_of("a.jpg", 0),
        header_of("x", 2 << 20, tarfile.GNUTYPE_LONGNAME) + bytes(2 << 20) + header_of("a.jpg", 0),
    ],
    ids=["a size that leads back", "a negative size", "headers of headers", "a long header"],
)
def test_headers_that_take_time_or_memory_without_end_are_refused(place, content):
    path = place(content + bytes(1024))
    with pytest.raises(OSError, match="no whole tar"):
        list(Shard(path).list(path))


def test_links_devices_and_names_that_lead_elsewhere_are_left_out(place):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, kind in (
            ("good.jpg", tarfile.REGTYPE),
            ("link.jpg", tarfile.SYMTYPE),
            ("hard.jpg", tarfile.LNKTYPE),
            ("pipe.jpg", tarfile.FIFOTYPE),
            ("folder", tarfile.DIRTYPE),
            ("../up.jpg", tarfile.REGTYPE),
            ("/etc/passwd", tarfile.REGTYPE),
            ("a/../../b.jpg", tarfile.REGTYPE),
            ("./dot/./c.jpg", tarfile.REGTYPE),
        ):
            header = tarfile.TarInfo(name)
            header.type, header.linkname = kind, "/etc/passwd"
            archive.addfile(header)
    path = place(stream.getvalue())
    assert set(content_of(path)) == {"good.jpg", "dot/c.jpg"}


@given(st.text(alphabet="a./\0\\ü", max_size=12))
def test_no_name_leads_out_of_its_shard(name):
    plain = _plain_name(name)
    if plain is not None:
        assert plain == os.path.normpath(plain)
        assert not {"", ".", ".."} & set(plain.split("/"))
        assert "\0" not in plain


@pytest.mark.slow
def test_members_of_a_store_are_read_in_parts(s3, monkeypatch):  # noqa: F811
    monkeypatch.setattr(shards, "_MOST_AT_ONCE", 4)
    s3.put("bucket", {"000.tar": shard({**MEMBERS, "large.bin": bytes(200)})})
    trust_uri("s3://bucket")
    path = "s3://bucket/000.tar"
    assert content_of(path)["sub/b.txt"] == b"second one"
    assert Shard(path).stat(f"{path}/a.jpg").etag


@pytest.mark.slow
@pytest.mark.parametrize("has_ranges", [True, False])
def test_members_of_the_web_are_read_with_and_without_parts(
    web,  # noqa: F811
    has_ranges,
    monkeypatch,
):
    monkeypatch.setattr(shards, "_MOST_AT_ONCE", 4)
    web.files["/000.tar"] = shard(MEMBERS)
    web.has_ranges = has_ranges
    trust_uri(web.address)
    shards._whole.cache_clear()
    assert content_of(f"{web.address}/000.tar") == MEMBERS

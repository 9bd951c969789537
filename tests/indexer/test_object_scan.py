"""Walks of servers and shards find what walks of folders would."""

import os
from pathlib import Path

import pytest

from indexer.object_scan import require_reachable, walk_objects, walk_shard
from indexer.partial_scan import PartialScan
from indexer.scan import EmptyRoot, FoundFile, PassedOver, Unlisted, WalkOptions, walk
from indexer.sources import SourceOptions
from retrieval.errors import NotFoundError
from retrieval.media import MediaKind
from retrieval.objects.remote import TIMEOUT_VARIABLE
from retrieval.objects.trust import trust_uri
from tests.object_servers import (  # noqa: F401 - fixtures
    clean_sources,
    s3,
    s3_process,
    shard,
    web,
)

ARCHIVES = WalkOptions(archives=True)


def found(entries, root):
    """Names of the files, with the names of their sidecars where there are any."""
    return {
        entry.path.removeprefix(root + "/"): [Path(one).name for one in entry.sidecars]
        for entry in entries
        if isinstance(entry, FoundFile)
    }


@pytest.fixture
def tar(tmp_path, clean_sources):  # noqa: F811
    def write(members, name="000.tar"):
        path = tmp_path / name
        path.write_bytes(shard(members))
        os.utime(path, (10**9, 10**9))
        return str(path)

    return write


def test_texts_of_a_shard_are_about_the_image_of_their_name(tar):
    path = tar(
        {
            "a.jpg": b"1",
            "a.txt": b"2",
            "a.json": b"{}",
            "d.e/b.seg.png": b"1",
            "d.e/b.png": b"1",
            "d.e/b.TXT": b"2",
            "alone.txt": b"a text",
            "alone.json": b"{}",
            "c.cls": b"3",
        }
    )
    entries = list(walk(path))
    assert found(entries, path) == {
        "a.jpg": ["a.json", "a.txt"],
        "d.e/b.png": ["b.TXT"],
        "d.e/b.seg.png": ["b.TXT"],
        "alone.txt": [],
    }
    [passed] = [entry for entry in entries if isinstance(entry, PassedOver)]
    assert passed.endings == {".json": 1, ".cls": 1}
    states = {entry.sidecars_state for entry in entries if isinstance(entry, FoundFile)}
    assert None in states
    assert len(states) > 1


def test_shards_of_a_folder_are_entered_when_that_is_asked_for(tar, tmp_path):
    path = tar({"a.jpg": b"1"})
    (tmp_path / "b.jpg").write_bytes(b"1")
    root = str(tmp_path)
    assert found(walk(root), root) == {"b.jpg": []}
    assert found(walk(root, ARCHIVES), root) == {"b.jpg": [], "000.tar/a.jpg": []}
    assert found(walk(path), path) == {"a.jpg": []}
    (tmp_path / ".mmsearchignore").write_text("000.tar\n")
    assert found(walk(root, ARCHIVES), root) == {"b.jpg": []}
    (tmp_path / ".mmsearchignore").write_text("a.*\n")
    assert found(walk(root, ARCHIVES), root) == {"b.jpg": []}


def test_members_are_chosen_as_files_are(tar):
    names = (".hidden.jpg", ".h/a.jpg", "@eaDir/a.jpg", "a.mp4", "b.jpg")
    path = tar(dict.fromkeys(names, b""))
    assert set(found(walk(path), path)) == {"a.mp4", "b.jpg"}
    options = WalkOptions(hidden=True, system_folders=True, kinds=frozenset({MediaKind.IMAGE}))
    assert set(found(walk_shard(path, options), path)) == {
        ".hidden.jpg",
        ".h/a.jpg",
        "@eaDir/a.jpg",
        "b.jpg",
    }


def test_one_member_can_be_looked_for(tar):
    path = tar({"a/b.jpg": b"", "a/c.jpg": b"", "ab.jpg": b""})
    assert set(found(walk(f"{path}/a"), path)) == {"a/b.jpg", "a/c.jpg"}
    folder = str(Path(path).parent)
    scan = PartialScan({folder: SourceOptions(archives=True)}, [f"{path}/a/b.jpg"])
    assert set(found(scan.walk(folder, SourceOptions(archives=True)), path)) == {"a/b.jpg"}


def test_a_damaged_shard_is_told_and_what_is_known_of_it_stays(tar):
    path = tar({"a.jpg": b"1"})
    os.truncate(path, 700)
    [entry] = walk(path)
    assert isinstance(entry, Unlisted)
    assert "no whole tar file" in entry.reason


@pytest.mark.slow
def test_a_bucket_is_walked_as_a_folder_is(s3):  # noqa: F811
    s3.put(
        "bucket",
        {
            "p/b.jpg": b"1",
            "p/b.jpg.xmp": b"<x/>",
            "p/a/c.txt": b"1",
            "p/.hidden/d.jpg": b"1",
            "p/@eaDir/e.jpg": b"1",
            "p/ignored/f.jpg": b"1",
            "p/.mmsearchignore": b"ignored/\n*.gif\n",
            "p/g.gif": b"1",
            "p/lib/library.toml": b"",
            "p/lib/spaces/x": b"",
            "p/lib/thumb.jpg": b"",
            "p/x.json": b"{}",
            "p/s.tar": shard({"m.jpg": b"1"}),
        },
    )
    trust_uri("s3://bucket")
    root = "s3://bucket/p"
    entries = list(walk(root, ARCHIVES))
    assert found(entries, root) == {"b.jpg": ["b.jpg.xmp"], "a/c.txt": [], "s.tar/m.jpg": []}
    passed = [entry for entry in entries if isinstance(entry, PassedOver)]
    assert {ending for entry in passed for ending in entry.endings} == {".json"}
    assert [name for entry in passed for name in entry.folders] == ["@eaDir"]
    everything = WalkOptions(hidden=True, system_folders=True, ignore_files=False)
    assert set(found(walk(root, everything), root)) >= {
        ".hidden/d.jpg",
        "@eaDir/e.jpg",
        "ignored/f.jpg",
        "g.gif",
    }
    assert next(walk(root)).path == f"{root}/b.jpg"
    assert found(walk(f"{root}/b.jpg"), root) == {"b.jpg": []}


@pytest.mark.slow
def test_a_part_of_a_bucket_is_walked_by_the_rules_of_the_whole(s3):  # noqa: F811
    s3.put(
        "bucket",
        {
            "p/.mmsearchignore": b"*.gif\nno/\n",
            "p/a/b.gif": b"1",
            "p/a/c.jpg": b"1",
            "p/no/d.jpg": b"1",
            "p/.h/e.jpg": b"1",
        },
    )
    trust_uri("s3://bucket")
    root = "s3://bucket/p"
    for part, names in {"a": {"a/c.jpg"}, "no": set(), ".h": set(), "a/c.jpg": {"a/c.jpg"}}.items():
        scan = PartialScan({root: SourceOptions()}, [f"{root}/{part}"])
        assert set(found(scan.walk(root, SourceOptions()), root)) == names


@pytest.mark.slow
def test_the_web_is_walked_by_its_index_pages(web, monkeypatch):  # noqa: F811
    web.files |= {"/p/a b.jpg": b"1", "/p/sub/c.jpg": b"12", "/p/sub/d.jpg": b"123", "/q.jpg": b""}
    web.statuses["/p/sub/d.jpg"] = 500
    root = web.address + "/p"
    trust_uri(root)
    entries = list(walk(root))
    assert set(found(entries, root)) == {"a%20b.jpg", "sub/c.jpg"}
    assert [entry for entry in entries if isinstance(entry, Unlisted)] == [
        Unlisted(f"{root}/sub/d.jpg", "its server answered with HTTP 500")
    ]
    assert web.read() == []
    web.statuses["/p/sub/"] = 503
    assert f"{root}/sub" in {one.path for one in walk(root) if isinstance(one, Unlisted)}
    monkeypatch.setenv(TIMEOUT_VARIABLE, "0.5")
    web.stalls.add("/p/sub/c.jpg")
    del web.statuses["/p/sub/"]
    assert root in {one.path for one in walk(root) if isinstance(one, Unlisted)}


@pytest.mark.slow
def test_folders_without_end_are_told(s3):  # noqa: F811
    s3.put("bucket", {f"{'deeper/' * 70}a.png": b"", "near/b.png": b""})
    trust_uri("s3://bucket")
    found = list(walk("s3://bucket"))
    assert [one.path for one in found if isinstance(one, FoundFile)] == ["s3://bucket/near/b.png"]
    [told] = [one for one in found if isinstance(one, Unlisted)]
    assert told.reason == "lies deeper than 64 folders"


def test_what_cannot_be_listed_is_told(s3, web):  # noqa: F811
    s3.put("bucket", {"x/y": b""})
    for uri in ("s3://bucket/none", "s3://missing-bucket", web.address + "/none"):
        trust_uri(uri)
        [entry] = walk_objects(uri, WalkOptions())
        assert isinstance(entry, Unlisted)
        with pytest.raises(NotFoundError, match="cannot be indexed"):
            require_reachable(uri)
    [entry] = walk("https://127.0.0.1:9/never-named")
    assert "mmsearch trust" in entry.reason
    trust_uri(web.address)
    web.files = {"/empty/no\nname": b""}
    assert EmptyRoot(web.address + "/empty") in list(walk(web.address + "/empty"))

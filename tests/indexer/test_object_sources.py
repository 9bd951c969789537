"""A library of sources on servers: the same runs as of folders, found by the same searches."""

import io
import json
import os
import signal
import subprocess
import sys
from contextlib import closing

import pytest
from PIL import Image

from indexer.pipeline import index_sources, remove_paths
from indexer.sources import trust_named
from retrieval.errors import NotFoundError
from retrieval.filters import Filter
from retrieval.library import create_library, open_library
from retrieval.media import MediaKind, Modality
from retrieval.objects import trust
from retrieval.objects.remote import TIMEOUT_VARIABLE
from retrieval.search.engine import Engine
from retrieval.search.query import ImagePart, Query
from tests.object_servers import (  # noqa: F401 - fixtures
    clean_sources,
    picture,
    s3,
    s3_process,
    shard,
    web,
)

pytestmark = pytest.mark.slow

PHOTOS = {f"album/{n}.png": picture(n) for n in range(3)}
SOURCE = "s3://bucket/album"


@pytest.fixture
def library(tmp_path, tiny_encoder):
    library = create_library(tmp_path / "library", tiny_encoder.space)
    yield library
    library.close()


@pytest.fixture
def index(library, tiny_encoder):
    def run(*paths, **options):
        trust_named(paths)
        return index_sources(library, tiny_encoder, paths, workers=1, **options)

    return run


def paths_of(library, where=None):
    """Paths of what can be found, by a filter."""
    space = library.space()
    with library.catalog.snapshot() as snapshot:
        found = set()
        for modality in Modality:
            rows = range(snapshot.row_count(space.id, modality))
            for items in snapshot.items_at(space.id, modality, rows).values():
                found |= {item.path for item in items}
    if where is not None:
        query = Query((ImagePart(Image.new("RGB", (8, 8))),), k=1000, where=where)
        found &= {hit.path for hit in Engine(library, device="cpu").search(query).hits}
    return found


def told_by_words(library, word):
    """Paths of the images that a word is said of."""
    return {hit.path for hit in library.search(word).hits if hit.words}


def failures(library):
    with library.catalog.snapshot() as snapshot:
        return {failed.path: failed.failure for failed in snapshot.failures()}


def test_a_bucket_is_indexed_and_a_second_run_reads_nothing(s3, index, library):  # noqa: F811
    s3.put("bucket", {**PHOTOS, "album/sub/a text.txt": b"a boat", "album/bad.png": b"no picture"})
    summary = index(SOURCE)
    assert (summary.added, summary.failed, summary.embedded) == (4, 1, 4)
    assert paths_of(library) == {f"s3://bucket/{key}" for key in PHOTOS} | {
        f"{SOURCE}/sub/a text.txt"
    }
    assert "not an image" in failures(library)[f"{SOURCE}/bad.png"]
    s3.read()
    again = index()
    assert (again.unchanged, again.added, again.failed, again.embedded) == (4, 0, 1, 0)
    assert s3.read() == []


def test_what_changed_is_read_and_what_is_gone_is_hidden(s3, index, library):  # noqa: F811
    s3.put("bucket", PHOTOS)
    index(SOURCE)
    s3.put("bucket", {"album/0.png": picture(7)})  # of the same size or not, its ETag is another
    s3.client().delete_object(Bucket="bucket", Key="album/1.png")
    s3.read()
    summary = index()
    assert (summary.changed, summary.removed, summary.unchanged) == (1, 1, 1)
    assert set(s3.read()) == {"/bucket/album/0.png"}
    assert paths_of(library) == {f"{SOURCE}/0.png", f"{SOURCE}/2.png"}
    s3.client().copy_object(
        Bucket="bucket",
        Key="album/new/2.png",
        CopySource={"Bucket": "bucket", "Key": "album/2.png"},
    )
    s3.client().delete_object(Bucket="bucket", Key="album/2.png")
    moved = index()
    assert (moved.moved, moved.embedded) == (1, 0)
    assert f"{SOURCE}/new/2.png" in paths_of(library)


def test_a_change_of_the_same_size_within_the_same_second_is_found(web, index):  # noqa: F811
    web.files["/p/a.txt"] = b"a red boat"
    index(web.address + "/p")
    web.files["/p/a.txt"] = b"a big lake"
    assert index().changed == 1
    web.has_etags = False
    web.files["/p/a.txt"] = b"a low hill"
    web.times["/p/a.txt"] = 10**9 + 5
    assert index().changed == 1


def test_a_web_folder_is_indexed_and_only_asked_for_headers_again(web, index, library):  # noqa: F811
    web.files |= {"/p/a b.png": picture(1), "/p/sub/c.png": picture(2)}
    root = web.address + "/p"
    assert index(root).added == 2
    assert paths_of(library) == {f"{root}/a%20b.png", f"{root}/sub/c.png"}
    web.read()
    assert index().unchanged == 2
    assert web.read() == []
    del web.files["/p/sub/c.png"]
    assert index().removed == 1


def test_sources_out_of_reach_are_told_and_keep_what_is_known(
    s3,  # noqa: F811
    web,  # noqa: F811
    index,
    library,
    monkeypatch,
):
    s3.put("bucket", PHOTOS)
    web.files["/p/a.png"] = picture(9)
    root = web.address + "/p"
    index(SOURCE, root)
    known = paths_of(library)
    assert len(known) == 4
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv(TIMEOUT_VARIABLE, "1")
    web.stalls |= {"/p/"}
    summary = index()
    assert summary.removed == 0
    assert paths_of(library) == known
    for source in (SOURCE, root):
        assert any(note.startswith(source) and "stays" in note for note in summary.notes)
        assert source in failures(library)
    assert "secret-of-the-test" not in str(summary.notes)


def test_an_object_that_fails_for_now_is_tried_again(web, index, library):  # noqa: F811
    web.files |= {"/p/a.png": picture(1), "/p/b.png": picture(2)}
    web.unreadable.add("/p/b.png")
    root = web.address + "/p"
    assert (summary := index(root)).added == 1
    assert summary.failed == 1
    assert failures(library) == {f"{root}/b.png": "its server answered with http 503"}
    web.unreadable.clear()
    assert index().added == 1
    assert len(paths_of(library)) == 2


def test_a_server_that_stalls_costs_no_more_than_the_limit(web, index, library):  # noqa: F811
    web.files |= {"/p/a.png": picture(1), "/p/b.png": picture(2)}
    web.slow.add("/p/a.png")
    root = web.address + "/p"
    index(root, limit_s=5)
    assert failures(library)[f"{root}/a.png"] == "reading it was given up after 5 s"
    web.slow.clear()
    index()  # a server may be faster the next time
    assert paths_of(library) == {f"{root}/a.png", f"{root}/b.png"}


def test_an_object_whose_server_tells_nothing_for_now_stays(web, index, library):  # noqa: F811
    web.files |= {"/p/a.png": picture(1), "/p/b.png": picture(2)}
    root = web.address + "/p"
    index(root)
    web.statuses["/p/a.png"] = 500
    summary = index()
    assert (summary.unchanged, summary.removed, summary.failed) == (2, 0, 0)
    assert any("HTTP 500" in note for note in summary.notes)
    assert len(paths_of(library)) == 2


def test_shards_are_indexed_with_their_captions(s3, index, library, tmp_path):  # noqa: F811
    members = {f"{n}.png": picture(n) for n in range(3)} | {
        "0.txt": b"a xylophone",
        "1.json": json.dumps({"caption": "a zebra", "score": 7}).encode(),
    }
    s3.put("bucket", {"shards/000.tar": shard(members)})
    local = tmp_path / "shards"
    local.mkdir()
    (local / "001.tar").write_bytes(shard({"x.png": picture(20), "x.txt": b"a xylophone"}))
    os.utime(local / "001.tar", (10**9, 10**9))
    summary = index("s3://bucket/shards", local, changes={"archives": True})
    assert (summary.added, summary.failed) == (4, 0)
    remote = "s3://bucket/shards/000.tar"
    assert paths_of(library) == {f"{remote}/{n}.png" for n in range(3)} | {f"{local}/001.tar/x.png"}
    scored = Filter.model_validate({"columns": {"score": {"min": 5}}})
    assert paths_of(library, scored) == {f"{remote}/1.png"}
    assert told_by_words(library, "xylophone") == {f"{remote}/0.png", f"{local}/001.tar/x.png"}
    s3.read()
    again = index()
    assert (again.unchanged, again.embedded, again.refreshed) == (4, 0, 0)
    assert s3.read() == []
    s3.put("bucket", {"shards/000.tar": shard({**members, "0.txt": b"a yak"})})
    changed = index()
    assert changed.embedded == 0
    assert told_by_words(library, "yak") == {f"{remote}/0.png"}
    s3.client().delete_object(Bucket="bucket", Key="shards/000.tar")
    s3.put("bucket", {"shards/other.txt": b"x"})
    assert index().removed == 3


def test_other_kinds_are_read_from_objects(s3, index, library):  # noqa: F811
    rows = [{"image": "0.png", "caption": "xylophone"}, {"image": "../../x.png", "caption": "yak"}]
    table = "\n".join(map(json.dumps, rows)).encode()
    pages = [Image.new("L", (8, 8), shade) for shade in range(20)]  # in two steps
    stream = io.BytesIO()
    pages[0].save(stream, "TIFF", save_all=True, append_images=pages[1:])
    s3.put("bucket", {**PHOTOS, "album/c.jsonl": table, "album/p.tif": stream.getvalue()})
    summary = index(SOURCE)
    assert summary.failed == 0, failures(library)
    assert summary.embedded == 3 + 2 + 20
    assert told_by_words(library, "xylophone") == {f"{SOURCE}/0.png"}
    with library.catalog.snapshot() as snapshot:
        assert snapshot.kinds()[MediaKind.TABLE] == 1
        # A row leads no further than to its bucket.
        assert snapshot.said_of(["s3://bucket/x.png"])


def test_filters_and_removal_know_folders_of_servers(s3, index, library):  # noqa: F811
    s3.put("bucket", {**PHOTOS, "album/sub/x.png": picture(9)})
    index(SOURCE)
    below = Filter.model_validate({"source": f"{SOURCE}/sub"})
    assert paths_of(library, below) == {f"{SOURCE}/sub/x.png"}
    for glob in (f"{SOURCE}/*.png", "0.png", "album/?.png"):
        assert f"{SOURCE}/0.png" in paths_of(library, Filter.model_validate({"path": glob}))
    facets = library.facets().folders
    assert {folder.value for folder in facets} >= {SOURCE, f"{SOURCE}/sub"}
    assert remove_paths(library, [f"{SOURCE}/sub"]) == 1
    assert remove_paths(library, [SOURCE]) == 3
    with library.catalog.snapshot() as snapshot:
        assert snapshot.sources() == []


def test_a_run_that_is_killed_is_gone_on_with(s3, tmp_path):  # noqa: F811
    s3.put("bucket", {f"album/{n}.png": picture(n) for n in range(12)})
    trust.trust_uri(SOURCE)
    place = tmp_path / "killed"
    program = [sys.executable, "-c", _INDEX, str(place), SOURCE]
    killed = subprocess.run([*program, "kill"], check=False, env=os.environ)
    assert killed.returncode == -signal.SIGKILL
    with closing(open_library(place)) as library:
        known = len(paths_of(library))
    assert 0 < known < 12
    s3.read()
    subprocess.run([*program, "end"], check=True, env=os.environ)
    with closing(open_library(place)) as library:
        assert len(paths_of(library)) == 12
    assert len(set(s3.read())) == 12 - known


_INDEX = """
import os, signal, sys
from pathlib import Path
from indexer.pipeline import index_sources
from retrieval.encoders.registry import load_encoder
from retrieval.library import create_library, open_library
place, source, how = sys.argv[1:]
encoder = load_encoder("starter")
place = Path(place)
library = open_library(place) if place.exists() else create_library(place, encoder.space)
def tell(event):
    if how == "kill" and event.total and event.done >= 4:
        os.kill(os.getpid(), signal.SIGKILL)
index_sources(library, encoder, [source], batch_size=4, workers=1, on_progress=tell)
"""


def test_a_library_from_a_stranger_connects_to_nothing(web, index, library, monkeypatch):  # noqa: F811
    web.files["/p/a.png"] = picture(1)
    index(web.address + "/p")
    for uri in trust.SOURCES.all():
        trust.SOURCES.remove(uri)
    web.asked.clear()
    assert len(library.search("anything").hits) == 1
    summary = index()
    assert any("mmsearch trust" in note for note in summary.notes)
    assert summary.removed == 0
    with pytest.raises(NotFoundError, match="never named"):
        index_sources(library, _encoder(library), ["https://127.0.0.1:9/x"])
    assert web.asked == []


def _encoder(library):
    class OfSpace:
        space = library.space()

    return OfSpace()


def test_a_new_source_that_cannot_be_reached_is_refused(s3, index, library):  # noqa: F811
    with pytest.raises(NotFoundError, match="cannot be indexed"):
        index("s3://bucket-that-is-not-there/x")
    with library.catalog.snapshot() as snapshot:
        assert snapshot.sources() == []

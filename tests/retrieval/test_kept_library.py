"""A library that version 0.1 made, in `tests/fixtures/library-0.1`, still does all that it did.

`tests/fixtures/make_library.py` made it. The photos have been moved since: their paths in the
catalog lead nowhere, as on another machine.
"""

import json
import os
import shutil
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from PIL import Image
from starlette.testclient import TestClient

from api.http.app import create_app
from indexer.pipeline import index_sources
from retrieval.catalog import FileEntry
from retrieval.filters import Filter
from retrieval.indices.generations import load_latest
from retrieval.library import Library, open_library
from retrieval.media import Modality

KEPT = Path(__file__).resolve().parents[1] / "fixtures" / "library-0.1"
ANSWERS = json.loads((KEPT / "answers.json").read_text(encoding="utf-8"))
SEARCHES = {
    "a red circle": {"mode": "vector"},
    "a train through the mountains": {"modality": "text", "mode": "vector"},
    "lighthouse": {"modality": "text", "mode": "text"},
    "a shape": {"where": Filter(camera="test", path="**/*.jpg"), "mode": "vector"},
}


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A copy of the library, upgraded, and of the photos in a new place."""
    folder = Path(shutil.copytree(KEPT, tmp_path / "kept"))
    open_library(folder / "library", upgrade=True).close()
    return folder


def assert_answers(library: Library) -> None:
    for text, options in SEARCHES.items():
        hits = library.search(text, rerank="none", **options)
        assert [Path(hit.path).name for hit in hits] == [hit["name"] for hit in ANSWERS[text]]
        for hit, then in zip(hits, ANSWERS[text], strict=True):
            assert hit.similarity == pytest.approx(then["similarity"], abs=2e-3)
        relevances = [hit.relevance for hit in hits if hit.words is None]  # newly calibrated since
        assert relevances == sorted(relevances, reverse=True)


def test_searches_find_what_they_found(kept):
    with closing(open_library(kept / "library")) as library:
        assert_answers(library)


def test_its_reranker_tokens_are_used(kept):
    """The photos are not where they were, so that they cannot be computed again."""
    text = "a yellow star"
    with closing(open_library(kept / "library")) as library:
        answer = library.search(text, rerank="auto", rerank_depth=2, mode="vector")
        assert list(answer.warnings) == []
        then = ANSWERS[text]
        assert [Path(hit.path).name for hit in answer] == [hit["name"] for hit in then]
        matches = [hit.match for hit in answer]
        assert matches[:2] == pytest.approx([hit["match"] for hit in then[:2]], abs=0.05)
        assert matches[2:] == [None] * (len(then) - 2)


def test_its_thumbnails_are_used(kept):
    [first, _] = sorted((kept / "library" / "thumbnails").iterdir())
    with TestClient(create_app(kept / "library"), base_url="http://localhost") as client:
        items = client.get("/v1/items", params={"modality": "image"}).json()["items"]
        shown = [client.get(f"/v1/items/{item['item_id']}/thumbnail?format=webp") for item in items]
    assert first.read_bytes() in [answer.content for answer in shown if answer.is_success]


@pytest.mark.parametrize("modality", [Modality.IMAGE, Modality.TEXT])
def test_its_index_is_used(kept, modality):
    with closing(open_library(kept / "library")) as library:
        space = library.space()
        with library.catalog.snapshot() as snapshot:
            count = snapshot.row_count(space.id, modality)
        rows = library.embeddings(space, modality).rows(count)
        loaded = load_latest(library.space_directory(space), modality, rows, pytest.fail)
        assert loaded is not None
        assert loaded[0].rows == count > 0


def test_it_is_upgraded_and_indexed_on(kept, starter):
    """Photos that were only moved are not encoded again; a new one is found beside them."""
    with closing(open_library(kept / "library", upgrade=True)) as library:
        assert_answers(library)
        moved = index_sources(library, starter, [kept / "photos"])
        assert (moved.embedded, moved.failed) == (0, 1)
        Image.new("RGB", (96, 96), "orange").save(kept / "photos" / "orange.png")
        assert index_sources(library, starter, [kept / "photos"]).embedded == 1
        hits = library.search("a red circle", k=100, rerank="none")
        names = {Path(hit.path).name for hit in hits}
        assert names == {hit["name"] for hit in ANSWERS["a red circle"]} | {"orange.png"}


def test_dates_of_an_upgraded_library_are_read_again(kept, starter):
    """Its photo is from before the camera told its time zone; the file that it was is not there."""
    photo = kept / "photos" / "stripes.jpg"
    with Image.open(photo) as image:
        exif = image.getexif()
        exif.get_ifd(0x8769)[0x9011] = "+10:00"
        changed = image.copy()
    with closing(open_library(kept / "library")) as library:
        [before] = library.search("a shape", where=Filter(camera="test"))
        assert before.item.taken_local == datetime(2024, 5, 17, 12)
        changed.save(photo, exif=exif)
        with library.catalog.transaction() as transaction:
            assert transaction.move_file(before.path, str(photo))
            details = transaction.details(replace(before.item, path=str(photo)))
            status = photo.stat()
            known = photo.as_posix(), before.item.kind, status.st_size, status.st_mtime_ns
            transaction.record_touched([FileEntry(*known, before.item.content_hash)])
        os.utime(photo, ns=(status.st_atime_ns, status.st_mtime_ns))
        summary = index_sources(library, starter, [photo])
        assert (summary.refreshed, summary.embedded) == (1, 0)
        [after] = library.search("a shape", where=Filter(camera="test"))
        assert after.item.taken_local == datetime(2024, 5, 17, 12)
        with library.catalog.snapshot() as snapshot:
            at = snapshot.details(after.item).taken_at
        assert details.taken_at - at == 10 * 3600

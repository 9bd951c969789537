"""A library that is kept up to date while its folders change: real files, real notifications."""

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from indexer.enrichment.tasks import Recognizers, enrich_library
from indexer.pipeline import index_sources
from indexer.watch import (
    Event,
    FoundTexts,
    Polling,
    SourceBack,
    SourceGone,
    Updated,
    Waiting,
    Watching,
    watch_sources,
)
from retrieval.catalog import FileState
from retrieval.errors import LibraryLockedError, NotFoundError
from retrieval.filters import Filter, Range
from retrieval.library import Library, create_library
from retrieval.objects.trust import trust_uri
from retrieval.recognition.base import Task
from tests.block_codes import BlockEncoder, BlockReader, save
from tests.made_speech import save_video
from tests.object_servers import clean_sources, web  # noqa: F401 - fixtures

pytestmark = pytest.mark.slow

DEADLINE_S = 30.0
CALM_S = 4.0
"""Longer than it takes until a fresh file has been looked at for the last time."""


def eventually(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE_S
    while not is_so():
        assert time.monotonic() < end, "it did not come to be"
        time.sleep(0.05)


def picture(path: Path, seed: int) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


class Watcher:
    """What a library holds, and what was told, while it is watched."""

    def __init__(self, library: Library) -> None:
        self.library = library
        self.events: list[Event] = []

    def of(self, kind: type) -> list:
        return [event for event in self.events if isinstance(event, kind)]

    def total(self, count: str) -> int:
        return sum(getattr(event.summary, count) for event in self.of(Updated))

    def files(self) -> dict[str, str | None]:
        """Content hashes of what a search can find, by path."""
        space = self.library.space().id
        with self.library.catalog.snapshot() as snapshot:
            known = snapshot.files_below(["/"], space)
            return {f.path: f.content_hash for f in known if f.state is FileState.INDEXED}

    def holds(self, *paths: Path) -> bool:
        return self.files().keys() == {str(path) for path in paths}

    def failures(self) -> list[str]:
        with self.library.catalog.snapshot() as snapshot:
            return [failure.path for failure in snapshot.failures()]


@contextmanager
def watching(library: Library, encoder, *paths: Path, **options) -> Iterator[Watcher]:
    watcher, stop = Watcher(library), threading.Event()
    errors: list[BaseException] = []

    def watch() -> None:
        try:
            watch_sources(
                library,
                encoder,
                paths,
                on_event=watcher.events.append,
                stop_event=stop,
                workers=1,
                **options,
            )
        except BaseException as error:  # noqa: BLE001 - raised again in the test's own thread
            errors.append(error)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield watcher
    finally:
        stop.set()
        thread.join(DEADLINE_S)
        if errors:
            raise errors[0]
        assert not thread.is_alive()


@pytest.fixture
def folder(tmp_path):
    picture(tmp_path / "photos" / "a.png", 0)
    picture(tmp_path / "photos" / "sub" / "b.png", 1)
    return tmp_path / "photos"


@pytest.fixture
def library(tmp_path, tiny_encoder):
    return create_library(tmp_path / "library", tiny_encoder.space)


@pytest.fixture
def watched(library, tiny_encoder, folder):
    """A watcher that has brought the folder up to date and is notified of changes."""
    with watching(library, tiny_encoder, folder) as watcher:
        eventually(lambda: bool(watcher.of(Watching)))
        assert watcher.of(Watching)[0].polled == ()
        eventually(lambda: watcher.holds(folder / "a.png", folder / "sub" / "b.png"))
        yield watcher


def test_new_edited_renamed_and_deleted_files(watched, folder):
    a, b, new = folder / "a.png", folder / "sub" / "b.png", folder / "new" / "c.png"
    picture(new, 2)
    eventually(lambda: watched.holds(a, b, new))

    before = watched.files()[str(a)]
    picture(a, 3)
    eventually(lambda: watched.files().get(str(a)) not in {before, None})

    renamed = folder / "renamed.png"
    eventually(lambda: watched.total("embedded") == 4)
    new.rename(renamed)
    eventually(lambda: watched.holds(a, b, renamed))
    eventually(lambda: watched.total("moved") == 1)
    assert watched.total("embedded") == 4

    renamed.unlink()
    eventually(lambda: watched.holds(a, b))
    assert watched.failures() == []


def test_edited_sidecar_is_read_without_embedding(watched, folder):
    written = (
        "<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF xmlns:rdf="
        "'http://www.w3.org/1999/02/22-rdf-syntax-ns#' xmlns:xmp='http://ns.adobe.com/xap/1.0/'>"
        "<rdf:Description xmp:Rating='{}'/></rdf:RDF></x:xmpmeta>"
    )
    embedded = watched.total("embedded")

    def rated(stars: int) -> list[str]:
        where = Filter(rating=Range(min=stars, max=stars))
        with watched.library.catalog.snapshot() as snapshot:
            items = snapshot.items(watched.library.space().id, where=where, limit=10)
        return [item.path for item in items]

    sidecar = folder / "a.xmp"
    for stars in (3, 5):
        sidecar.write_text(written.format(stars))
        eventually(lambda stars=stars: rated(stars) == [str(folder / "a.png")])
    sidecar.unlink()
    eventually(lambda: rated(5) == [])
    assert watched.total("embedded") == embedded


def test_the_limit_of_indexing_holds_while_watching(library, tiny_encoder, folder, monkeypatch):
    index_sources(library, tiny_encoder, [folder], max_pixels=24 * 24)
    monkeypatch.setattr("indexer.encode.default_max_pixels", lambda: 24 * 24 - 1)
    known = folder / "a.png", folder / "sub" / "b.png"
    with watching(library, tiny_encoder) as watcher:
        eventually(lambda: bool(watcher.of(Watching)))
        new = picture(folder / "new.png", 7)
        eventually(lambda: watcher.holds(*known, new))
        assert watcher.failures() == []


def test_moved_folder_is_not_embedded_again(watched, folder):
    for number in range(5):
        picture(folder / "sub" / f"{number}.png", 10 + number)
    eventually(lambda: watched.total("embedded") == 7)
    (folder / "sub").rename(folder / "other")
    eventually(lambda: str(folder / "other" / "b.png") in watched.files())
    eventually(lambda: watched.total("moved") == 6)
    assert len(watched.files()) == 7
    assert watched.total("embedded") == 7


def test_unpacked_tree_of_new_folders_is_found_whole(watched, folder, tmp_path):
    made = [picture(tmp_path / "packed" / f"d{n}" / "e" / f"{n}.png", 20 + n) for n in range(8)]
    shutil.copytree(tmp_path / "packed", folder / "unpacked")
    eventually(lambda: len(watched.files()) == 2 + len(made))


def test_half_written_file_waits_until_it_is_whole(watched, folder, tmp_path):
    data = picture(tmp_path / "whole.png", 4).read_bytes()
    embedded = watched.total("embedded")
    with (folder / "slow.png").open("wb") as file:
        for start in range(0, len(data), len(data) // 8):
            file.write(data[start : start + len(data) // 8])
            file.flush()
            time.sleep(0.2)
            assert str(folder / "slow.png") not in watched.files()
    eventually(lambda: watched.total("embedded") == embedded + 1)
    assert str(folder / "slow.png") in watched.files()
    assert watched.total("failed") == 0


def test_burst_is_taken_in_few_runs(watched, folder):
    runs = len(watched.of(Updated))
    for number in range(120):
        picture(folder / "burst" / f"{number}.png", 100 + number)
    eventually(lambda: len(watched.files()) == 122)
    assert len(watched.of(Updated)) - runs <= 6


def test_fresh_file_is_remembered_with_its_time_in_the_end(watched, folder):
    new = picture(folder / "c.png", 2)

    def time_is_known() -> bool:
        with watched.library.catalog.snapshot() as snapshot:
            known = list(snapshot.files_below([str(new)], watched.library.space().id))
        return [file.mtime_ns for file in known] == [new.stat().st_mtime_ns]

    eventually(time_is_known)
    eventually(lambda: watched.total("embedded") == 3)


def test_file_that_cannot_be_read_is_told_once(watched, folder):
    (folder / "broken.png").write_bytes(b"no picture")
    eventually(lambda: watched.total("failed") == 1)
    time.sleep(CALM_S)
    assert watched.total("failed") == 1


def test_changed_ignore_file_hides_and_shows(watched, folder):
    a, b = folder / "a.png", folder / "sub" / "b.png"
    (folder / ".mmsearchignore").write_text("sub/\n")
    eventually(lambda: watched.holds(a))
    picture(folder / "sub" / "c.png", 2)
    (folder / ".mmsearchignore").unlink()
    eventually(lambda: watched.holds(a, b, folder / "sub" / "c.png"))


def test_library_inside_the_watched_folder_causes_no_runs(tiny_encoder, folder):
    library = create_library(folder / "library", tiny_encoder.space)
    with watching(library, tiny_encoder, folder) as watcher:
        eventually(lambda: bool(watcher.of(Watching)))
        picture(folder / "c.png", 2)
        eventually(lambda: len(watcher.files()) == 3)
        time.sleep(CALM_S)
        changed = (library.path / "catalog.sqlite-wal").stat().st_mtime_ns
        time.sleep(1)
        assert (library.path / "catalog.sqlite-wal").stat().st_mtime_ns == changed


def test_source_that_vanishes_and_returns(watched, folder, tmp_path):
    folder.rename(tmp_path / "away")
    eventually(lambda: watched.of(SourceGone) == [SourceGone(str(folder))])
    assert len(watched.files()) == 2
    picture(tmp_path / "away" / "c.png", 2)
    (tmp_path / "away").rename(folder)
    eventually(lambda: watched.of(SourceBack) == [SourceBack(str(folder))])
    eventually(lambda: len(watched.files()) == 3)
    picture(folder / "d.png", 3)
    eventually(lambda: len(watched.files()) == 4)


def test_empty_place_of_a_drive_counts_as_gone(watched, folder, tmp_path):
    folder.rename(tmp_path / "away")
    folder.mkdir()
    eventually(lambda: bool(watched.of(SourceGone)))
    time.sleep(CALM_S / 2)
    assert len(watched.files()) == 2


def test_another_writer_is_waited_for_and_told_once(watched, folder):
    with watched.library.writer():
        picture(folder / "c.png", 2)
        eventually(lambda: len(watched.of(Waiting)) == 1)
        time.sleep(CALM_S / 2)
    eventually(lambda: len(watched.files()) == 3)
    assert len(watched.of(Waiting)) == 1


def test_polling_finds_changes_too(library, tiny_encoder, folder):
    with watching(library, tiny_encoder, folder, poll=0.3) as watcher:
        eventually(lambda: bool(watcher.of(Watching)))
        assert watcher.of(Watching)[0].polled == (str(folder),)
        picture(folder / "c.png", 2)
        eventually(lambda: len(watcher.files()) == 3)
        (folder / "c.png").rename(folder / "d.png")
        eventually(lambda: str(folder / "d.png") in watcher.files())
        eventually(lambda: watcher.total("moved") == 1)


def test_name_that_is_not_valid_text_is_found(watched, folder):
    name = Path(os.fsdecode(os.fsencode(folder) + b"/\xff.png"))
    shutil.copy(folder / "a.png", folder.parent / "copy.png")
    os.rename(folder.parent / "copy.png", name)  # noqa: PTH104
    eventually(lambda: str(name) in watched.files())
    picture(folder / "c.png", 2)
    eventually(lambda: str(folder / "c.png") in watched.files())


def test_source_whose_name_is_not_valid_text_is_polled(library, tiny_encoder, tmp_path):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    picture(tmp_path / "a.png", 0)
    folder.mkdir()
    (tmp_path / "a.png").rename(folder / "a.png")
    with watching(library, tiny_encoder, folder) as watcher:
        eventually(lambda: bool(watcher.of(Watching)))
        assert [event.paths for event in watcher.of(Polling)] == [(str(folder),)]
        eventually(lambda: len(watcher.files()) == 1)


def test_source_that_is_a_file(library, tiny_encoder, folder):
    with watching(library, tiny_encoder, folder / "a.png") as watcher:
        eventually(lambda: watcher.holds(folder / "a.png"))
        before = watcher.files()
        picture(folder / "a.png", 5)
        eventually(lambda: watcher.files() not in ({}, before))


def test_path_that_does_not_exist_is_an_error(library, tiny_encoder, tmp_path):
    with (
        pytest.raises(NotFoundError, match="nothing at"),
        watching(library, tiny_encoder, tmp_path / "missing"),
    ):
        pass


def test_stopping_in_the_middle_keeps_what_was_embedded(library, tiny_encoder, folder):
    for number in range(30):
        picture(folder / "more" / f"{number}.png", 40 + number)
    stop = threading.Event()
    seen = []

    def note(progress) -> None:
        seen.append(progress)
        if progress.done >= 4:
            stop.set()

    watch_sources(
        library,
        tiny_encoder,
        [folder],
        on_event=lambda _: None,
        stop_event=stop,
        batch_size=4,
        workers=1,
        on_progress=note,
    )
    held = len(Watcher(library).files())
    assert 4 <= held < 32
    assert index_sources(library, tiny_encoder).added == 32 - held


def test_renamed_source_is_followed_when_it_is_watched_again(library, tiny_encoder, folder):
    index_sources(library, tiny_encoder, [folder])
    new = folder.rename(folder.with_name("renamed"))
    with watching(library, tiny_encoder, new) as watcher:
        eventually(lambda: bool(watcher.of(Watching)))
        assert watcher.total("embedded") == 0
        assert watcher.holds(new / "a.png", new / "sub" / "b.png")
    with library.catalog.snapshot() as snapshot:
        assert snapshot.sources() == [str(new)]


def test_source_that_is_relocated_while_it_is_watched_is_left_alone(library, tiny_encoder, folder):
    with watching(library, tiny_encoder, folder) as watcher:
        eventually(lambda: watcher.holds(folder / "a.png", folder / "sub" / "b.png"))
        new = folder.rename(folder.with_name("renamed"))
        eventually(lambda: bool(watcher.of(SourceGone)))
        eventually(lambda: relocated(library, folder, new))
        time.sleep(1.5)
        assert watcher.holds(new / "a.png", new / "sub" / "b.png")


def relocated(library: Library, old: Path, new: Path) -> bool:
    with suppress(LibraryLockedError):
        return library.relocate(old, new).relocated == 2
    return False


def test_a_source_on_a_server_is_polled(tmp_path, tiny_encoder, web):  # noqa: F811
    web.files["/p/a.png"] = picture(tmp_path / "a.png", 1).read_bytes()
    root = web.address + "/p"
    trust_uri(root)
    library = create_library(tmp_path / "library", tiny_encoder.space)

    def found() -> set[str]:
        with library.catalog.snapshot() as snapshot:
            known = snapshot.files_below([root], library.space().id)
            return {f.path for f in known if f.state is FileState.INDEXED}

    with watching(library, tiny_encoder, root) as watcher:
        eventually(lambda: bool(watcher.of(Watching)))
        assert found() == {f"{root}/a.png"}
        assert watcher.of(Watching)[0].polled == (root,)
    with watching(library, tiny_encoder, root, poll=0.2):
        web.files["/p/b.png"] = picture(tmp_path / "b.png", 2).read_bytes()
        eventually(lambda: len(found()) == 2)
        del web.files["/p/a.png"]
        eventually(lambda: found() == {f"{root}/b.png"})
    library.close()


def test_subtitles_that_come_later_are_taken(tmp_path):
    pytest.importorskip("av", reason="FFmpeg reads subtitles")
    films = tmp_path / "films"
    save_video(films / "film.mp4")
    library = create_library(tmp_path / "library", BlockEncoder().space)
    library.set_enrichment({Task.SPEECH: "sidecar"})
    recognizers = Recognizers()

    def enrich(should_stop):
        return enrich_library(library, [BlockEncoder()], recognizers, should_stop=should_stop)

    with watching(library, BlockEncoder(), films, enrich=enrich) as watcher:
        eventually(lambda: sum(event.looked_at for event in watcher.of(FoundTexts)) == 1)
        (films / "film.srt").write_text("1\n00:00:00,500 --> 00:00:01,000\nharbour\n")
        eventually(lambda: sum(event.with_text for event in watcher.of(FoundTexts)) == 1)


def test_texts_are_looked_for_while_nothing_changes(tmp_path):
    """Also when a change comes in between, which is taken up first."""
    library = create_library(tmp_path / "library", BlockEncoder().space)
    library.set_enrichment({Task.OCR: "blocks"})
    photos = tmp_path / "photos"
    for number in range(12):
        save(photos / f"{number}.png", f"number {number}")
    added = threading.Event()

    class Slow(BlockReader):
        batch_size = 1

        def recognize(self, images):
            if self.looked_at == 3:
                save(photos / "new.png", "new")
                added.set()
            time.sleep(0.1)
            return super().recognize(images)

    reader = Slow()
    recognizers = Recognizers(lambda *_: reader)

    def enrich(should_stop):
        return enrich_library(
            library, [BlockEncoder()], recognizers, limit=5, workers=1, should_stop=should_stop
        )

    with watching(library, BlockEncoder(), photos, enrich=enrich) as watcher:
        eventually(lambda: sum(event.looked_at for event in watcher.of(FoundTexts)) == 13)
        assert added.is_set()
        assert reader.looked_at == 13
        names = [type(event).__name__ for event in watcher.events]
        assert names.index("Watching") < names.index("FoundTexts")

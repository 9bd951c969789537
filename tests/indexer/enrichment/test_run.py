"""Models look at what is indexed: each picture once, whatever ends the process."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from indexer.decoder_pool import DecoderPool
from indexer.enrichment import run
from indexer.enrichment.run import EnrichmentSummary, enrich
from indexer.pipeline import index_sources, remove_paths
from retrieval.encoders.registry import LOADERS
from retrieval.errors import UsageError
from retrieval.integrity.check import check_library
from retrieval.library import create_library, open_library
from retrieval.media import MediaKind, Modality
from retrieval.recognition.base import Recognized, Segment, Task
from retrieval.search import joint
from tests.block_codes import BlockEncoder, BlockReader, draw, save

ENCODER = BlockEncoder()
RECEIPT = "Supermarket\nTotal 42.90 EUR"
CHINESE = "收据 合计 四十二元"


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "photos"
    save(folder / "receipt.png", RECEIPT)
    save(folder / "copy" / "receipt.png", RECEIPT)
    save(folder / "chinese.png", CHINESE)
    draw("").resize((64, 64)).crop((40, 40, 64, 64)).save(folder / "nothing.png")
    return folder


@pytest.fixture(scope="module")
def readers():
    with DecoderPool(1) as pool:
        yield pool


@pytest.fixture
def index(folder, readers, monkeypatch):
    """Bring a library up to date with the folder."""
    monkeypatch.setitem(LOADERS, "blocks", lambda *_: ENCODER)

    def index(library, encoder=ENCODER, **options):
        return index_sources(library, encoder, [folder], readers=readers, **options)

    return index


@pytest.fixture
def library(tmp_path, folder, index):
    library = create_library(tmp_path / "library", ENCODER.space)
    index(library)
    return library


@pytest.fixture
def look(library):
    """Let a reader look; returns what was done."""

    def look(reader=None, **options) -> EnrichmentSummary:
        return enrich(library, ENCODER, Task.OCR, lambda: reader or BlockReader(), **options)

    return look


def found(library, text: str, modality: str = "image") -> list[str]:
    """Names of the files that the words of a query find."""
    answer = library.search(text, modality=modality, mode="text")
    return sorted(Path(hit.path).name for hit in answer)


def texts_of(library, space_id: str | None = None) -> dict[str, list[str]]:
    """Found passages by path."""
    with library.catalog.snapshot() as snapshot:
        items = snapshot.items(space_id or library.space().id, modality=Modality.TEXT, limit=1000)
    texts: dict[str, list[str]] = {}
    for item in items:
        if item.found_by:
            texts.setdefault(Path(item.path).name, []).append(item.text)
    return texts


@pytest.mark.slow
def test_each_picture_is_looked_at_once_and_its_text_is_found(library, look):
    reader = BlockReader()
    events = []
    summary = look(reader, on_progress=events.append)
    assert (summary.looked_at, summary.with_text, summary.failed) == (3, 2, 0)
    assert reader.looked_at == 3
    assert [event.done for event in events] == sorted(event.done for event in events)
    assert (events[-1].done, events[-1].total) == (3, 3)
    assert found(library, "supermarket") == ["receipt.png", "receipt.png"]
    assert found(library, "合计") == ["chinese.png"]
    assert found(library, "supermarket", "text") == ["receipt.png", "receipt.png"]
    # Of the picture and its text a search for both shows the picture, with the text.
    hits = library.search("合计", modality="any", mode="text").hits
    assert [(hit.item.modality, hit.item.text) for hit in hits] == [(Modality.IMAGE, CHINESE)]
    again = look(reader)
    assert (again.looked_at, again.passages, reader.looked_at) == (0, 0, 3)
    assert check_library(library).problems == []


@pytest.mark.slow
def test_passages_have_the_vectors_of_their_texts(library, look):
    look()
    space = library.space()
    with library.catalog.snapshot() as snapshot:
        items = snapshot.items(space.id, modality=Modality.TEXT, limit=10)
        rows = snapshot.item_rows(space.id, [item.id for item in items])
        count = snapshot.row_count(space.id, Modality.TEXT)
    stored = library.embeddings(space, Modality.TEXT).rows(count)
    assert len(items) == 3
    for item in items:
        [expected] = np.asarray(ENCODER.encode(Modality.TEXT, [item.text]), np.float16)
        assert stored[rows[item.id][1]] == pytest.approx(expected, abs=2e-3)
    # Copies share a vector.
    assert len({rows[item.id][1] for item in items if item.text == items[0].text}) == 1


@pytest.mark.slow
def test_moved_copied_changed_and_removed_files(library, look, folder, index):
    reader = BlockReader()
    look(reader)
    (folder / "receipt.png").rename(folder / "moved.png")
    shutil.copyfile(folder / "chinese.png", folder / "chinese copy.png")
    save(folder / "nothing.png", "now it says more")
    shutil.rmtree(folder / "copy")
    index(library)
    assert found(library, "supermarket") == ["moved.png"]
    assert texts_of(library) == {
        "moved.png": [RECEIPT],
        "chinese.png": [CHINESE],
        "chinese copy.png": [CHINESE],
    }
    summary = look(reader)
    assert (summary.looked_at, summary.passages, reader.looked_at) == (1, 1, 4)
    assert found(library, "more") == ["nothing.png"]
    remove_paths(library, [folder / "moved.png"])
    assert found(library, "supermarket") == found(library, "supermarket", "text") == []
    index(library, refresh_metadata=True)
    assert found(library, "supermarket") == ["moved.png"]
    assert look(reader).looked_at == 0
    assert check_library(library).problems == []


@pytest.mark.slow
def test_another_model_looks_again_only_when_asked_to(library, look):
    look()
    newer = BlockReader("blocks/2", suffix=" (read better)")
    assert look(newer).looked_at == 0
    summary = look(newer, renew=True)
    assert (summary.looked_at, summary.with_text) == (3, 2)
    assert found(library, "better") == ["chinese.png", "receipt.png", "receipt.png"]
    assert set(texts_of(library)["chinese.png"]) == {f"{CHINESE} (read better)"}
    assert look(newer, renew=True).looked_at == 0


@pytest.mark.slow
def test_a_picture_that_cannot_be_read_has_failed_and_one_that_changed_waits(library, look, folder):
    (folder / "nothing.png").write_bytes(b"now it is something else")
    save(folder / "chinese.png", "cut off", size=(100, 40))
    summary = look()
    assert (summary.looked_at, summary.skipped, summary.failed) == (1, 2, 0)

    class Blind(BlockReader):
        def recognize(self, images):
            return [Recognized(failure="too dark") for _ in images]

    save(folder / "chinese.png", CHINESE)
    save(folder / "new.png", "unread")
    os.utime(folder / "chinese.png")
    summary = look(Blind("blind/1"))
    assert summary.failed == summary.looked_at == 1
    assert look().looked_at == 0
    assert look(retry_failed=True).with_text == 1


@pytest.mark.slow
def test_a_stopped_run_goes_on_and_a_limit_holds(library, look, folder, index):
    for number in range(6):
        save(folder / f"{number}.png", f"number {number}")
    index(library)
    reader = BlockReader()
    first = look(reader, should_stop=lambda: reader.looked_at >= 4)
    assert first.interrupted
    assert first.looked_at == reader.looked_at == 4
    limited = look(reader, limit=2)
    assert (limited.interrupted, limited.looked_at) == (True, 2)
    assert (look(reader).interrupted, reader.looked_at) == (False, 9)
    assert found(library, "5") == ["5.png"]


@pytest.mark.slow
def test_a_second_space_gets_the_passages_without_another_look(library, look, index):
    look()
    other = BlockEncoder("others")
    library.add_space(other.space)
    index(library, other)
    assert texts_of(library, other.space.id) == {}
    reader = BlockReader()
    summary = enrich(library, other, Task.OCR, lambda: reader)
    assert (summary.passages, reader.looked_at) == (3, 0)
    assert texts_of(library, other.space.id) == texts_of(library)
    library.remove_space(other.space.id)
    assert len(texts_of(library)) == 2


def test_a_model_of_another_task_is_refused(library, look):
    reader = BlockReader()
    reader.task = Task.CAPTION
    with pytest.raises(UsageError, match="blocks/1 is a model for caption"):
        look(reader)


class Listener:
    """Hears what the name of a file says, a second a word."""

    task = Task.SPEECH
    identity = "names/1"

    def transcribe(self, path, *, on_progress=lambda _: None, should_stop=lambda: False):
        words = Path(path).stem.split()
        if "broken" in words:
            raise OSError("no sound track")
        return Recognized([Segment(word, None, None, n, n + 1.0) for n, word in enumerate(words)])


@pytest.mark.slow
def test_speech_becomes_words_of_its_file_and_passages_with_times(
    library, index, folder, short_video
):
    shutil.copyfile(short_video, folder / "good morning.webm")
    content = short_video.read_bytes()
    (folder / "broken.webm").write_bytes(content + b"\0")  # other content, the same frames
    index(library)
    summary = enrich(library, ENCODER, Task.SPEECH, Listener)
    assert (summary.looked_at, summary.with_text, summary.failed) == (2, 1, 1)
    [hit] = library.search("morning", modality="text", mode="text").hits
    assert (hit.item.kind, hit.item.found_by) == (MediaKind.VIDEO, Task.SPEECH)
    assert (hit.item.start_s, hit.item.end_s, hit.item.text) == (1.0, 2.0, "good\nmorning")
    assert hit.item.has_picture


PROGRAM = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from indexer.enrichment import run
from retrieval.catalog import Transaction
from retrieval.embeddings import EmbeddingsFile
from retrieval.library import open_library
from retrieval.recognition.base import Task
from tests.block_codes import BlockEncoder, BlockReader

where, step, _ = sys.argv[1:]
owner, name, after = {
    "look": (BlockReader, "recognize", False),
    "vectors": (EmbeddingsFile, "write", True),
    "in transaction": (Transaction, "record_enrichments", True),
}[step]
original = getattr(owner, name)
calls = iter(range(1, 100))

def wrapped(*args, **options):
    is_last = next(calls) == 2
    if is_last and not after:
        os.kill(os.getpid(), signal.SIGKILL)
    result = original(*args, **options)
    if is_last:
        os.kill(os.getpid(), signal.SIGKILL)
    return result

setattr(owner, name, wrapped)
run._COMMITTED = BlockReader.batch_size = 2
run.enrich(open_library(where), BlockEncoder(), Task.OCR, BlockReader)
"""


@pytest.mark.slow
def test_a_kill_at_any_step_loses_at_most_the_batch_in_flight(library, index, folder):
    for number in range(9):
        save(folder / f"{number}.png", f"number {number}")
    index(library)
    done = 0
    for step in ("look", "vectors", "in transaction"):
        root = Path(run.__file__).parents[2]
        arguments = [library.path, step, root]
        killed = subprocess.run(
            [sys.executable, "-c", PROGRAM, *map(str, arguments)],
            check=False,
            capture_output=True,
            text=True,
        )
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        opened = open_library(library.path)
        with opened.catalog.snapshot() as snapshot:
            [counts] = snapshot.enrichment_counts().values()
        assert counts.looked_at == done + 2  # of a batch and another one, which was killed
        done = counts.looked_at
        assert check_library(opened).problems == []
        opened.close()
    reader = BlockReader()
    summary = enrich(library, ENCODER, Task.OCR, lambda: reader)
    assert reader.looked_at == summary.looked_at == 12 - done
    assert all(found(library, str(number)) == [f"{number}.png"] for number in range(9))
    assert len(texts_of(library)) == 11
    assert check_library(library).problems == []


@pytest.mark.slow
def test_a_few_letters_are_found_by_their_words_alone(library, look, folder, index, monkeypatch):
    contract = "The tenant pays a deposit\nbefore moving in"
    save(folder / "contract.png", contract)
    save(folder / "shirt.png", "Runner 17")
    index(library)
    look()
    monkeypatch.setattr(joint, "MIN_PASSAGE_RELEVANCE", 0.0)
    for text, has_meaning in [(contract, True), ("Runner 17", False)]:
        by_meaning = library.search(text, modality="any", mode="vector").hits
        assert (text in [hit.item.text for hit in by_meaning]) is has_meaning
        assert text in [hit.item.text for hit in library.search(text, modality="any").hits]

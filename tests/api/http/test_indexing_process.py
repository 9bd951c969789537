"""The process that indexes beside a service: its answers, its failures and its end."""

import asyncio
import io
import json
import os
import shutil
import signal
import sys
import threading
from dataclasses import asdict
from types import SimpleNamespace

import pytest
from PIL import Image

from api.http.indexing_process import (
    IndexingFailedError,
    IndexingProcess,
    IndexingRequest,
    Outcome,
    Step,
    _Indexing,
)
from api.http.schemas.jobs import JobResult
from retrieval.encoders.open_clip import OpenClipEncoder
from retrieval.encoders.trust import trust
from retrieval.errors import LibraryLockedError, UsageError
from retrieval.recognition.base import Task
from retrieval.recognition.registry import LOADERS
from retrieval.spaces import list_spaces
from tests.block_codes import BlockReader


@pytest.mark.slow
def test_one_process_runs_after_run_and_outlives_a_failure(indexed_library, picture_folder):
    Image.new("RGB", (48, 40), "red").save(picture_folder / "new.png")
    space_id = indexed_library.space().id

    async def run() -> None:
        process = IndexingProcess(indexed_library.path, space_id, "cpu")
        assert process.pid is None
        steps: list[Step] = []
        outcome = await process.run(IndexingRequest(), steps.append)
        assert (outcome.counts["added"], outcome.counts["unchanged"]) == (1, 6)
        assert not outcome.is_interrupted
        assert steps[-1].stage == "files"
        assert steps[-1].done == steps[-1].total >= 1
        pid = process.pid
        with indexed_library.writer(), pytest.raises(LibraryLockedError, match="Another process"):
            await process.run(IndexingRequest(), steps.append)
        (picture_folder / "new.png").unlink()
        within = IndexingRequest(within=(str(picture_folder / "folder 0"),))
        outcome = await process.run(within, steps.append)
        assert (outcome.counts["unchanged"], outcome.counts["removed"]) == (3, 0)
        assert process.pid == pid
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(IndexingFailedError, match=r"killed by signal 9 \(out of memory\?\)"):
            await process.run(IndexingRequest(), steps.append)
        assert process.pid is None
        await process.close()

    asyncio.run(run())


@pytest.fixture
def answered(indexed_library):
    """Answer a run in this process; gives its messages."""

    def answer(*, cancelled: bool = False, space: str | None = None, **request) -> list[dict]:
        replies, stop = io.StringIO(), threading.Event()
        if cancelled:
            stop.set()
        indexing = _Indexing(replies)
        asked = asdict(IndexingRequest()) | {"device": "cpu", "library": indexed_library.path}
        chosen = {"space": space or indexed_library.space().id}
        indexing.answer(asked | chosen | request, stop)
        indexing.close()
        return [json.loads(line) for line in replies.getvalue().splitlines()]

    return answer


def test_a_run_ends_with_one_outcome(answered):
    *steps, last = answered()
    assert all(set(step) == {"step"} for step in steps)
    outcome = Outcome(**last["outcome"])
    assert (outcome.counts["found"], outcome.counts["unchanged"]) == (6, 6)
    assert (outcome.indices, outcome.problems) == ([], [])


def test_all_spaces_are_kept_complete(answered, indexed_library, other_checkpoint, tmp_path):
    """One whose encoder is gone is told of, and leaves the run as it is."""
    folder = shutil.copytree(other_checkpoint, tmp_path / "other model")
    trust(folder)
    indexed_library.add_space(OpenClipEncoder(f"local-dir:{folder}").space)
    outcome = Outcome(**answered()[-1]["outcome"])
    assert (outcome.counts["embedded"], outcome.problems) == (6, [])
    assert [space.files_behind for space in list_spaces(indexed_library)] == [0, 0]
    shutil.rmtree(folder)
    picture = next(tmp_path.rglob("picture-0.png"))
    Image.new("RGB", (48, 40), "red").save(picture.with_name("new.png"))
    outcome = Outcome(**answered()[-1]["outcome"])
    assert outcome.counts["added"] == 1
    [problem] = outcome.problems
    assert "left behind" in problem
    assert str(folder) in problem
    assert [space.files_behind for space in list_spaces(indexed_library)] == [0, 1]


def test_a_run_for_texts_looks_at_what_is_indexed(answered, indexed_library, monkeypatch):
    module = SimpleNamespace(load_recognizer=lambda _: BlockReader())
    monkeypatch.setitem(sys.modules, LOADERS[Task.OCR], module)

    def load(name):
        raise UsageError(f"There is no model {name}.")

    missing = SimpleNamespace(load_recognizer=load)
    monkeypatch.setitem(sys.modules, LOADERS[Task.CAPTION], missing)
    indexed_library.set_enrichment({Task.OCR: "blocks", Task.CAPTION: "x"})
    *steps, last = answered(texts=True)
    assert steps[-1]["step"] == {"stage": "ocr", "done": 6, "total": 6, "failed": 0}
    outcome = Outcome(**last["outcome"])
    assert outcome.counts["texts"][0] == {
        "task": "ocr",
        "looked_at": 6,
        "with_text": 0,
        "failed": 0,
    }
    assert outcome.problems == ["caption: There is no model x."]
    assert JobResult.model_validate(outcome.counts).texts[0].looked_at == 6
    assert Outcome(**answered(texts=True, cancelled=True)[-1]["outcome"]).is_interrupted


def test_a_run_that_was_cancelled_says_so(answered, picture_folder):
    shutil.copy(picture_folder / "folder 0" / "picture-0.png", picture_folder / "new.png")
    Image.new("RGB", (48, 40), "red").save(picture_folder / "red.png")
    outcome = Outcome(**answered(cancelled=True)[-1]["outcome"])
    assert outcome.is_interrupted
    assert outcome.counts["embedded"] == 0


def test_sources_and_paths_within_them_are_counted_together(answered, picture_folder, tmp_path):
    (tmp_path / "more").mkdir()
    Image.new("RGB", (48, 40), "red").save(tmp_path / "more" / "red.png")
    within = [str(picture_folder / "folder 0")]
    outcome = Outcome(**answered(sources=[str(tmp_path / "more")], within=within)[-1]["outcome"])
    assert (outcome.counts["added"], outcome.counts["unchanged"]) == (1, 3)


def test_what_is_expected_to_fail_is_told_and_anything_else_stays_in_the_log(answered, caplog):
    [failed] = answered(space="nonsense")
    assert "nonsense" in failed["error"]
    [failed] = answered(library=7)
    assert failed == {"error": "Indexing failed unexpectedly; see the log of the service."}
    assert "Traceback" in caplog.text


def test_a_renamed_source_is_followed(answered, picture_folder, tmp_path):
    new = picture_folder.rename(tmp_path / "renamed")
    outcome = Outcome(**answered(sources=[str(new)])[-1]["outcome"])
    counts = outcome.counts
    assert (counts["relocated"], counts["added"], counts["embedded"]) == (6, 0, 0)
    assert counts["notes"] == [f"{picture_folder} was moved to {new}: 6 of its 6 files are there."]
    assert JobResult.model_validate(counts).notes == counts["notes"]

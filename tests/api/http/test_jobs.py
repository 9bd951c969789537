"""Jobs over real HTTP: indexing in a process beside the service, followed, cancelled, killed."""

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from api.http.indexing_process import IndexingRequest, Outcome, Step
from api.http.jobs import JobRunner
from api.http.schemas.jobs import JobKind, JobState
from indexer.pipeline import index_sources
from retrieval.errors import LibraryLockedError
from retrieval.library import create_library
from retrieval.media import MediaKind

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[3]
FINAL = {"succeeded", "failed", "cancelled"}


def add_photos(folder: Path, count: int, *, start: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(start, start + count):
        pixels = np.random.default_rng(seed).integers(0, 256, (40, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"photo-{seed:04}.jpg")


@pytest.fixture(scope="module")
def library(tmp_path_factory, tiny_encoder):
    folder = tmp_path_factory.mktemp("jobs")
    add_photos(folder / "photos", 3)
    library = create_library(folder / "library", tiny_encoder.space)
    index_sources(library, tiny_encoder, [folder / "photos"])
    yield library
    library.close()


@pytest.fixture(scope="module")
def service(library, running_service):
    with running_service(library, library.path.parent / "photos") as running:
        yield running


@pytest.fixture
def album(service, request):
    """A folder for one test in the source of the library; nothing is left of it."""
    album = service.photos / request.node.name[:60]
    album.mkdir()
    yield album
    shutil.rmtree(album)


def start(service, *paths: Path) -> dict:
    answer = service.client.post("/v1/index", json={"paths": [str(path) for path in paths] or None})
    assert answer.status_code == 202
    return answer.json()


def index(service, *paths: Path) -> dict:
    return service.finished(start(service, *paths))


def wait_for_progress(service, job: dict) -> None:
    while service.client.get(f"/v1/jobs/{job['id']}").json()["progress"]["done"] == 0:
        time.sleep(0.01)


def test_indexing_takes_up_what_is_new(service, album):
    add_photos(album, 2, start=10)
    answer = service.client.post("/v1/index")
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/v1/jobs/{answer.json()['id']}"
    job = service.finished(answer.json())
    assert job["state"] == "succeeded"
    assert (job["result"]["added"], job["result"]["failed"]) == (2, 0)
    assert job["progress"]["stage"] == "files"
    assert job["progress"]["done"] == job["progress"]["total"] >= 2
    assert len(service.paths(album)) == 2
    assert service.client.get("/v1/jobs").json()["jobs"][0] == job


def test_indexing_a_part_leaves_the_rest_and_adds_no_source(service, album):
    add_photos(album / "a", 1, start=20)
    add_photos(album / "b", 1, start=21)
    job = index(service, album / "a")
    assert job["result"]["added"] == 1
    assert service.paths(album) == {str(album / "a" / "photo-0020.jpg")}
    assert service.client.get("/v1/stats").json()["sources"] == [str(service.photos)]


def test_an_ignored_file_cannot_be_indexed_by_naming_it(service, album):
    add_photos(album / ".private", 1, start=30)
    job = index(service, album / ".private", album / ".private" / "photo-0030.jpg")
    assert (job["state"], job["result"]["added"]) == ("succeeded", 0)


def test_jobs_wait_for_each_other_and_equal_ones_are_one(service, album):
    add_photos(album, 100, start=40)
    first = start(service)
    while service.client.get(f"/v1/jobs/{first['id']}").json()["state"] == "waiting":
        time.sleep(0.01)
    second, third = start(service), start(service)
    assert first["id"] != second["id"] == third["id"]
    assert second["state"] == "waiting"
    cancelled = service.client.delete(f"/v1/jobs/{second['id']}").json()
    assert cancelled["state"] == "cancelled"
    assert service.finished(first)["state"] == "succeeded"
    refused = service.client.delete(f"/v1/jobs/{first['id']}")
    assert (refused.status_code, refused.json()["status"]) == (409, 409)
    assert service.client.get("/v1/jobs/nowhere").status_code == 404


def test_too_many_jobs_are_refused_with_a_time_to_come_back(service, album, monkeypatch):
    monkeypatch.setattr("api.http.jobs._MOST_WAITING", 3)  # all come while the first one runs
    add_photos(album, 400, start=4000)
    first = start(service, album)
    wait_for_progress(service, first)
    answers = [
        service.client.post("/v1/index", json={"paths": [str(service.photos / name)]})
        for name in "abcd"
    ]
    assert [answer.status_code for answer in answers] == [202, 202, 202, 429]
    assert int(answers[-1].headers["retry-after"]) > 0
    for job in (first, *(answer.json() for answer in answers[:-1])):
        service.client.delete(f"/v1/jobs/{job['id']}")


def events(lines: Iterator[str]) -> Iterator[dict[str, str]]:
    """The events of a stream, as the standard says to read them; without comments."""
    event: dict[str, str] = {}
    for line in lines:
        if not line:
            if event:
                yield event
            event = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(": ")
            event[name] = value


def test_following_a_job_by_server_sent_events(service, album):
    add_photos(album, 200, start=200)
    job = start(service)
    url, accept = f"/v1/jobs/{job['id']}", {"Accept": "text/event-stream"}
    with service.client.stream("GET", url, headers=accept) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        seen = list(events(stream.iter_lines()))
    assert seen[0] == {"retry": "2000"}
    told = [event for event in seen if "data" in event]
    ids = [int(event["id"]) for event in told]
    assert ids == sorted(set(ids))
    assert {event["event"] for event in told[:-1]} == {"progress"}
    assert told[-1]["event"] == "succeeded"
    done = [json.loads(event["data"])["progress"]["done"] for event in told]
    assert done == sorted(done)
    assert len(set(done)) > 2
    assert json.loads(told[-1]["data"]) == service.client.get(url).json()

    back = accept | {"Last-Event-ID": str(ids[-2])}
    with service.client.stream("GET", url, headers=back) as stream:
        [_, last] = events(stream.iter_lines())
    assert last == told[-1]
    nothing_more = service.client.get(url, headers=accept | {"Last-Event-ID": str(ids[-1])})
    assert nothing_more.status_code == 204


def test_searches_go_on_while_a_job_runs(service, album):
    add_photos(album, 400, start=500)
    job = start(service)
    counts = []
    while service.client.get(f"/v1/jobs/{job['id']}").json()["state"] not in FINAL:
        counts.append(len(service.paths(album)))
    assert counts == sorted(counts)
    assert len(set(counts)) > 2
    assert len(service.paths(album)) == 400


def test_a_running_job_is_cancelled_after_its_batch_and_another_completes_it(service, album):
    add_photos(album, 300, start=1000)
    job = start(service)
    wait_for_progress(service, job)
    assert service.client.delete(f"/v1/jobs/{job['id']}").json()["cancelling"] is True
    cancelled = service.finished(job)
    assert cancelled["state"] == "cancelled"
    assert cancelled["result"]["interrupted"] is True
    kept = len(service.paths(album))
    assert 0 < kept < 300
    assert kept == cancelled["result"]["added"]
    assert index(service)["result"]["added"] == 300 - kept


def test_a_killed_indexing_process_fails_its_job_only(service, album):
    add_photos(album, 300, start=2000)
    job = start(service)
    wait_for_progress(service, job)
    os.kill(service.pid, signal.SIGKILL)
    failed = service.finished(job)
    assert failed["state"] == "failed"
    assert "killed by signal 9" in failed["error"]
    assert 0 < len(service.paths(album)) < 300
    assert index(service)["state"] == "succeeded"
    assert len(service.paths(album)) == 300


def test_a_job_waits_for_another_process_that_writes_to_the_library(service, album):
    with service.library.writer():
        job = start(service)
        time.sleep(2)
        waiting = service.client.get(f"/v1/jobs/{job['id']}").json()
        assert waiting["state"] == "running"
    assert service.finished(job)["state"] == "succeeded"


def test_more_folders_are_allowed_and_the_end_cancels_the_job_and_keeps_what_was_embedded(
    tmp_path, tiny_encoder, running_service
):
    album = tmp_path / "more" / "album"
    count = 1200  # so that the job goes on when the service ends, on a busy machine, too
    add_photos(album, count, start=3000)
    add_photos(tmp_path / "photos", 1)
    library = create_library(tmp_path / "library", tiny_encoder.space)
    index_sources(library, tiny_encoder, [tmp_path / "photos"])
    with running_service(library, tmp_path / "photos", index_below=(tmp_path / "more",)) as service:
        job = start(service, album)
        wait_for_progress(service, job)
        assert str(album) in service.client.get("/v1/stats").json()["sources"]
        pid = service.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with library.catalog.snapshot() as snapshot:
        kept = snapshot.counts(tiny_encoder.space.id).items["image"] - 1
    assert 0 < kept < count
    assert index_sources(library, tiny_encoder).added == count - kept
    library.close()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_service_that_ends_in_mid_job_loses_at_most_a_batch(tmp_path, tiny_encoder, how):
    """Also one whose job is being followed, and one that is killed."""
    photos = tmp_path / "photos"
    add_photos(photos, 1)
    library = create_library(tmp_path / "library", tiny_encoder.space)
    index_sources(library, tiny_encoder, [photos])
    add_photos(photos, 600, start=1)
    program = "from api.cli import main; main()"
    command = [sys.executable, "-c", program, "serve", "--port", "0", "--rerank", "none"]
    environment = os.environ | {"MMSEARCH_LIBRARY": str(library.path)}
    with subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY
    ) as process:
        log: list[str] = []
        for line in process.stderr:
            log.append(line)
            if found := re.search(r"running on (http://[0-9.:]+)", line):
                break
        else:
            raise AssertionError("".join(log))
        threading.Thread(target=process.stderr.read, daemon=True).start()
        with httpx.Client(base_url=found[1], timeout=60) as client:
            job = client.post("/v1/index").json()
            url, accept = f"/v1/jobs/{job['id']}", {"Accept": "text/event-stream"}
            told = []
            with (
                suppress(httpx.RemoteProtocolError),
                client.stream("GET", url, headers=accept) as stream,
            ):
                for event in events(stream.iter_lines()):
                    told.append(event)
                    if "data" in event and json.loads(event["data"])["progress"]["done"]:
                        process.send_signal(how)
            assert told
        assert process.wait(60) == -how  # uvicorn passes SIGTERM on when it has finished
    for _ in range(600):
        try:
            added = index_sources(library, tiny_encoder).added
            break
        except LibraryLockedError:  # the process that indexes finishes its batch
            time.sleep(0.1)
    assert 0 < added < 600
    with library.catalog.snapshot() as snapshot:
        assert snapshot.counts(tiny_encoder.space.id).items["image"] == 601
    library.close()


def test_failed_files_are_read_again_when_asked(service, album):
    broken = album / "broken.jpg"
    broken.write_bytes(b"nothing")
    os.utime(broken, (1.4e9, 1.4e9))  # a failure of a file that was just written is tried again
    assert index(service, album)["progress"]["total"] == 1
    unchanged = index(service, album)
    assert (unchanged["progress"]["total"], unchanged["result"]["failed"]) == (0, 1)
    asked = {"paths": [str(broken)], "retry_failed": True}
    job = service.finished(service.client.post("/v1/index", json=asked).json())
    assert (job["progress"]["total"], job["result"]["failed"]) == (1, 1)
    assert (job["paths"], job["retry_failed"]) == ([str(broken)], True)


def test_options_are_remembered_by_the_source(service, library):
    photos = service.photos
    (photos / ".hidden").mkdir()
    try:
        add_photos(photos / ".hidden", 1, start=900)
        asked = {"paths": [str(photos)], "hidden": True, "kinds": ["image", "text"]}
        job = service.finished(service.client.post("/v1/index", json=asked).json())
        assert (job["state"], job["result"]["added"]) == ("succeeded", 1)
        with library.catalog.snapshot() as snapshot:
            options = snapshot.source_options()[str(photos)]
        assert options == {"hidden": True, "kinds": ["image", "text"]}
        assert index(service, photos)["result"]["removed"] == 0
    finally:
        shutil.rmtree(photos / ".hidden")
        asked = {"paths": [str(photos)], "hidden": False, "kinds": list(MediaKind)}
        service.finished(service.client.post("/v1/index", json=asked).json())


class Process:
    """Answers as the indexing process does; a run for texts lasts until it is cancelled."""

    def __init__(self) -> None:
        self.runs: list[IndexingRequest] = []
        self._cancelled = asyncio.Event()

    def cancel(self) -> None:
        self._cancelled.set()

    async def run(self, request: IndexingRequest, on_step) -> Outcome:
        self.runs.append(request)
        interrupted = False
        if request.texts and sum(run.texts for run in self.runs) == 1:
            on_step(Step("ocr", 1, 2))
            await self._cancelled.wait()
            interrupted = True
        return Outcome({"interrupted": interrupted})

    async def close(self, limit_s: float = 0.0) -> None:
        self._cancelled.set()


def test_a_job_for_texts_follows_what_was_indexed_and_gives_way_to_others():
    async def run() -> tuple[list[bool], list[JobState]]:
        process, stopping = Process(), asyncio.Event()
        waits = iter(["ocr", "ocr", None])

        async def texts_wait() -> str | None:
            return next(waits, None)

        runner = JobRunner(process, stopping, texts_wait)
        runner.submit(JobKind.INDEX, IndexingRequest())
        while not any(job.step.stage == "ocr" for job in runner.jobs()):
            await asyncio.sleep(0.01)
        second = runner.submit(JobKind.INDEX, IndexingRequest(retry_failed=True))
        await runner.wait(second, 5)
        [texts] = [job for job in runner.jobs() if job.kind is JobKind.TEXTS]
        assert texts.step.stage == "ocr"  # also before it has begun, and while it waits
        await runner.wait(texts, 5)
        states = [job.state for job in runner.jobs()]
        await runner.close()
        return [request.texts for request in process.runs], states

    order, states = asyncio.run(run())
    assert order == [False, True, False, True]
    assert states == 3 * [JobState.SUCCEEDED]

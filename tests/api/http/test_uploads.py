"""Uploads over real HTTP: what is taken, each attack, and that failures leave nothing behind."""

import contextlib
import errno
import io
import json
import os
import random
import re
import subprocess
import sys
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from api.http.jobs import _LOCKED_RETRY_S
from api.http.uploads import (
    Received,
    StorageFullError,
    UploadFolder,
    open_upload_folder,
    safe_name,
)
from indexer.pipeline import index_sources
from retrieval.errors import UsageError
from retrieval.files import flush_names, write_atomically
from retrieval.library import create_library

pytestmark = pytest.mark.slow


def picture(seed: int, kind: str = "JPEG", size: tuple[int, int] = (60, 40)) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def huge_png() -> bytes:
    """A PNG of a few hundred bytes that says it has 10,000 megapixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        crc = zlib.crc32(name + data).to_bytes(4, "big")
        return len(data).to_bytes(4, "big") + name + data + crc

    side = (100_000).to_bytes(4, "big")
    header = chunk(b"IHDR", side + side + bytes([8, 2, 0, 0, 0]))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000)))


@pytest.fixture(scope="module")
def uploads(tmp_path_factory):
    return tmp_path_factory.mktemp("uploaded")


@pytest.fixture(scope="module")
def service(tmp_path_factory, tiny_encoder, uploads, running_service):
    folder = tmp_path_factory.mktemp("library")
    (folder / "photos").mkdir()
    (folder / "photos" / "own.jpg").write_bytes(picture(0))
    library = create_library(folder / "library", tiny_encoder.space)
    index_sources(library, tiny_encoder, [folder / "photos"])
    with running_service(library, folder / "photos", uploads=uploads, max_body_mb=2) as service:
        # The start of all processes may take longer than a request waits.
        service.finished(send(service, ("first.jpg", picture(99)), wait=False).json())
        (uploads / "first.jpg").unlink()
        yield service
    library.close()


@pytest.fixture(autouse=True)
def empty_folder(uploads):
    yield
    for file in uploads.iterdir():
        file.unlink()


def send(service, *files: tuple[str, bytes], wait: bool = True) -> httpx.Response:
    return service.client.post(
        "/v1/items",
        params={"wait": wait},
        files=[("files", (name, content)) for name, content in files],
    )


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def test_an_uploaded_picture_can_be_found_and_its_file_lies_in_the_folder(service, uploads):
    answer = send(service, ("dog.jpg", picture(1)), ("雪 – été.png", picture(2, "PNG")))
    assert answer.status_code == 200, answer.text
    job = answer.json()
    assert (job["kind"], job["state"], job["result"]["added"]) == ("upload", "succeeded", 2)
    assert names(uploads) == {"dog.jpg", "雪 – été.png"}
    for file, name in zip(job["result"]["files"], ["dog.jpg", "雪 – été.png"], strict=True):
        assert Path(file["path"]).name == name
        [item_id] = file["item_ids"]
        assert service.client.get(f"/v1/items/{item_id}").json()["path"] == file["path"]
        assert service.client.get(f"/v1/items/{item_id}/thumbnail").status_code == 200
    assert str(uploads) in service.client.get("/v1/stats").json()["sources"]
    assert (uploads / "dog.jpg").read_bytes() == picture(1)


def test_without_waiting_the_job_is_told_of(service):
    answer = send(service, ("later.jpg", picture(3)), wait=False)
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/v1/jobs/{answer.json()['id']}"
    assert len(service.finished(answer.json())["result"]["files"][0]["item_ids"]) == 1


def test_texts_and_documents_are_taken(service):
    answer = send(service, ("notes.md", "# Kühe\n\nTwo cows stand by the water.".encode()))
    [file] = answer.json()["result"]["files"]
    assert len(file["item_ids"]) == 1


def test_texts_that_begin_like_videos_and_images_are_taken(service, uploads):
    """A G begins MPEG transport streams too, BM bitmaps."""
    answer = send(service, ("g.txt", b"Good dogs."), ("bm.md", b"BM stands for bitmap."))
    assert answer.status_code == 200, answer.text
    assert names(uploads) == {"g.txt", "bm.md"}


def test_deleting_an_uploaded_item_deletes_its_file(service, uploads):
    [file] = send(service, ("gone.jpg", picture(4))).json()["result"]["files"]
    removal = service.client.delete(f"/v1/items/{file['item_ids'][0]}").json()
    assert (removal["file_deleted"], removal["comes_back"]) == (True, False)
    assert names(uploads) == set()
    assert service.client.get(f"/v1/items/{file['item_ids'][0]}").status_code == 404


def test_deleting_another_item_hides_it_and_the_next_indexing_finds_it_again(service):
    [own] = service.paths(service.photos)
    hits = service.client.post("/v1/search", json={"text": "x", "k": 100}).json()["hits"]
    [item_id] = [hit["item_id"] for hit in hits if hit["path"] == own]
    removal = service.client.delete(f"/v1/items/{item_id}").json()
    assert (removal["file_deleted"], removal["comes_back"]) == (False, True)
    assert Path(own).exists()
    assert service.paths(service.photos) == set()
    assert service.client.delete(f"/v1/items/{item_id}").status_code == 404
    service.finished(service.client.post("/v1/index").json())
    assert service.paths(service.photos) == {own}


def test_a_name_that_is_taken_gets_a_number(service, uploads):
    send(service, ("same.jpg", picture(5)), ("same.jpg", picture(6)))
    send(service, ("same.jpg", picture(7)))
    assert names(uploads) == {"same.jpg", "same-2.jpg", "same-3.jpg"}
    assert (uploads / "same.jpg").read_bytes() == picture(5)


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("../../etc/cron.d/evil.jpg", "evil.jpg"),
        ("..\\..\\windows\\evil.jpg", "evil.jpg"),
        ("/etc/passwd.jpg", "passwd.jpg"),
        ("..", "upload.jpg"),
        (".hidden.jpg", "hidden.jpg"),
        ("con.jpg", "_con.jpg"),
        ("a:b|c?.jpg", "a_b_c_.jpg"),
        ("x" * 1000 + ".jpg", "x" * 150 + ".jpg"),
        ("雪" * 200 + ".jpg", "雪" * 50 + ".jpg"),
    ],
)
def test_zip_slip_and_other_names_that_harm(service, uploads, sent, kept):
    assert send(service, (sent, picture(8))).status_code == 200
    assert names(uploads) == {kept}


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("a\0b\r\n\x1b[31m.jpg", "ab[31m.jpg"),
        ("gnp\u202egpj.exe.jpg", "gnpgpj.exe.jpg"),
        ("", "upload"),
        (" . ", "upload"),
        ("nul", "_nul"),
        ("LPT1.tar.jpg", "_LPT1.tar.jpg"),
        ("e\u0301te\u0301.png", "été.png"),
        ("می\u200cخواهم.jpg", "می\u200cخواهم.jpg"),
        ("a/../../b", "b"),
        ("report.final", "report.final"),
        ("\ud800.jpg", "jpg"),
    ],
)
def test_names_are_made_safe_in_any_script(sent, kept):
    assert safe_name(sent) == kept
    assert safe_name(kept) == kept


def test_a_wrong_extension_is_corrected_by_the_content(service, uploads):
    send(service, ("photo.png", picture(9)), ("page.html", picture(10, "PNG")))
    send(service, ("script.php", picture(11)), ("photo.JPEG", picture(12)))
    assert names(uploads) == {"photo.jpg", "page.png", "script.php.jpg", "photo.JPEG"}


def test_a_polyglot_is_kept_as_the_image_that_it_is(service, uploads):
    polyglot = picture(13, "GIF") + b"<html><script>alert(1)</script></html>"
    assert send(service, ("polyglot.html", polyglot)).status_code == 200
    assert names(uploads) == {"polyglot.gif"}


@pytest.mark.parametrize(
    ("name", "content", "status"),
    [
        ("empty.jpg", b"", 422),
        ("text.jpg", b"not a picture at all", 415),
        ("page.html", b"<!doctype html><script>alert(1)</script>", 415),
        ("drawing.svg", b'<svg xmlns="http://www.w3.org/2000/svg"><script/></svg>', 415),
        ("drawing.jpg", b'<svg xmlns="http://www.w3.org/2000/svg"><script/></svg>', 415),
        ("table.csv", b"image,text\n/etc/passwd,a dog\n", 415),
        ("program.jpg", b"\x7fELF" + bytes(100), 415),
        ("archive.zip", b"PK\x03\x04" + bytes(100), 415),
        ("binary.txt", bytes(range(256)), 422),
        ("cut.jpg", picture(14)[:40], 422),
        ("bomb.png", huge_png(), 422),
        ("broken.pdf", b"%PDF-1.7\n" + b"x" * 100, 422),
        ("large.png", picture(15, "PNG", (1000, 1000)), 413),
    ],
)
def test_what_is_refused_leaves_nothing_behind(service, uploads, name, content, status):
    """Nor do the good files that came with it."""
    jobs = service.client.get("/v1/jobs").json()
    answer = send(service, ("good.jpg", picture(16)), (name, content))
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    if status != 413:
        assert name in answer.json()["detail"]
    assert names(uploads) == set()
    assert service.client.get("/v1/jobs").json() == jobs


def test_too_many_files_are_refused(service, uploads):
    answer = send(service, *((f"{n}.jpg", picture(17, size=(8, 8))) for n in range(101)))
    assert answer.status_code == 422
    assert names(uploads) == set()


def test_a_link_in_the_folder_is_not_written_through(service, uploads, tmp_path):
    target = tmp_path / "precious.jpg"
    target.write_bytes(picture(18))
    (uploads / "trap.jpg").symlink_to(target)
    (uploads / "dangling.jpg").symlink_to(tmp_path / "nowhere.jpg")
    send(service, ("trap.jpg", picture(19)), ("dangling.jpg", picture(20)))
    assert target.read_bytes() == picture(18)
    assert not (tmp_path / "nowhere.jpg").exists()
    assert {"trap-2.jpg", "dangling-2.jpg"} <= names(uploads)


def test_deleting_a_link_leaves_what_it_leads_to(service, uploads, tmp_path):
    target = tmp_path / "precious.jpg"
    target.write_bytes(picture(21))
    (uploads / "link.jpg").symlink_to(target)
    assert send(service, ("other.jpg", picture(22))).status_code == 200
    hits = service.client.post("/v1/search", json={"text": "x", "k": 100}).json()["hits"]
    [linked] = [hit["item_id"] for hit in hits if hit["path"] == str(uploads / "link.jpg")]
    assert service.client.delete(f"/v1/items/{linked}").json()["file_deleted"] is True
    assert target.exists()
    assert names(uploads) == {"other.jpg"}


def test_uploads_while_searching(service):
    def upload(seed: int) -> int:
        return send(service, (f"many-{seed}.jpg", picture(seed))).status_code

    stop = threading.Event()
    statuses = []

    def search() -> None:
        while not stop.is_set():
            answer = service.client.post("/v1/search", json={"text": "x", "k": 50})
            statuses.append(answer.status_code)

    searching = threading.Thread(target=search)
    searching.start()
    with ThreadPoolExecutor(4) as pool:
        uploaded = list(pool.map(upload, range(100, 112)))
    stop.set()
    searching.join()
    assert set(uploaded) == {200}
    assert set(statuses) == {200}
    hits = service.client.post("/v1/search", json={"text": "x", "k": 100}).json()["hits"]
    assert sum("many-" in hit["path"] for hit in hits) == 12


def test_a_folder_in_a_library_or_around_it_is_refused(tmp_path, tiny_encoder):
    library = create_library(tmp_path / "photos" / "library", tiny_encoder.space)
    for wrong in (library.path, library.path / "inside", tmp_path / "photos"):
        with pytest.raises(UsageError, match="library"):
            open_upload_folder(wrong, library.path, 1)
    library.close()


def test_what_a_killed_service_left_half_written_is_deleted_when_it_is_old(tmp_path):
    for name, age_s in (("old", 7200), ("new", 0)):
        file = tmp_path / f".upload-{name}.part"
        file.write_bytes(b"half")
        then = file.stat().st_mtime - age_s
        os.utime(file, (then, then))
    folder = open_upload_folder(tmp_path, Path("/nowhere/library"), 1)
    folder.clean()
    folder.close()
    assert names(tmp_path) == {".upload-new.part"}


class CrashError(BaseException):
    """Stands for the death of the service: nothing is tidied up."""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder whose files are not decoded to check them."""
    monkeypatch.setattr(UploadFolder, "_check", lambda _self, _path, name: safe_name(name))
    opened = open_upload_folder(tmp_path / "up", Path("/nowhere/library"), 1)
    yield opened
    opened.close()


def received(*files: tuple[str, bytes]) -> list[Received]:
    return [Received(name, io.BytesIO(content)) for name, content in files]


def contents(folder: UploadFolder) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.path.iterdir()}


def test_the_same_content_under_the_same_name_is_stored_once(folder):
    first = folder.add(received(("a.jpg", b"1"), ("a.jpg", b"2")), "one")
    again = folder.add(received(("a.jpg", b"1"), ("a.jpg", b"2")), "two")
    assert [path.name for path in first] == ["a.jpg", "a-2.jpg"]
    assert again == first
    assert folder.add(received(("a.jpg", b"2")), "three") == first[1:]
    for job in ("one", "two", "three"):
        folder.finish(job)
    assert contents(folder) == {"a.jpg": b"1", "a-2.jpg": b"2"}


def test_a_request_that_is_refused_leaves_files_that_were_there(folder, monkeypatch):
    folder.add(received(("a.jpg", b"1")), "one")
    folder.finish("one")

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patched:
        patched.setattr(os, "link", fail)
        patched.setattr(Path, "rename", fail)
        with pytest.raises(StorageFullError):
            folder.add(received(("a.jpg", b"1"), ("b.jpg", b"2")), "two")
    assert contents(folder) == {"a.jpg": b"1"}


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_uploads_can_be_read_by_their_owner_alone(folder):
    before = os.umask(0)
    try:
        [path] = folder.add(received(("a.jpg", b"1")), "one")
    finally:
        os.umask(before)
    assert folder.path.stat().st_mode & 0o777 == 0o700
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("has_links", [True, False])
@pytest.mark.parametrize("step", range(16))
def test_a_crash_at_any_step_loses_nothing_and_doubles_nothing(
    folder, monkeypatch, step, has_links
):
    """A request is stored whole, or not at all; what was recorded goes on at the next start."""
    (folder.path / "a.jpg").write_bytes(b"of another request")
    files = [("a.jpg", b"1"), ("b.jpg", b"2"), ("b.jpg", b"3")]
    left = step

    def crashing(call):
        def step_or_crash(*args, **options):
            nonlocal left
            if left == 0:
                raise CrashError
            left -= 1
            return call(*args, **options)

        return step_or_crash

    def no_link(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    link = os.link if has_links else no_link
    is_acknowledged = False
    with monkeypatch.context() as patched:
        patched.setattr(os, "link", crashing(link))
        patched.setattr("api.http.uploads.write_atomically", crashing(write_atomically))
        patched.setattr("api.http.uploads.flush_names", crashing(flush_names))
        patched.setattr(Path, "rename", crashing(Path.rename))
        tidy_up = folder.discard, folder.finish
        patched.setattr(folder, "discard", lambda paths: left and tidy_up[0](paths))
        patched.setattr(folder, "finish", lambda job: left and tidy_up[1](job))
        try:
            folder.add(received(*files), "one", "key")
            is_acknowledged = True
        except CrashError:
            pass
    if not has_links:
        monkeypatch.setattr(os, "link", no_link)
    names = {"a.jpg": b"of another request", "a-2.jpg": b"1", "b.jpg": b"2", "b-2.jpg": b"3"}
    found = folder.unfinished()
    if is_acknowledged:
        assert found
    for upload in found:
        assert (upload.job, upload.key) == ("one", "key")
        assert [Path(path).read_bytes() for path in upload.paths] == [b"1", b"2", b"3"]
        folder.finish(upload.job)
    assert folder.unfinished() == []
    again = folder.add(received(*files), "two")
    folder.finish("two")
    assert [path.read_bytes() for path in again] == [b"1", b"2", b"3"]
    stays = {name for name in contents(folder) if not name.startswith(".")}
    assert {name: contents(folder)[name] for name in stays} == names


def test_a_record_that_cannot_be_read_or_names_other_folders_harms_nothing(folder, tmp_path):
    other = tmp_path / "other.jpg"
    other.write_bytes(b"1")
    files = [{"part": "../other.jpg", "name": "../x.jpg", "digest": "0", "stored": "../other.jpg"}]
    record = json.dumps({"job": "one", "key": None, "files": files})
    (folder.path / ".upload-one.json").write_text(record)
    (folder.path / ".upload-two.json").write_text("{")
    (folder.path / ".upload-three.json").write_text('{"files": [{"x": 1}], "job": 1}')
    assert folder.unfinished() == []
    assert other.read_bytes() == b"1"


@pytest.mark.slow
def test_a_key_that_is_repeated_gets_the_first_job(service, uploads):
    def ask(key: str, name: str) -> dict:
        return service.client.post(
            "/v1/items",
            params={"wait": True},
            files=[("files", (name, picture(31)))],
            headers={"Idempotency-Key": key},
        ).json()

    first = ask("one", "a.jpg")
    assert ask("one", "b.jpg") == first
    assert ask("two", "b.jpg")["id"] != first["id"]
    assert names(uploads) == {"a.jpg", "b.jpg"}


@pytest.mark.slow
def test_an_upload_waits_for_another_writer(service, uploads):
    with service.library.writer():
        job = send(service, ("waits.jpg", picture(32)), wait=False).json()
        end = time.monotonic() + 60
        while "waiting" not in job["progress"]["stage"]:
            assert job["state"] in {"waiting", "running"}
            assert time.monotonic() < end
            job = service.client.get(f"/v1/jobs/{job['id']}").json()
        time.sleep(2 * _LOCKED_RETRY_S)
    done = service.finished(job)
    assert done["state"] == "succeeded"
    assert done["result"]["files"][0]["item_ids"]
    assert names(uploads) == {"waits.jpg"}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks at processes in /proc")
def test_kills_lose_no_upload_and_double_none(starter, tmp_path):
    """Nothing that was acknowledged is lost, nothing is stored twice, no process stays."""
    rng = random.Random(4)
    photos, up = tmp_path / "photos", tmp_path / "up"
    photos.mkdir()
    (photos / "own.jpg").write_bytes(picture(0))
    library = create_library(tmp_path / "library", starter.space)
    index_sources(library, starter, [photos])
    acknowledged: dict[str, bytes] = {}
    for kill in range(1, 4):
        with served(library, up) as (process, client):
            threads = [
                threading.Thread(
                    target=keep_sending, args=(client, 10 * kill + worker, acknowledged)
                )
                for worker in range(2)
            ]
            for thread in threads:
                thread.start()
            wanted = len(acknowledged) + rng.randrange(1, 5)
            eventually(lambda wanted=wanted: len(acknowledged) >= wanted)
            time.sleep(rng.uniform(0, 1))
            children = children_of(process.pid)
            process.kill()
            process.wait()
            for thread in threads:
                thread.join()
            eventually(lambda gone=children: not any(map(is_running, gone)))
    with served(library, up) as (_, client):

        def is_done() -> bool:
            jobs = client.get("/v1/jobs").json()["jobs"]
            return all(job["state"] == "succeeded" for job in jobs)

        eventually(is_done)
        found = indexed(client)
        assert set(acknowledged) <= set(found)
        assert set(found.values()) == {1}
        before = {name for name in names(up) if not name.startswith(".")}
        assert set(found) == before | {"own.jpg"}
        for name, content in rng.sample(sorted(acknowledged.items()), min(5, len(acknowledged))):
            answer = client.post("/v1/items", files=[("files", (name, content))])
            assert answer.status_code in {200, 202}
        eventually(is_done)
        assert {name for name in names(up) if not name.startswith(".")} == before
        assert not list(up.glob(".upload-*.json"))
    library.close()


def keep_sending(client: httpx.Client, number: int, acknowledged: dict[str, bytes]) -> None:
    """Upload one new picture after another, until the service is gone."""
    with contextlib.suppress(httpx.TransportError):
        for seed in range(1000 * number, 1000 * number + 1000):
            file = (f"u{seed}.jpg", picture(seed))
            answer = client.post(
                "/v1/items",
                params={"wait": seed % 3 == 0},
                files=[("files", file), ("files", ("same.jpg", file[1]))],
            )
            if answer.status_code == 429:
                time.sleep(0.2)
            else:
                assert answer.status_code in {200, 202}, answer.text
                acknowledged[file[0]] = file[1]


def indexed(client: httpx.Client) -> dict[str, int]:
    """Count the items of each file."""
    found: dict[str, int] = {}
    page = client.get("/v1/items?limit=1000").json()
    while True:
        for item in page["items"]:
            name = Path(item["path"]).name
            found[name] = found.get(name, 0) + 1
        if page["next_cursor"] is None:
            return found
        page = client.get(f"/v1/items?limit=1000&cursor={page['next_cursor']}").json()


def eventually(is_so) -> None:
    end = time.monotonic() + 300  # of a busy machine
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.1)


def children_of(pid: int) -> list[int]:
    return [
        int(child)
        for tasks in Path(f"/proc/{pid}/task").iterdir()
        for child in (tasks / "children").read_text().split()
    ]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@contextlib.contextmanager
def served(library, up):
    """A service that is a process of its own, and ready."""
    program = "from api.cli import main; main()"
    command = [sys.executable, "-c", program, "serve", "--port", "0", "--rerank", "none"]
    environment = os.environ | {"MMSEARCH_LIBRARY": str(library.path)}
    with subprocess.Popen(
        [*command, "--uploads", str(up)], env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            for line in process.stderr:
                if found := re.search(r"running on (http://[0-9.:]+)", line):
                    break
            threading.Thread(target=process.stderr.read, daemon=True).start()
            with httpx.Client(base_url=found[1], timeout=60) as client:
                eventually(lambda: client.get("/readyz").status_code == 200)
                yield process, client
        finally:
            process.kill()

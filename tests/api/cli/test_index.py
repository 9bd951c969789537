"""`mmsearch index` as users call it."""

import contextlib
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from retrieval.library import create_library


def test_indexing_tells_what_was_done(indexed, run, picture_folder, tmp_path):
    assert "6 added" in indexed.out
    assert str(tmp_path / "library") in indexed.out
    assert "6 unchanged" in run("index", picture_folder).out


def test_indexing_as_json(run, encoder_name, picture_folder):
    (picture_folder / "design.psb").write_bytes(b"8BPS")
    (picture_folder / "@eaDir").mkdir()
    counts = run("index", picture_folder, "--encoder", encoder_name, "--json").json
    assert counts["passed_over"] == {"endings": {".psb": 1}, "system_folders": {"@eaDir": 1}}
    assert counts["added"] == counts["found"] == counts["embedded"] == 6
    assert counts["failed"] == counts["removed"] == counts["unchanged"] == 0
    assert counts["interrupted"] is False
    assert counts["items_per_second"] > 0


def test_an_emptied_folder_is_told_with_the_command(indexed, run, picture_folder):
    for path in (picture_folder / "folder 0").iterdir():
        path.unlink()
    told = run("index")
    assert f"mmsearch remove '{picture_folder / 'folder 0'}'" in told.err
    assert "3 unchanged, 1 failed" in told.out
    assert "find it again" not in run("remove", picture_folder / "folder 0").out
    again = run("index")
    assert "3 unchanged in" in again.out
    assert "mmsearch remove" not in again.err


def test_a_folder_without_images_says_so(run, encoder_name, tmp_path):
    (tmp_path / "empty").mkdir()
    result = run("index", tmp_path / "empty", "--encoder", encoder_name)
    assert result.code == 0
    assert "No files that can be indexed in" in result.out
    result = run("search", "a dog")
    assert result.code == 0
    assert "has no images yet" in result.err


def test_a_second_indexer_is_told(indexed, run, picture_folder, tmp_path, tiny_encoder):
    with create_library(tmp_path / "library", tiny_encoder.space).writer():
        result = run("index", picture_folder)
    assert result.code == 1
    assert "Another process is writing" in result.err


def test_a_renamed_folder_is_indexed_at_its_new_place(indexed, run, picture_folder, tmp_path):
    new = picture_folder.rename(tmp_path / "renamed")
    missing = run("index")
    assert f"mmsearch relocate {picture_folder} NEW" in missing.err
    result = run("index", new)
    assert "6 relocated, 6 unchanged" in result.out
    assert f"{picture_folder} was moved to {new}" in result.err
    hits = run("search", "x", "-k", "50", "--json").json["hits"]
    assert sorted(hit["path"] for hit in hits) == sorted(map(str, new.rglob("*.png")))


def test_the_user_says_what_was_moved(indexed, run, picture_folder, tmp_path):
    new = picture_folder.rename(tmp_path / "renamed")
    kept = run("index", new, "--not-moved", "--json").json
    assert (kept["relocated"], kept["duplicates"], kept["embedded"]) == (0, 6, 0)
    asked = run("index", "--json").json
    assert f"mmsearch index {new} --moved-from {picture_folder}" in asked["notes"][0]
    assert run("index", new, "--not-moved", "--moved-from", picture_folder).code == 2
    assert run("index", new, "--moved-from", picture_folder).code == 0
    assert run("status", "--json").json["sources"] == [str(new)]
    assert len(run("search", "x", "-k", "50", "--json").json["hits"]) == 6


@pytest.mark.slow
@pytest.mark.parametrize(("answer", "hits"), [("y", 1), ("n", 7)])
def test_an_unclear_move_is_asked_about_on_a_terminal(
    indexed, run, picture_folder, tmp_path, answer, hits
):
    new, kept = tmp_path / "renamed", Path("folder 0", "picture-0.png")
    (new / kept).parent.mkdir(parents=True)
    (picture_folder / kept).rename(new / kept)
    shutil.rmtree(picture_folder)
    terminal, program = pty.openpty()
    command = [sys.executable, "-c", "from api.cli import main; main()", "index", str(new)]
    with subprocess.Popen(command, stdin=program, stdout=program, stderr=program) as process:
        os.close(program)
        shown = b""
        while b"Was it moved there?" not in shown:
            shown += os.read(terminal, 1000)
        os.write(terminal, f"{answer}\n".encode())
        while process.poll() is None:
            with contextlib.suppress(OSError):
                shown += os.read(terminal, 1000)
    os.close(terminal)
    assert process.returncode == 0
    assert len(run("search", "x", "-k", "50", "--json").json["hits"]) == hits


@pytest.mark.slow
def test_ctrl_c_finishes_the_batch_and_the_next_run_goes_on(run, encoder_name, tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(200):
        Image.new("RGB", (32, 32), (number, 0, 0)).save(folder / f"{number}.png")
    command = [sys.executable, "-c", "from api.cli import main; main()"]
    options = ["index", str(folder), "--encoder", encoder_name, "--batch-size", "1"]
    with subprocess.Popen(
        [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        rows = tmp_path / "library" / "spaces"
        while not list(rows.glob("*/image.f16")):
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "run the same command again to continue" in err
    before = run("status", "--json").json["images"]
    assert 0 < before < 200
    summary = run("index", folder, "--json").json
    assert (summary["unchanged"], summary["added"]) == (before, 200 - before)


@pytest.mark.slow
def test_a_catalog_in_postgresql(run, encoder_name, picture_folder, postgresql_server):
    url = f"{postgresql_server}&schema=of_the_terminal"
    refused = run("index", picture_folder, "--encoder", encoder_name, "--catalog", "db.example")
    assert refused.code == 2
    made = run("index", picture_folder, "--encoder", encoder_name, "--catalog", url)
    assert "6 added" in made.out
    status = run("status", "--json").json
    assert status["catalog"].startswith("postgresql://")
    assert status["files_indexed"] == 6
    assert status["catalog"] in run("status").out
    next(picture_folder.rglob("*.png")).unlink()
    assert "5 unchanged, 1 removed" in run("index").out
    other = run("index", "--catalog", url.replace("terminal", "nobody"))
    assert other.code == 2
    assert "has its catalog in postgresql" in other.err
    assert run("index", "--catalog", url).code == 0
    assert len(run("search", "noise", "--json").json["hits"]) == 5
    assert run("check").code == 0
    assert "pg_dump" in run("backup", picture_folder.parent / "backup").err

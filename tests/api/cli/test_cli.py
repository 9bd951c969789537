import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from api import cli
from retrieval.library import create_library


@dataclass
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


@pytest.fixture
def run(monkeypatch, capsys, tmp_path, tiny_checkpoint):
    """Run a command line in this process, on a library of its own."""
    monkeypatch.setenv("MMSEARCH_LIBRARY", str(tmp_path / "library"))
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["mmsearch", *map(str, arguments)])
        try:
            cli.main()
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return run


@pytest.fixture
def encoder_name(tiny_checkpoint):
    return f"local-dir:{tiny_checkpoint}"


@pytest.fixture
def indexed(run, encoder_name, picture_folder):
    result = run("index", picture_folder, "--encoder", encoder_name)
    assert result.code == 0, result.err
    return result


def test_indexing_tells_what_was_done(indexed, run, picture_folder, tmp_path):
    assert "6 added" in indexed.out
    assert str(tmp_path / "library") in indexed.out
    assert "6 unchanged" in run("index", picture_folder).out


def test_indexing_as_json(run, encoder_name, picture_folder):
    counts = run("index", picture_folder, "--encoder", encoder_name, "--json").json
    assert counts["added"] == counts["found"] == counts["embedded"] == 6
    assert counts["failed"] == counts["removed"] == counts["unchanged"] == 0
    assert counts["interrupted"] is False
    assert counts["items_per_second"] > 0


def test_searching_as_json_has_the_promised_shape(indexed, run):
    answer = run("search", "a dog", "-k", 3, "--json").json
    assert answer["query"] == "a dog"
    assert [hit["rank"] for hit in answer["hits"]] == [1, 2, 3]
    for hit in answer["hits"]:
        assert set(hit) == {
            "rank",
            "item_id",
            "path",
            "kind",
            "modality",
            "page",
            "time_s",
            "text",
            "columns",
            "width",
            "height",
            "similarity",
            "match",
            "relevance",
            "words",
            "group",
        }
        assert hit["match"] is None
        assert 0 <= hit["relevance"] <= 1
        assert Path(hit["path"]).exists()
    assert answer["timings_ms"]["total"] > 0


def test_searching_for_people_shows_rank_score_and_path(indexed, run, picture_folder, monkeypatch):
    monkeypatch.chdir(picture_folder)
    lines = run("search", "a dog", "-k", 2).out.splitlines()
    assert len(lines) == 2
    rank, relevance, score, path = lines[0].split(maxsplit=3)
    assert rank == "1"
    assert 0 <= int(relevance.removesuffix("%")) <= 100
    assert float(score) <= 1
    assert (picture_folder / path).exists()
    assert not path.startswith("/")


def test_searching_by_image(indexed, run, picture_folder):
    image = next(picture_folder.rglob("*.png"))
    answer = run("search", "--image", image, "--json").json
    assert answer["query"] is None
    assert answer["hits"][0]["path"] == str(image)


def test_searching_by_several_parts_and_by_words(indexed, run):
    like = run("search", "--like", 2, "--minus", "a dog", "--diversity", 0.3, "--group", "--json")
    assert len(like.json["hits"]) == 6
    by_words = run("search", "picture-3.png", "--mode", "text", "--rerank", "none").out
    assert by_words.splitlines()[0].endswith("picture-3.png  by its words")
    nothing = run("search", "zebra", "--mode", "text")
    assert (nothing.code, nothing.out) == (0, "")
    assert "No hits" in nothing.err
    assert "picture" not in run("search", "a dog", "--min-relevance", 1).out


@pytest.mark.parametrize(
    "wrong",
    [
        ("a dog", "--mode", "better"),
        ("--minus", "a dog", "--mode", "text"),
        ("a dog", "--cursor", "made up"),
        ("a dog", "--diversity", 2),
        (),
    ],
)
def test_searches_that_cannot_be_meant(indexed, run, wrong):
    assert run("search", *wrong).code == 2


def test_an_item_that_is_not_there_is_a_failure(indexed, run):
    answer = run("search", "--like", 999)
    assert answer.code == 1
    assert "no item 999" in answer.err


def test_a_contact_sheet_is_drawn(indexed, run, tmp_path):
    sheet = tmp_path / "sheet.png"
    assert run("search", "a dog", "--contact-sheet", sheet).code == 0
    with Image.open(sheet) as image:
        assert image.width > image.height > 300
    assert run("search", "a dog", "--contact-sheet", tmp_path / "sheet.xyz").code == 2


def test_status_counts_and_lists_failures(indexed, run, picture_folder):
    (picture_folder / "bad \x1b[31m.png").write_bytes(b"no")
    run("index", picture_folder)
    status = run("status", "--json").json
    assert (status["images"], status["files_failed"]) == (6, 1)
    assert status["sources"] == [str(picture_folder)]
    assert "Images    6" in run("status").out
    listed = run("status", "--failed").out
    assert "not an image of a known format" in listed
    assert "\x1b" not in listed
    failures = run("status", "--failed", "--json").json["failures"]
    assert [Path(f["path"]).name for f in failures] == ["bad \x1b[31m.png"]


def test_names_that_are_not_utf8_are_printed(run, encoder_name, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    try:
        Image.new("RGB", (9, 9)).save(folder / os.fsdecode(b"caf\xe9.png"))
    except OSError:
        pytest.skip("this file system wants valid UTF-8")
    assert run("index", folder, "--encoder", encoder_name).code == 0
    assert "caf\\xe9.png" in run("search", "x").out
    [hit] = run("search", "x", "--json").json["hits"]
    assert os.fsencode(hit["path"]).endswith(b"caf\xe9.png")


def test_removing_forgets(indexed, run, picture_folder):
    result = run("remove", picture_folder / "folder 0")
    assert "3 files removed from the library" in result.out
    assert "next `mmsearch index` will find it again" in result.out
    assert len(run("search", "x", "--json").json["hits"]) == 3
    assert run("remove", picture_folder, "--json").json["removed"] == 3
    assert run("remove", picture_folder / "nowhere").code == 1


def test_encoders_lists_starter_first(run):
    listed = run("encoders", "--json").json["encoders"]
    assert listed[0]["name"] == "starter"
    assert listed[0]["local"] is True
    assert "starter" in run("encoders").out
    assert len(run("encoders", "--all", "--json").json["encoders"]) > 100


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["search", "a dog"], 1, "There is no library at"),
        (["search", ""], 2, "query text is empty"),
        (["search", "  "], 2, "query text is empty"),
        (["search"], 2, "query is empty"),
        (["search", "x", "-k", "0"], 2, "between 1 and 10,000, not 0"),
        (["search", "x", "-k", "many"], 2, "Invalid value for '-k'"),
        (["search", "--image", "nowhere.jpg"], 2, "nowhere.jpg: No such file"),
        (["index", "nowhere"], 1, "nothing at nowhere"),
        (["index"], 1, "There is no library at"),
        (["index", ".", "--encoder", "clip"], 2, "no encoder 'clip'"),
        (["index", ".", "--encoder", "open_clip:x"], 2, "not of the form"),
        (["index", ".", "--frobnicate"], 2, "No such option"),
        (["status"], 1, "There is no library at"),
        (["remove", "x"], 1, "There is no library at"),
        (["serve"], 1, "There is no library at"),
    ],
)
def test_errors_are_messages_with_exit_codes(run, tmp_path, arguments, code, message):
    result = run(*arguments)
    assert message in result.err
    assert "Traceback" not in result.err
    assert result.code == code
    assert not (tmp_path / "library" / "library.toml").exists()


def test_debug_shows_the_traceback(run):
    from retrieval.errors import NotFoundError

    with pytest.raises(NotFoundError):
        run("--debug", "search", "a dog")


def test_a_folder_without_images_says_so(run, encoder_name, tmp_path):
    (tmp_path / "empty").mkdir()
    result = run("index", tmp_path / "empty", "--encoder", encoder_name)
    assert result.code == 0
    assert "No files that can be indexed in" in result.out
    result = run("search", "a dog")
    assert result.code == 0
    assert "has no images yet" in result.err


def test_another_encoder_than_the_librarys(indexed, run, picture_folder, tiny_checkpoint, tmp_path):
    import shutil

    other = tmp_path / "other-checkpoint"
    shutil.copytree(tiny_checkpoint, other)
    result = run("index", picture_folder, "--encoder", f"local-dir:{other}")
    assert result.code == 1
    assert "--space new" in result.err
    result = run("index", picture_folder, "--encoder", f"local-dir:{other}", "--space", "new")
    assert "6 added" in result.out
    spaces = run("status", "--json").json["spaces"]
    assert len(spaces) == 2
    for space in spaces:
        assert len(run("search", "x", "--space", space, "--json").json["hits"]) == 6
    assert run("search", "x", "--space", "nonsense").code == 2


def test_a_damaged_library_is_reported(indexed, run, tmp_path):
    (tmp_path / "library" / "library.toml").write_text("=")
    result = run("search", "x")
    assert result.code == 1
    assert "cannot be read" in result.err


def test_a_second_indexer_is_told(indexed, run, picture_folder, tmp_path, tiny_encoder):
    with create_library(tmp_path / "library", tiny_encoder.space).writer():
        result = run("index", picture_folder)
    assert result.code == 1
    assert "Another process is writing" in result.err


def test_a_truncated_query_is_said_so(indexed, run):
    result = run("search", "word " * 50, "--json")
    assert "reads only 16" in result.json["warnings"][0]
    assert "reads only 16" in run("search", "word " * 50).err


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


def test_a_reader_that_goes_away_is_no_error(indexed, tmp_path):
    program = f"{sys.executable} -c 'from api.cli import main; main()' status --json | true"
    result = subprocess.run(program, shell=True, check=True, capture_output=True, text=True)
    assert "Traceback" not in result.stderr


def test_help_is_there_for_every_command(run):
    for command in ("index", "search", "status", "remove", "encoders", "serve", "bench", "train"):
        result = run(command, "--help")
        assert result.code == 0
        assert "Usage" in result.out
    assert run("--version").out.startswith("mmsearch ")

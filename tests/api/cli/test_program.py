"""The program as a whole: help, errors and exit codes."""

import os
import subprocess
import sys

import pytest


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
        (["serve", "--root-path", "a b"], 2, "is not a path of an address"),
        (["serve", "--cors-origin", "https://a.example/b"], 2, "is not a web origin"),
        (["serve", "--allowed-host", "*"], 2, "is not a host name"),
        (["serve", "--trusted-proxy", "nginx"], 2, "is not an address or a network"),
        (["serve", "--host", "0.0.0.0:80"], 2, "and the port with `--port`"),
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


NAME = "图片-café-\N{GRINNING FACE}-ł"


@pytest.mark.slow
def test_any_name_is_printed_in_any_encoding(indexed, tmp_path):
    surroundings = {"PYTHONIOENCODING": "cp1252", "LC_ALL": "C"}
    surroundings |= {"PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    folder = tmp_path / NAME
    folder.mkdir()
    (folder / f"{NAME}.txt").write_text("A page about dogs.", encoding="utf-8")
    (folder / f"{NAME}.jpg").write_bytes(b"no picture")
    program = [sys.executable, "-c", "from api.cli import main; main()"]
    for arguments in (
        ["index", str(folder)],
        ["status", "--failed"],
        ["search", "dogs", "--modality", "text"],
        ["index", str(tmp_path / f"no {NAME}")],
    ):
        done = subprocess.run(
            [*program, *arguments],
            check=False,
            env={**os.environ, **surroundings},
            capture_output=True,
        )
        assert b"Traceback" not in done.stderr, arguments
        assert b"Error" not in done.stderr, arguments
        assert done.returncode in {0, 1}

"""Run the command line in this process, on a library of the test."""

import json
import sys
from typing import Any, NamedTuple

import pytest

from api import cli


class Result(NamedTuple):
    """What a command gave back."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run a command line in this process, on a library of its own."""
    monkeypatch.setenv("MMSEARCH_LIBRARY", str(tmp_path / "library"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
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

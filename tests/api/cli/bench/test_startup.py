"""`mmsearch bench startup` as users call it."""

import json
import sys

import pytest

from api.cli.bench.startup import parse_command
from retrieval.errors import NotFoundError, UsageError


def test_a_command_beside_is_parsed_as_a_shell_does():
    command = parse_command("edition 1=mmsearch search 'two dogs' --library a=b")
    assert command.name == "edition 1"
    assert command.words == ["mmsearch", "search", "two dogs", "--library", "a=b"]


@pytest.mark.parametrize("text", ["", "x", "x=", "=ls", " = ls", "x='", "first search=ls"])
def test_a_command_without_a_name_or_words_is_refused(text):
    with pytest.raises(UsageError, match="--beside"):
        parse_command(text)


def test_what_is_not_there_or_named_twice_is_told_before_anything_is_measured(run, tmp_path):
    with pytest.raises(NotFoundError, match="nothing at nowhere"):
        raise run("startup", "--rclip", "nowhere").exception
    with pytest.raises(NotFoundError, match="There is no library at"):
        raise run("startup", "--library", tmp_path / "none").exception
    with pytest.raises(UsageError, match="another name"):
        raise run("startup", "--beside", "x=ls", "--beside", "x=ls /").exception


@pytest.mark.slow
def test_the_program_is_measured_beside_another_command(run, indexed_library):
    result = run(
        *("startup", "--library", indexed_library.path, "--rounds", 1, "--json"),
        *("--beside", f"python={sys.executable} -c pass"),
    )
    assert result.exit_code == 0, result.output
    body = json.loads(result.stdout)
    by_name = {one["name"]: one for one in body["runs"]}
    assert body["rounds"] == 1
    assert by_name["first search"]["ratio"] == 1
    assert by_name["python"]["ratio"] < 1
    assert set(by_name) >= {"--help", "search through a service", "its request alone"}

"""What is no command is a query; what looks like one is asked back."""

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from api.cli import app
from api.cli.program import COMMANDS
from retrieval.errors import UsageError

GROUP = typer.main.get_command(app)
OWN = {"--debug", "-q", "--version", "-V", "-h", "--help"}


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (["a dog in the snow"], ["search", "--here", "a dog in the snow"]),
        (["cat"], ["search", "--here", "cat"]),
        (["cat", "-k", "3"], ["search", "--here", "cat", "-k", "3"]),
        (["a", "dog"], ["search", "--here", "a", "dog"]),
        (["--debug", "cat"], ["--debug", "search", "--here", "cat"]),
        (["-k", "3", "cat"], ["search", "--here", "-k", "3", "cat"]),
        (["here", "train"], ["search", "--here", "train"]),
        (["猫"], ["search", "--here", "猫"]),
        (["train", "heads"], ["train", "heads"]),
        (["help"], ["--help"]),
        (["help", "bench", "gpu"], ["bench", "gpu", "--help"]),
        (["--help"], ["--help"]),
        (["search the house"], ["search", "--here", "search the house"]),
        ([], []),
    ],
)
def test_queries_and_commands_are_told_apart(said, meant):
    assert GROUP.routed(said, OWN) == meant


@pytest.mark.parametrize(
    ("said", "suggested"),
    [
        (["serach", "x"], "search"),
        (["idnex", "~/Pictures"], "index"),
        (["stauts"], "status"),
        (["wacth"], "watch"),
        (["rain", "on", "a", "street"], "train"),
    ],
)
def test_mistyped_commands_are_not_searched_for(said, suggested):
    with pytest.raises(UsageError, match=f"Did you mean '{suggested}'.*mmsearch here"):
        GROUP.routed(said, OWN)


def test_a_word_like_a_command_is_searched_for_where_that_changes_nothing(monkeypatch):
    for is_indexed in (True, False):
        monkeypatch.setattr("api.cli.query_group._has_library", lambda found=is_indexed: found)
        if is_indexed:
            assert GROUP.routed(["beach", "-k", "3"], OWN)[:3] == ["search", "--here", "beach"]
        else:
            with pytest.raises(UsageError, match="mmsearch here beach"):
                GROUP.routed(["beach"], OWN)


@given(st.lists(st.text(), min_size=1))
def test_here_takes_any_words(words):
    assert GROUP.routed(["here", *words], OWN) == ["search", "--here", *words]


def test_commands_stay_commands():
    for name in COMMANDS:
        assert GROUP.routed([name, "x"], OWN) == [name, "x"]

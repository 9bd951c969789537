"""Lazy groups show and do the same as groups of imported commands."""

import gc
import sys
from importlib import import_module

import pytest
import typer
from typer.testing import CliRunner

from api.cli import app
from api.cli.bench.program import BENCHMARKS, bench
from api.cli.lazy_group import Entry, lazy_group, without_collections
from api.cli.program import COMMANDS

TOY = '''
import typer
from typer.core import TyperCommand

class Loud(TyperCommand):
    pass

def first(size: int = 1) -> None:
    """Do the first thing.

    It has more to say.
    """
    print("first", size)

def second() -> None:
    """Do the second thing."""
    print("second")

inner = typer.Typer(help="Do things inside.")

@inner.command()
def third() -> None:
    """Do the third thing."""
    print("third")

@inner.command()
def fourth() -> None:
    """Do the fourth thing."""
'''
ENTRIES = {
    "second": Entry("toy_commands:second", "Do the second thing."),
    "first": Entry("toy_commands:first", "Do the first thing.", "Loud"),
    "inner": Entry("toy_commands:inner", "Do things inside."),
}


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A lazy group of the commands of a module, which nothing has imported."""
    (tmp_path / "toy_commands.py").write_text(TOY, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "toy_commands", raising=False)
    yield lazy_group(ENTRIES, add_completion=False, no_args_is_help=True)
    sys.modules.pop("toy_commands", None)


@pytest.fixture
def eager(toy):
    """The same group as Typer makes it."""
    commands = import_module("toy_commands")
    made = typer.Typer(add_completion=False, no_args_is_help=True)
    made.command()(commands.second)
    made.command(cls=commands.Loud)(commands.first)
    made.add_typer(commands.inner, name="inner")
    return made


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--help"],
        ["second"],
        ["first", "--size", "3"],
        ["first", "--size", "many"],
        ["first", "--help"],
        ["inner"],
        ["inner", "--help"],
        ["inner", "third"],
        ["fisrt"],
        ["inner", "thrid"],
        ["--no-such-option"],
    ],
)
def test_a_lazy_group_behaves_as_an_eager_one(toy, eager, arguments):
    found, expected = (CliRunner().invoke(one, arguments) for one in (toy, eager))
    assert (found.exit_code, found.output) == (expected.exit_code, expected.output)
    assert found.output


def test_listing_and_completing_names_import_nothing(toy):
    assert "Do things inside." in CliRunner().invoke(toy, ["--help"]).output
    group = typer.main.get_command(toy)
    context = group.make_context("toy", ["first"], resilient_parsing=True)
    completed = {item.value: item.help for item in group.shell_complete(context, "")}
    assert completed == {name: entry.help for name, entry in ENTRIES.items()}
    assert "toy_commands" not in sys.modules
    assert type(group.get_command(context, "first")).__name__ == "Loud"
    assert "toy_commands" in sys.modules
    assert group.get_command(context, "third") is None


def test_garbage_is_collected_again_after_imports():
    def fail() -> None:
        assert not gc.isenabled()
        raise ImportError

    assert gc.isenabled()
    with pytest.raises(ImportError), without_collections():
        fail()
    assert gc.isenabled()


@pytest.mark.parametrize(("app", "entries"), [(app, COMMANDS), (bench, BENCHMARKS)])
def test_lists_say_what_the_commands_say_of_themselves(app, entries):
    group = typer.main.get_command(app)
    own = {name: " ".join(c.help.split("\n\n")[0].split()) for name, c in group.commands.items()}
    assert own == {name: entry.help for name, entry in entries.items()}


def test_completion_of_the_program_knows_commands_and_their_options(run, monkeypatch):
    def complete(words: str) -> set[str]:
        monkeypatch.setenv("_MMSEARCH_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(len(words.split(" ")) - 1))
        return set(run().out.split())

    assert {"search", "serve"} <= complete("mmsearch se")
    assert {"retrieval", "relevance"} <= complete("mmsearch bench re")
    assert {"--rerank", "--rerank-depth"} <= complete("mmsearch search --rer")


@pytest.mark.parametrize("group", [["status"], ["bench"], ["spaces"], ["encoders"]])
@pytest.mark.parametrize("argument", ["a\x1b[31mb\x9b\u202ec", "--a\x1b[31mb\x9b\u202ec"])
def test_wrong_arguments_are_named_without_control_characters(group, argument):
    result = CliRunner().invoke(app, [*group, argument])
    assert result.exit_code == 2
    assert not {"\x1b", "\x9b", "\u202e"} & set(result.output)
    assert r"a\x1b[31mb\x9b\u202ec" in result.output


def test_extra_arguments_are_named_without_control_characters():
    result = CliRunner().invoke(app, ["index-info", "a\u202eb\x9b"])
    assert result.exit_code == 2
    assert r"a\u202eb\x9b" in result.output

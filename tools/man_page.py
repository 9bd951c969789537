"""Write `docs/mmsearch.1`, the manual page, from the help of all commands.

`python -m tools.man_page`, after a command or an option has changed; a test compares them.
click-man does so for programs of Click, but not of Typer, which brings a Click of its own.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from api.cli import app
from api.cli.program import COMMANDS

PAGE = Path(__file__).resolve().parents[1] / "docs" / "mmsearch.1"

_FILES = """\
.SH FILES
.TP
.I ~/.config/mmsearch/config.toml
Your defaults of options; see
.BR "mmsearch config" .
.TP
.I ~/.local/share/mmsearch/library
The default library.
.TP
.I ~/.local/share/mmsearch/folders
Libraries of the folders that were searched by a query alone.
.TP
.I .mmsearch
A library that is kept in the folder that it indexes.
.SH ENVIRONMENT
.TP
.B MMSEARCH_LIBRARY
The default library.
.TP
.B MMSEARCH_SERVER
A service to search on, in place of a library of this machine.
.TP
.B MMSEARCH_API_KEY
The key for this service.
.TP
.B MMSEARCH_CONFIG
Your file of defaults, in place of the usual one.
.SH EXIT STATUS
0: success; 1: failure; 2: wrong usage; 130: interrupted.
"""


def man_page() -> str:
    """Write the manual page of the program and all its commands, in roff."""
    program: Any = typer.main.get_command(app)
    context = program.context_class(program, info_name="mmsearch")
    lines = [
        '.TH MMSEARCH 1 "" mmsearch "User Commands"',
        ".SH NAME",
        r"mmsearch \- search pictures and texts by meaning",
        ".SH SYNOPSIS",
        r".B mmsearch",
        ".I QUERY",
        r"[\fIOPTION\fR]...",
        ".br",
        ".B mmsearch",
        r"\fICOMMAND\fR [\fIARG\fR]...",
        ".SH DESCRIPTION",
        _roff(program.help or ""),
        ".PP",
        _roff(
            "A query without a command searches the current folder: the library of its folder tree "
            "is made or brought up to date first. It takes the options of `mmsearch search`."
        ),
        ".SH OPTIONS",
        *_options(program, context),
    ]
    panel = None
    for name, entry in COMMANDS.items():
        if entry.panel != panel:
            panel = entry.panel
            lines.append(f".SH {_roff(f'{panel} commands'.upper())}")
        lines += _command(program.commands[name], context, name)
    return "\n".join(lines) + "\n" + _FILES


def _command(command: Any, parent: Any, name: str) -> Iterator[str]:
    """Write a command, and those in it."""
    context = command.context_class(command, info_name=name, parent=parent)
    path = context.command_path
    usage = " ".join(command.collect_usage_pieces(context))
    yield f".SS {_roff(path)} {_roff(usage)}"
    yield _roff(" ".join((command.help or "").split()))
    yield from _options(command, context)
    for inner, below in getattr(command, "commands", {}).items():
        if not below.hidden:
            yield from _command(below, context, inner)


def _options(command: Any, context: Any) -> Iterator[str]:
    for param in command.get_params(context):
        record = param.get_help_record(context)
        is_help = context.parent is not None and "--help" in param.opts
        if record is not None and param.param_type_name == "option" and not is_help:
            yield ".TP"
            yield rf"\fB{_roff(record[0])}\fR"
            yield _roff(" ".join(record[1].split()))


def _roff(text: str) -> str:
    """Escape what roff would read as a request or another character."""
    text = text.replace("\\", r"\e").replace("-", r"\-")
    text = re.sub(r"`([^`]*)`", r"\\fB\1\\fR", text)
    return re.sub(r"(?m)^(?=[.'])", r"\&", text)


def main() -> None:
    """Write the page."""
    PAGE.write_text(man_page(), encoding="utf-8")


if __name__ == "__main__":
    main()

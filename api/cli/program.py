"""`mmsearch`: register the commands, and turn errors into messages and exit codes."""

import io
import os
import sys
import traceback
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from api.cli.lazy_group import Entry, lazy_group
from api.cli.query_group import QueryGroup
from retrieval.errors import (
    MMSearchError,
    NotFoundError,
    UsageError,
    left_out_packages_explained,
)

EVERYDAY, SERVICE, TUNING, RESEARCH = "Everyday", "Service", "Tuning", "Research"

COMMANDS = {
    "search": Entry(
        "api.cli.search:search",
        "Search for images, texts and sounds by a text, an image, a sound, or several of them.",
        "SearchCommand",
        EVERYDAY,
    ),
    "index": Entry(
        "api.cli.index:index",
        "Index directories, or update their index: images, videos, sounds, PDF, texts, tables.",
        panel=EVERYDAY,
    ),
    "watch": Entry(
        "api.cli.watch:watch",
        "Watch directories and index changes within seconds.",
        panel=EVERYDAY,
    ),
    "status": Entry("api.cli.library:status", "Show what a library holds.", panel=EVERYDAY),
    "texts": Entry(
        "api.cli.texts:texts",
        "Show the texts that models found in a file: in its pictures, in speech, as captions.",
        panel=EVERYDAY,
    ),
    "facets": Entry(
        "api.cli.facets:facets",
        "Count items by year, month, folder, place, camera, kind and values of table columns.",
        panel=EVERYDAY,
    ),
    "duplicates": Entry(
        "api.cli.duplicates:duplicates",
        "Find duplicates: identical files, and images that look the same. Nothing is deleted.",
        panel=EVERYDAY,
    ),
    "describe": Entry(
        "api.cli.describe:describe",
        "Describe images in words, with an image-to-text model that you name.",
        panel=EVERYDAY,
    ),
    "ask": Entry(
        "api.cli.describe:ask",
        "Answer a question about images, with an image-to-text model that you name.",
        panel=EVERYDAY,
    ),
    "collections": Entry(
        "api.cli.collections:collections",
        "List the collections of a library; commands: list, show, add, remove, rename, delete.",
        panel=EVERYDAY,
    ),
    "hide": Entry(
        "api.cli.collections:hide",
        "Hide items or files from searches and lists; `--with-hidden` finds them all the same.",
        panel=EVERYDAY,
    ),
    "unhide": Entry(
        "api.cli.collections:unhide", "Show hidden items or files again.", panel=EVERYDAY
    ),
    "export": Entry(
        "api.cli.vectors:export",
        "Export vectors to .npy, .parquet or .lance, or a whole library to a Lance table.",
    ),
    "import": Entry(
        "api.cli.vectors:import_",
        "Import vectors with ids, paths and metadata into a space of a library, or a Lance table.",
    ),
    "copy": Entry(
        "api.cli.tables:copy",
        "Copy a Lance table into a library, or what has changed in it, and build its search index.",
        panel=SERVICE,
    ),
    "remove": Entry(
        "api.cli.library:remove",
        "Remove directories and files from a library; the files themselves stay.",
        panel=EVERYDAY,
    ),
    "relocate": Entry(
        "api.cli.library:relocate",
        "Give a moved or renamed directory, or a drive, its new path, without indexing it again.",
        panel=EVERYDAY,
    ),
    "config": Entry(
        "api.cli.config:config",
        "Show and change the defaults of options: your own, and those of a library.",
        panel=EVERYDAY,
    ),
    "serve": Entry("api.cli.serve:serve", "Run the HTTP API and the web page.", panel=SERVICE),
    "mcp": Entry(
        "api.cli.mcp:mcp",
        "Run an MCP server on standard input and output, for assistants that call tools.",
        panel=SERVICE,
    ),
    "backup": Entry(
        "api.cli.backup:backup",
        "Back up a library, also while it is indexed and searched; copies only what is new.",
        panel=SERVICE,
    ),
    "restore": Entry(
        "api.cli.backup:restore",
        "Restore a library from a backup into a new directory, and verify it.",
        panel=SERVICE,
    ),
    "check": Entry(
        "api.cli.check:check",
        "Check a library: catalog, vectors, indices and caches; exit code 1 if something is wrong.",
        panel=SERVICE,
    ),
    "versions": Entry(
        "api.cli.table:versions",
        "List the versions of a library in Lance; `--library lance:DIR@N` opens one of them.",
        panel=SERVICE,
    ),
    "compact": Entry(
        "api.cli.table:compact",
        "Compact a library in Lance: join small fragments, drop deleted rows, update its indices.",
        panel=SERVICE,
    ),
    "trust": Entry(
        "api.cli.trust:trust",
        "Allow libraries to use an encoder's files, a link's target, a server or a database.",
        panel=SERVICE,
    ),
    "encoders": Entry(
        "api.cli.encoders:encoders",
        "List the available encoders, and which are on this machine; command: export.",
        panel=TUNING,
    ),
    "spaces": Entry(
        "api.cli.spaces:spaces",
        "List the vector spaces of a library, choose the default, complete or remove them.",
        panel=TUNING,
    ),
    "index-info": Entry(
        "api.cli.index_info:index_info",
        "Show the search index: its kind, why it was chosen, its settings and recall.",
        panel=TUNING,
    ),
    "build-index": Entry(
        "api.cli.index_info:build_index",
        "Rebuild the search index now. `mmsearch index` does this automatically when it is due.",
        panel=TUNING,
    ),
    "plan": Entry(
        "api.cli.plan:plan",
        "Plan a library of any size: machines, hours, bytes, money, and where one machine ends.",
        panel=TUNING,
    ),
    "explain": Entry(
        "api.cli.explain:explain",
        "Explain a match: the words that carried it, and the image regions they attended to.",
        panel=RESEARCH,
    ),
    "bench": Entry(
        "api.cli.bench.program:bench",
        "Measure how good and how fast the engine is.",
        panel=RESEARCH,
    ),
    "train": Entry("api.cli.train:train", "Train the built-in models.", panel=RESEARCH),
}
"""The commands by name, in the order of the help."""

app = lazy_group(
    COMMANDS,
    base=QueryGroup,
    name="mmsearch",
    help='Search pictures, texts, sounds by meaning. In a folder: `mmsearch "a dog in the snow"`.',
    invoke_without_command=True,
    subcommand_metavar="[QUERY | COMMAND] [ARGS]...",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_debug = False


def main() -> None:
    """Run the command line; errors end in a message and an exit code instead of a traceback."""
    _make_all_names_printable()
    sys.excepthook = _print_traceback
    try:
        with left_out_packages_explained("This command"):
            app()
    except MMSearchError as error:
        if _debug:
            raise
        _complain(f"{error}{_hint_of_folder(error)}")
        sys.exit(2 if isinstance(error, UsageError) else 1)
    except KeyboardInterrupt:
        _complain("Interrupted.")
        sys.exit(130)
    except BrokenPipeError:
        # The reader of the output has ended (`| head`); avoid a second error at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


def _hint_of_folder(error: MMSearchError) -> str:
    """Say that the current folder has a library, where a command finds no default one."""
    if not isinstance(error, NotFoundError):
        return ""
    from shlex import quote

    from api.cli.console import display_path
    from api.cli.folder_library import find_library
    from retrieval.library import default_library_path, library_exists

    try:
        default = default_library_path()
        if library_exists(default) or f"There is no library at {default}." not in str(error):
            return ""
        found = find_library(Path.cwd())
    except (OSError, MMSearchError):
        return ""
    if found is None:
        return ""
    named = quote(display_path(found.name))
    return f" This folder has a library of its own: `--library {named}`."


def _make_all_names_printable() -> None:
    """Escape characters that the encoding of the output lacks, such as cp1252: `\\u4e2d`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _print_traceback(*raised: Any) -> None:
    """Print a traceback as Python does, with the control characters of its message escaped."""
    _complain("".join(traceback.format_exception(*raised)).rstrip())


def _complain(message: str) -> None:
    from api.cli import console
    from api.cli.options import complain

    console.err.quiet = False
    complain(message)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"mmsearch {version('mmsearch')}")  # noqa: T201
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    quiet: Annotated[
        bool,
        typer.Option(
            "-q", "--quiet", help="Print results and errors only; also after any command."
        ),
    ] = False,
    show_version: Annotated[
        bool,
        typer.Option(
            "-V",
            "--version",
            help="Print the version and exit.",
            callback=_show_version,
            is_eager=True,
        ),
    ] = False,
) -> None:
    """Search images by meaning."""
    global _debug  # noqa: PLW0603 - read by `main` when a command has failed
    _debug = debug
    if not debug:
        warnings.simplefilter("ignore")
    if quiet or "api.cli.console" in sys.modules:
        from api.cli import console

        console.err.quiet = quiet
    if context.invoked_subcommand not in {None, "config"}:
        from api.cli.settings import user_defaults

        context.default_map = {"search": user_defaults()}
    if context.invoked_subcommand is None:
        from api.cli.first_steps import print_first_steps

        print_first_steps()

"""`mmsearch`: register the commands, and turn errors into messages and exit codes."""

import io
import os
import sys
import traceback
import warnings
from typing import Annotated, Any

import typer

from api.cli.lazy_group import Entry, lazy_group
from retrieval.errors import MMSearchError, UsageError, left_out_packages_explained

COMMANDS = {
    "index": Entry(
        "api.cli.index:index",
        "Index directories, or update their index: images, videos, PDF, texts, tables.",
    ),
    "search": Entry(
        "api.cli.search:search", "Search for images or texts by a text, an image, or both."
    ),
    "facets": Entry(
        "api.cli.facets:facets",
        "Count items by year, month, folder, place, camera, kind and values of table columns.",
    ),
    "explain": Entry(
        "api.cli.explain:explain",
        "Explain a match: the words that carried it, and the image regions they attended to.",
    ),
    "duplicates": Entry(
        "api.cli.duplicates:duplicates",
        "Find duplicates: identical files, and images that look the same. Nothing is deleted.",
    ),
    "watch": Entry("api.cli.watch:watch", "Watch directories and index changes within seconds."),
    "serve": Entry("api.cli.serve:serve", "Run the HTTP API and the web page."),
    "index-info": Entry(
        "api.cli.index_info:index_info",
        "Show the search index: its kind, why it was chosen, its settings and recall.",
    ),
    "build-index": Entry(
        "api.cli.index_info:build_index",
        "Rebuild the search index now. `mmsearch index` does this automatically when it is due.",
    ),
    "status": Entry("api.cli.library:status", "Show what a library holds."),
    "check": Entry(
        "api.cli.check:check",
        "Check a library: catalog, vectors, indices and caches; exit code 1 if something is wrong.",
    ),
    "backup": Entry(
        "api.cli.backup:backup",
        "Back up a library, also while it is indexed and searched; copies only what is new.",
    ),
    "restore": Entry(
        "api.cli.backup:restore",
        "Restore a library from a backup into a new directory, and verify it.",
    ),
    "export": Entry(
        "api.cli.vectors:export",
        "Export vectors with ids, paths and metadata: .npy with .jsonl, .parquet or .lance.",
    ),
    "import": Entry(
        "api.cli.vectors:import_",
        "Import vectors with ids, paths and metadata into a space of a library.",
    ),
    "remove": Entry(
        "api.cli.library:remove",
        "Remove directories and files from a library; the files themselves stay.",
    ),
    "relocate": Entry(
        "api.cli.library:relocate",
        "Give a moved or renamed directory, or a drive, its new path, without indexing it again.",
    ),
    "encoders": Entry(
        "api.cli.encoders:encoders",
        "List the available encoders, and which are on this machine; command: export.",
    ),
    "bench": Entry("api.cli.bench.program:bench", "Measure how good and how fast the engine is."),
    "train": Entry("api.cli.train:train", "Train the built-in models."),
    "spaces": Entry(
        "api.cli.spaces:spaces",
        "List the vector spaces of a library, choose the default, complete or remove them.",
    ),
    "trust": Entry(
        "api.cli.trust:trust",
        "Allow libraries to use an encoder's files, or a link's target, outside of them.",
    ),
}

app = lazy_group(
    COMMANDS,
    name="mmsearch",
    help='Search images by meaning: `mmsearch index ./photos`, then `mmsearch search "a dog"`.',
    no_args_is_help=True,
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
        _complain(str(error))
        sys.exit(2 if isinstance(error, UsageError) else 1)
    except KeyboardInterrupt:
        _complain("Interrupted.")
        sys.exit(130)
    except BrokenPipeError:
        # The reader of the output has ended (`| head`); avoid a second error at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


def _make_all_names_printable() -> None:
    """Escape characters that the encoding of the output lacks, such as cp1252: `\\u4e2d`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _print_traceback(*raised: Any) -> None:
    """Print a traceback as Python does, with the control characters of its message escaped."""
    _complain("".join(traceback.format_exception(*raised)).rstrip())


def _complain(message: str) -> None:
    from api.cli.options import complain

    complain(message)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"mmsearch {version('mmsearch')}")  # noqa: T201
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    show_version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and exit.", callback=_show_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Search images by meaning."""
    global _debug  # noqa: PLW0603 - read by `main` when a command has failed
    _debug = debug
    if not debug:
        warnings.simplefilter("ignore")

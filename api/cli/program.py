"""`mmsearch`: register the commands, and turn errors into messages and exit codes."""

import os
import sys
import warnings
from importlib.metadata import version
from typing import Annotated

import typer

from api.cli.bench.program import bench
from api.cli.duplicates import duplicates
from api.cli.encoders import encoders
from api.cli.explain import explain
from api.cli.facets import facets
from api.cli.index import index
from api.cli.index_info import build_index, index_info
from api.cli.library import relocate, remove, status
from api.cli.options import complain
from api.cli.search import search
from api.cli.serve import serve
from api.cli.spaces import spaces
from api.cli.train import train
from api.cli.watch import watch
from retrieval.errors import MMSearchError, UsageError

app = typer.Typer(
    name="mmsearch",
    help='Search images by meaning: `mmsearch index ./photos`, then `mmsearch search "a dog"`.',
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for command in (
    index,
    search,
    facets,
    explain,
    duplicates,
    watch,
    serve,
    index_info,
    build_index,
    status,
    remove,
    relocate,
):
    app.command()(command)
app.add_typer(encoders, name="encoders")
app.add_typer(bench, name="bench")
app.add_typer(train, name="train")
app.add_typer(spaces, name="spaces")

_debug = False


def main() -> None:
    """Run the command line; errors end in a message and an exit code instead of a traceback."""
    try:
        app()
    except MMSearchError as error:
        if _debug:
            raise
        complain(str(error))
        sys.exit(2 if isinstance(error, UsageError) else 1)
    except KeyboardInterrupt:
        complain("Interrupted.")
        sys.exit(130)
    except BrokenPipeError:
        # The reader of the output has ended (`| head`); avoid a second error at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


def _show_version(wanted: bool) -> None:
    if wanted:
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

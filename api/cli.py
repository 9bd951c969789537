"""The command line: thin commands over the library, the indexer, the engine and the service."""

import os
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.bench import bench
from api.options import (
    BatchSizeOption,
    DeviceOption,
    JsonOption,
    LibraryOption,
    SpaceOption,
    complain,
    print_json,
    require_paths,
)
from api.train import train
from retrieval.errors import MMSearchError, UsageError
from retrieval.library import (
    Library,
    create_library,
    default_library_path,
    library_exists,
    open_library,
)

if TYPE_CHECKING:
    from retrieval.encoders.base import Encoder

app = typer.Typer(
    name="mmsearch",
    help='Search pictures by meaning: `mmsearch index ./photos`, then `mmsearch search "a dog"`.',
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(bench, name="bench")
app.add_typer(train, name="train")

_debug = False


def main() -> None:
    """Run the command line; errors end in a message and an exit code, not in a traceback."""
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
        # The reader of our output has gone (`| head`); Python would complain once more at exit.
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
            "--version",
            help="Print the version and exit.",
            callback=_show_version,
            is_eager=True,
        ),
    ] = False,
) -> None:
    """Search pictures by meaning."""
    global _debug  # noqa: PLW0603 - `main` must know when a command has failed
    _debug = debug
    if not debug:
        warnings.simplefilter("ignore")


@app.command()
def index(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="PATH...", help="Folders and files. None: all known sources."),
    ] = None,
    library: LibraryOption = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            "--encoder",
            metavar="NAME",
            help="auto, starter, open_clip:MODEL/PRETRAINED or local-dir:DIR. "
            "[default: the library's own; auto for a new library]",
            show_default=False,
        ),
    ] = None,
    space: Annotated[
        str | None,
        typer.Option(
            "--space",
            metavar="ID|new",
            help="One of the library's spaces, or `new` to add one for --encoder.",
            show_default=False,
        ),
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Read files again that failed before.")
    ] = False,
    batch_size: BatchSizeOption = 64,
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, help="Decoding threads. [default: one a core, at most 8]"),
    ] = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Make folders of images searchable, or bring them up to date."""
    from api import console
    from indexer.pipeline import index_sources

    require_paths(paths or [])
    opened, loaded = _library_and_encoder(
        library or default_library_path(), encoder, space, device, bool(paths)
    )
    with console.indexing_progress(quiet=as_json) as bar, _stop_on_ctrl_c() as stop:
        summary = index_sources(
            opened,
            loaded,
            paths or (),
            batch_size=batch_size,
            workers=workers,
            retry_failed=retry_failed,
            on_progress=bar,
            should_stop=lambda: bool(stop),
        )
    if as_json:
        print_json(
            {
                "library": str(opened.path),
                "space": loaded.space.id,
                **vars(summary),
                "images_per_second": round(summary.images_per_second, 2),
            }
        )
    elif summary.found == 0 and not summary.removed:
        where = ", ".join(str(path) for path in paths or ()) or "the library's sources"
        console.out.print(f"No images found in {where}.", markup=False)
    else:
        console.print_summary(summary, opened.path)
    if summary.interrupted:
        complain("Stopped. What was embedded is kept; run the same command again to go on.")
        raise typer.Exit(130)


@app.command()
def search(
    text: Annotated[str | None, typer.Argument(metavar="TEXT", help="What to look for.")] = None,
    image: Annotated[
        Path | None,
        typer.Option("--image", metavar="FILE", help="Find what is like this image."),
    ] = None,
    k: Annotated[int, typer.Option("-k", metavar="N", help="How many hits.")] = 10,
    contact_sheet: Annotated[
        Path | None,
        typer.Option("--contact-sheet", metavar="FILE", help="Draw the hits into an image file."),
    ] = None,
    library: LibraryOption = None,
    space: SpaceOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Find images by a text, an image, or both."""
    from api import console
    from retrieval.query import Query, read_parts

    query = Query(read_parts(text, image), k=k)
    opened = open_library(library)

    from api.schemas import SearchAnswer
    from retrieval.engine import Engine

    answer = Engine(opened, space_id=space, device=device).search(query)
    if as_json:
        body = SearchAnswer.of(answer, text, str(image) if image else None)
        print_json(body.model_dump())
    else:
        for warning in answer.warnings:
            complain(warning)
        console.print_hits(answer.hits)
        if not answer.hits:
            console.err.print("The library holds no images yet: mmsearch index PATH...")
    if contact_sheet and answer.hits:
        from api.contact_sheet import write_contact_sheet

        write_contact_sheet(answer.hits, text or str(image), contact_sheet)


@app.command()
def status(
    failed: Annotated[
        bool, typer.Option("--failed", help="List the files that could not be read, and why.")
    ] = False,
    library: LibraryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell what a library holds."""
    from api import console
    from api.schemas import valid_text

    opened = open_library(library)
    space = opened.space()
    with opened.catalog.snapshot() as snapshot:
        counts = snapshot.counts(space.id)
        sources = snapshot.sources()
        failures = snapshot.failures() if failed else []
    facts: dict[str, Any] = {
        "library": str(opened.path),
        "encoder": space.encoder,
        "space": space.id,
        "spaces": opened.space_ids(),
        "sources": sources,
        "images": counts.images,
        "files_indexed": counts.indexed,
        "files_failed": counts.failed,
        "files_removed": counts.removed,
        "bytes": sum(file.stat().st_size for file in opened.path.rglob("*") if file.is_file()),
    }
    if as_json:
        if failed:
            facts["failures"] = [{"path": f.path, "reason": f.failure} for f in failures]
        print_json(facts)
        return
    if failed:
        for failure in failures:
            path, reason = console.display_path(failure.path), failure.failure
            console.out.print(f"{path}: {reason}", markup=False)
        if not failures:
            console.out.print("No file has failed.")
        return
    lines = {
        "Library": str(opened.path),
        "Encoder": f"{space.encoder} (space {space.id})",
        "Sources": "\n          ".join(valid_text(source) for source in sources) or "none",
        "Images": f"{counts.images:,}",
        "Failed": f"{counts.failed:,}" + (" (mmsearch status --failed)" if counts.failed else ""),
        "On disk": f"{facts['bytes'] / 1e6:,.1f} MB",
    }
    for name, value in lines.items():
        console.out.print(f"{name:<9} {value}", markup=False)


@app.command()
def remove(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Folders and files.")],
    library: LibraryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Forget folders and files; nothing on the disk but the library is touched."""
    from api import console
    from indexer.pipeline import remove_paths

    opened = open_library(library)
    removed = remove_paths(opened, paths)
    if as_json:
        print_json({"library": str(opened.path), "removed": removed})
        return
    console.out.print(f"{removed:,} files forgotten.")
    with opened.catalog.snapshot() as snapshot:
        sources = snapshot.sources()
    for path in paths:
        containing = [s for s in sources if Path(s) in path.absolute().parents]
        for source in containing:
            console.out.print(
                f"{path} lies in the source {source}: the next `mmsearch index` finds it again.",
                markup=False,
            )


@app.command()
def encoders(
    show_all: Annotated[
        bool, typer.Option("--all", help="All of open_clip's models, not only those here.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List the encoders that can be used, and which are on this machine."""
    from api import console
    from retrieval.encoders.registry import RECOMMENDED, STARTER, list_encoders

    listings = [
        listing
        for listing in list_encoders()
        if show_all or listing.local or listing.name in {STARTER, RECOMMENDED}
    ]
    if as_json:
        print_json({"encoders": [vars(listing) for listing in listings]})
        return
    for listing in listings:
        where = "here" if listing.local else "to download"
        line = f"{listing.name:<55} {where:<12} {listing.note}"
        console.out.print(line.rstrip(), markup=False)
    if not show_all:
        console.out.print("All models of open_clip: mmsearch encoders --all")


@app.command()
def serve(
    library: LibraryOption = None,
    host: Annotated[
        str | None, typer.Option("--host", help="[default: 127.0.0.1]", show_default=False)
    ] = None,
    port: Annotated[
        int | None,
        typer.Option("--port", min=0, max=65_535, help="[default: 8765]", show_default=False),
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Answer searches over HTTP; the description of the service is at /docs."""
    import uvicorn

    from api.server import create_app
    from api.settings import ServiceSettings

    settings = ServiceSettings()
    if host is not None:
        settings.host = host
    if port is not None:
        settings.port = port
    opened = open_library(library)
    if not settings.is_loopback:
        complain(
            f"Warning: the service asks for no password; whoever can reach {settings.host} can "
            "search this library and see its thumbnails."
        )
    uvicorn.run(create_app(opened, device=device), host=settings.host, port=settings.port)


def _library_and_encoder(
    path: Path, encoder_name: str | None, space_id: str | None, device: str, has_paths: bool
) -> "tuple[Library, Encoder]":
    """Open or create the library and load the encoder of the space to be written."""
    from api import console
    from retrieval.encoders.registry import AUTO, choose_encoder, load_encoder

    if not library_exists(path):
        if not has_paths:
            open_library(path)  # raises: there is nothing to bring up to date
        if space_id not in {None, "new"}:
            raise UsageError(f"{path} is not a library yet, so it has no space {space_id!r}.")
        choice = choose_encoder(encoder_name or AUTO)
        console.err.print(f"Encoder: {choice.name} ({choice.reason}).", markup=False)
        encoder = load_encoder(choice.name, device)
        return create_library(path, encoder.space), encoder
    library = open_library(path, upgrade=True)
    if space_id == "new":
        if encoder_name is None:
            raise UsageError("`--space new` needs `--encoder NAME`.")
        encoder = load_encoder(choose_encoder(encoder_name).name, device)
        library.add_space(encoder.space)
        return library, encoder
    space = library.space(space_id)
    asked = encoder_name not in {None, AUTO}
    encoder = load_encoder(encoder_name if encoder_name and asked else space.encoder, device)
    library.require_space(encoder.space, among=space)
    return library, encoder


@contextmanager
def _stop_on_ctrl_c() -> Iterator[list[bool]]:
    """Collect the first Ctrl-C as a wish to stop after the batch; a second one interrupts."""
    stop: list[bool] = []

    def note(_signal: int, _frame: FrameType | None) -> None:
        stop.append(True)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        complain("Finishing the batch in flight. Ctrl-C again: stop at once.")

    before = signal.signal(signal.SIGINT, note)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)

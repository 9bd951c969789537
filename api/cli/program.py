"""The command line: thin commands over the library, the indexer, the engine and the service."""

import os
import signal
import stat
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.cli.bench.program import bench
from api.cli.duplicates import duplicates
from api.cli.explain import explain
from api.cli.filter_options import (
    AfterOption,
    BeforeOption,
    CameraOption,
    KindFilterOption,
    PathFilterOption,
    SourceFilterOption,
    WhereOption,
    parse_filter,
)
from api.cli.index_info import build_due_indices, build_index, index_info
from api.cli.open_library import library_and_encoder
from api.cli.options import (
    BatchSizeOption,
    DeviceOption,
    JsonOption,
    LibraryOption,
    ModalityOption,
    RerankDepthOption,
    RerankOption,
    SpaceOption,
    complain,
    parse_size,
    print_json,
    require_paths,
)
from api.cli.serve import serve
from api.cli.train import train
from api.cli.watch import watch
from retrieval.errors import LibraryError, MMSearchError, UsageError
from retrieval.library import Library, default_library_path, open_library

if TYPE_CHECKING:
    from retrieval.encoders.base import Encoder
    from retrieval.rerankers.base import Reranker
    from retrieval.search.query import Query

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
            "(default: the library's own; auto for a new library)",
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
        typer.Option(
            "--workers",
            min=1,
            help="Processes that read files. (default: one a core, at most 16)",
            show_default=False,
        ),
    ] = None,
    kinds: Annotated[
        str | None,
        typer.Option(
            "--kinds",
            metavar="LIST",
            help="Only these, with commas: image, video, document, text, table. (default: all)",
            show_default=False,
        ),
    ] = None,
    hidden: Annotated[
        bool | None, typer.Option("--hidden/--no-hidden", help="Files and folders named .*, too.")
    ] = None,
    follow: Annotated[
        bool | None, typer.Option("--follow/--no-follow", help="Enter links to folders, too.")
    ] = None,
    one_file_system: Annotated[
        bool | None,
        typer.Option(
            "--one-file-system/--any-file-system", help="Stay out of other drives below a path."
        ),
    ] = None,
    ignore: Annotated[
        bool | None,
        typer.Option("--ignore/--no-ignore", help="Heed .mmsearchignore files. (default: heed)"),
    ] = None,
    text_column: Annotated[
        str | None,
        typer.Option(
            "--text-column",
            metavar="NAME",
            help="Which column of tables is searched. (default: text, caption and their like)",
            show_default=False,
        ),
    ] = None,
    image_column: Annotated[
        str | None,
        typer.Option(
            "--image-column",
            metavar="NAME",
            help="Which column of tables names an image file. (default: image, file_name, ...)",
            show_default=False,
        ),
    ] = None,
    max_pixels: Annotated[
        float | None,
        typer.Option(
            "--max-pixels",
            min=0.001,
            metavar="MILLIONS",
            help="Larger pictures are refused. (default: by memory, at most 179)",
            show_default=False,
        ),
    ] = None,
    time_limit: Annotated[
        float,
        typer.Option(
            "--time-limit", min=0.1, metavar="S", help="A file that takes longer is given up."
        ),
    ] = 60,
    with_tokens: Annotated[
        bool,
        typer.Option("--with-tokens", help="Prepare images for reranking; tells how large first."),
    ] = False,
    token_cache: Annotated[
        str | None,
        typer.Option(
            "--token-cache",
            metavar="SIZE",
            help="How large what is kept for reranking may grow, such as 500MB. (default: 2GB)",
            show_default=False,
        ),
    ] = None,
    token_precision: Annotated[
        str | None,
        typer.Option(
            "--token-precision",
            metavar="float16|int8",
            help="How it is kept; int8 takes half the space. (default: float16)",
            show_default=False,
        ),
    ] = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Make folders searchable, or bring them up to date: images, videos, PDF, texts, tables."""
    from api.cli import console
    from indexer.pipeline import index_sources
    from indexer.sources import parse_changes

    require_paths(paths or [])
    changes = parse_changes(
        {
            "kinds": kinds,
            "hidden": hidden,
            "follow": follow,
            "one_file_system": one_file_system,
            "ignore_files": ignore,
            "text_column": text_column,
            "image_column": image_column,
        }
    )
    token_settings = _token_settings(token_cache, token_precision)
    opened, loaded = library_and_encoder(
        library or default_library_path(), encoder, space, device, bool(paths)
    )
    reranker = _reranker_for_tokens(opened, loaded, device, token_settings) if with_tokens else None
    _configure_tokens(opened, token_settings)
    with console.indexing_progress(quiet=as_json) as bar, _stop_on_ctrl_c() as stop:
        summary = index_sources(
            opened,
            loaded,
            paths or (),
            changes=changes,
            batch_size=batch_size,
            workers=workers,
            limit_s=time_limit,
            max_pixels=None if max_pixels is None else int(max_pixels * 1e6),
            retry_failed=retry_failed,
            on_progress=bar,
            should_stop=lambda: bool(stop),
        )
    if as_json:
        facts: dict[str, Any] = {
            "library": str(opened.path),
            "space": loaded.space.id,
            **vars(summary),
            "items_per_second": round(summary.items_per_second, 2),
        }
    elif summary.found == 0 and not summary.removed:
        where = ", ".join(str(path) for path in paths or ()) or "the library's sources"
        console.out.print(f"Nothing that can be indexed in {where}.", markup=False)
    else:
        console.print_summary(summary, opened.path)
    is_stopped, tokens = summary.interrupted, None
    if reranker and not is_stopped:
        tokens = _prepare_tokens(opened, loaded, reranker, batch_size, workers, as_json)
        is_stopped = tokens["interrupted"]
    if not is_stopped:
        with _stop_on_ctrl_c() as stop:
            build_due_indices(
                opened, loaded, device=device, is_quiet=as_json, should_stop=lambda: bool(stop)
            )
    if as_json:
        print_json(facts | ({"tokens": tokens} if reranker else {}))
    if is_stopped:
        complain("Stopped. What was embedded is kept; run the same command again to go on.")
        raise typer.Exit(130)


@app.command()
def search(
    text: Annotated[str | None, typer.Argument(metavar="TEXT", help="What to look for.")] = None,
    image: Annotated[
        Path | None,
        typer.Option("--image", metavar="FILE", help="Find what is like this image."),
    ] = None,
    minus: Annotated[
        list[str],
        typer.Option("--minus", metavar="TEXT", help="Find what is unlike this text. Repeatable."),
    ] = [],  # noqa: B006 - Typer needs a list, and it is not changed
    like: Annotated[
        list[int],
        typer.Option("--like", metavar="ID", help="Find what is like this item. Repeatable."),
    ] = [],  # noqa: B006
    k: Annotated[int, typer.Option("-k", metavar="N", help="How many hits.")] = 10,
    cursor: Annotated[
        str | None,
        typer.Option("--cursor", metavar="CURSOR", help="Go on where an answer ended."),
    ] = None,
    modality: ModalityOption = "image",
    source: SourceFilterOption = None,
    path: PathFilterOption = None,
    kind: KindFilterOption = None,
    after: AfterOption = None,
    before: BeforeOption = None,
    camera: CameraOption = None,
    where: WhereOption = None,
    mode: Annotated[
        str,
        typer.Option(
            "--mode",
            metavar="NAME",
            help="vector: by meaning, text: by words, hybrid: by both, auto: by both where the "
            "words are there.",
        ),
    ] = "auto",
    min_relevance: Annotated[
        float,
        typer.Option(
            "--min-relevance", min=0, max=1, metavar="P", help="Leave out what is less relevant."
        ),
    ] = 0,
    group: Annotated[
        bool, typer.Option("--group", help="Only the best frame, page or passage of each file.")
    ] = False,
    diversity: Annotated[
        float,
        typer.Option("--diversity", min=0, max=1, metavar="D", help="How much hits should differ."),
    ] = 0,
    contact_sheet: Annotated[
        Path | None,
        typer.Option("--contact-sheet", metavar="FILE", help="Draw the hits into an image file."),
    ] = None,
    rerank: RerankOption = "auto",
    rerank_depth: RerankDepthOption = None,
    rerank_budget: Annotated[
        float,
        typer.Option("--rerank-budget", min=0, metavar="MS", help="Time that reranking may take."),
    ] = 2000,
    server: Annotated[
        str | None,
        typer.Option(
            "--server",
            metavar="URL",
            help="Ask a service instead of a library here. (default: $MMSEARCH_SERVER)",
            show_default=False,
        ),
    ] = None,
    library: LibraryOption = None,
    space: SpaceOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Find images or passages of text by a text, an image, or both."""
    from api.cli import console
    from retrieval.search.query import Query, Reranking, parse_modality, parse_mode, read_parts

    wanted = parse_filter(
        source=source,
        path=path,
        kind=kind,
        after=after,
        before=before,
        camera=camera,
        where=where,
    )
    query = Query(
        read_parts(text, image, minus=minus, like=like),
        k=k,
        modality=parse_modality(modality),
        mode=parse_mode(mode),
        min_relevance=min_relevance,
        group_by_file=group,
        diversity=diversity,
        cursor=cursor,
        where=wanted,
    )
    is_local = library is not None or space is not None or device != "auto"
    if server and is_local:
        raise UsageError("`--library`, `--space` and `--device` are of no use with `--server`.")

    from api.http.schemas import SearchAnswer
    from retrieval.search.engine import Engine

    reranking = Reranking(rerank, rerank_depth, rerank_budget)
    title = text or (str(image) if image else f"like {', '.join(map(str, like))}")
    if address := server or (None if is_local else os.environ.get("MMSEARCH_SERVER")):
        from api.cli.remote import search_on

        search_on(
            address,
            query,
            reranking,
            text=text,
            image=str(image) if image else None,
            as_json=as_json,
            contact_sheet=(contact_sheet, title) if contact_sheet else None,
        )
        return
    opened = open_library(library)
    answer = Engine(opened, space_id=space, device=device).search(query, reranking)
    if as_json:
        body = SearchAnswer.of(answer, text, str(image) if image else None)
        print_json(body.model_dump())
    else:
        for warning in answer.warnings:
            complain(warning)
        console.print_answer(answer)
        if not answer.hits:
            complain(_why_nothing(opened, space, query))
    if contact_sheet and answer.hits:
        from api.drawing.contact_sheet import write_contact_sheet

        write_contact_sheet(answer.hits, title, contact_sheet)


def _why_nothing(library: Library, space: str | None, query: "Query") -> str:
    """Say why a search has no hits."""
    with library.catalog.snapshot() as snapshot:
        counts = snapshot.counts(library.space(space).id)
    if not (counts.texts if query.modality == "text" else counts.images):
        return f"The library holds no {query.modality}s yet: mmsearch index PATH..."
    if query.cursor:
        return "There are no further hits."
    return "Nothing was found: loosen the filters, --min-relevance or --mode."


app.command()(explain)
app.command()(duplicates)
app.command()(watch)
app.command()(serve)
app.command()(index_info)
app.command()(build_index)


@app.command()
def status(
    failed: Annotated[
        bool, typer.Option("--failed", help="List the files that could not be read, and why.")
    ] = False,
    library: LibraryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell what a library holds."""
    from api.cli import console
    from api.http.schemas import valid_text

    opened = open_library(library)
    space = opened.space()
    with opened.catalog.snapshot() as snapshot:
        counts = snapshot.counts(space.id)
        sources = snapshot.sources()
        failures = snapshot.failures() if failed else []
    usage, settings = opened.tokens.usage(), opened.tokens.settings
    facts: dict[str, Any] = {
        "library": str(opened.path),
        "encoder": space.encoder,
        "space": space.id,
        "spaces": opened.space_ids(),
        "sources": sources,
        "images": counts.images,
        "texts": counts.texts,
        "files_indexed": counts.indexed,
        "files_failed": counts.failed,
        "files_removed": counts.removed,
        "bytes": _size_on_disk(opened.path),
        "token_cache": {**vars(usage), **vars(settings)},
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
        "Texts": f"{counts.texts:,}",
        "Failed": f"{counts.failed:,}" + (" (mmsearch status --failed)" if counts.failed else ""),
        "On disk": f"{facts['bytes'] / 1e6:,.1f} MB",
        "Tokens": f"{usage.images:,} images, {usage.bytes / 1e6:,.1f} MB of at most "
        f"{settings.limit_bytes / 1e6:,.1f} MB, {settings.precision}",
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
    from api.cli import console
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
    from api.cli import console
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


def _token_settings(size: str | None, precision: str | None) -> dict[str, Any]:
    """Settings of the token cache that were asked for; raises UsageError for wrong ones."""
    from retrieval.rerankers.token_cache import TokenCacheSettings

    asked: dict[str, Any] = {}
    if size is not None:
        asked["limit_bytes"] = parse_size(size)
    if precision is not None:
        asked["precision"] = precision
    TokenCacheSettings(**asked)
    return asked


def _configure_tokens(library: Library, asked: dict[str, Any]) -> None:
    if asked:
        try:
            library.tokens.configure(replace(library.tokens.settings, **asked))
        except OSError as error:
            raise LibraryError(
                f"{library.tokens.folder} cannot be written: {error.strerror}."
            ) from error


def _reranker_for_tokens(
    library: Library, encoder: "Encoder", device: str, asked: dict[str, Any]
) -> "Reranker":
    """Load the reranker of a space; raise before hours of indexing what can be known before."""
    from indexer.reranker_tokens import plan_tokens
    from retrieval.rerankers.registry import AUTO, load_reranker

    reranker = load_reranker(AUTO, encoder, device)
    if reranker is None:
        raise UsageError(
            f"There is no reranker for {encoder.space.encoder}, so there are no tokens to prepare. "
            "Leave out `--with-tokens`."
        )
    settings = replace(library.tokens.settings, **asked)
    plan_tokens(library, encoder, reranker, settings).require_room()
    return reranker


def _prepare_tokens(
    library: Library,
    encoder: "Encoder",
    reranker: "Reranker",
    batch_size: int,
    workers: int | None,
    is_quiet: bool,
) -> dict[str, Any]:
    """Prepare a library for reranking; returns what is to be said of it in JSON."""
    from api.cli import console
    from indexer.reranker_tokens import TokensPlan, prepare_tokens

    facts: dict[str, Any] = {}

    def tell(plan: TokensPlan) -> None:
        limit = plan.settings.limit_bytes
        complain(
            f"Preparing {len(plan.missing):,} images for reranking: "
            f"{plan.bytes_per_image / 1e3:,.1f} kB an image, {plan.new_bytes / 1e6:,.1f} MB in "
            f"all, beside {plan.held_bytes / 1e6:,.1f} MB that are there (limit "
            f"{limit / 1e6:,.1f} MB, {plan.settings.precision})."
        )
        facts.update(
            images=len(plan.missing),
            bytes_per_image=plan.bytes_per_image,
            bytes=plan.new_bytes,
            held_bytes=plan.held_bytes,
            limit_bytes=limit,
            precision=plan.settings.precision,
        )

    with console.stage_progress() as show, _stop_on_ctrl_c() as stop:
        summary = prepare_tokens(
            library,
            encoder,
            reranker,
            workers=workers,
            batch_size=batch_size,
            on_plan=tell,
            on_progress=lambda event: (
                None if is_quiet else show("Preparing", event.done, event.total or 0)
            ),
            should_stop=lambda: bool(stop),
        )
    if not is_quiet:
        failed = (
            f", {summary.failed:,} could not be (gone, changed or unreadable)"
            if summary.failed
            else ""
        )
        console.out.print(f"{summary.made:,} images prepared for reranking{failed}.")
    return facts | vars(summary)


def _size_on_disk(folder: Path) -> int:
    size = 0
    for file in folder.rglob("*"):
        with suppress(FileNotFoundError):  # the service may drop tokens meanwhile
            status = file.stat()
            size += status.st_size if stat.S_ISREG(status.st_mode) else 0
    return size


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

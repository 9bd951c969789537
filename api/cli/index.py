"""`mmsearch index`: index directories, or update their index."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.cli.completion import ENCODERS, KINDS, RERANKERS, list_of, one_of
from api.cli.enrichment import (
    CaptionsOption,
    NoCaptionsOption,
    NoTranscribeOption,
    OcrOption,
    RenewTextsOption,
    TranscribeOption,
    as_facts,
    chosen_models,
    enrich_and_tell,
    load_chosen,
)
from api.cli.index_info import build_due_indices
from api.cli.open_library import library_and_encoder, other_encoders
from api.cli.options import (
    STOPPING,
    BatchSizeOption,
    ClusterOption,
    DeviceOption,
    EncodersOption,
    JsonOption,
    LibraryOption,
    SourcesArgument,
    WorkersOption,
    complain,
    option,
    options_of,
    parse_size,
    print_json,
    require_paths,
    stop_on_signal,
)
from retrieval.errors import LibraryError, UsageError
from retrieval.library import Library, default_library_path

if TYPE_CHECKING:
    from api.cli.console import IndexingBar
    from indexer.moved_sources import PossibleMove
    from indexer.progress import Summary
    from indexer.spaces import SpaceRun
    from retrieval.encoders.base import Encoder
    from retrieval.rerankers.base import Reranker


def index(
    paths: SourcesArgument = None,
    library: LibraryOption = None,
    encoder: Annotated[
        str | None,
        option(
            "--encoder",
            "NAME",
            "Encoder: auto, starter, open_clip:MODEL/PRETRAINED, local-dir:DIR or "
            "late-interaction:NAME_OR_DIR (pages), clap:NAME_OR_DIR (sound and text). (default: "
            "the library's own; for a new one $MMSEARCH_ENCODER, else auto)",
            autocompletion=one_of(ENCODERS),
        ),
    ] = None,
    language: Annotated[
        str | None,
        typer.Option(
            "--language",
            metavar="CODE",
            envvar="MMSEARCH_LANGUAGE",
            show_envvar=False,
            help="Language of your queries, such as zh: --encoder auto chooses an encoder for it. "
            "(default: $MMSEARCH_LANGUAGE, else none in particular)",
        ),
    ] = None,
    space: Annotated[
        str | None,
        option(
            "--space",
            "ID|new",
            "Index into one vector space only, or `new` to add one for --encoder. (default: all "
            "of the library)",
        ),
    ] = None,
    moved_from: Annotated[
        list[Path] | None,
        option(
            "--moved-from",
            "OLD",
            "Former path of what was moved or renamed and is indexed now. Repeatable. (default: "
            "recognized by the files)",
        ),
    ] = None,
    not_moved: Annotated[
        bool,
        typer.Option("--not-moved", help="Keep missing sources even if the same files are here."),
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Retry files that failed before.")
    ] = False,
    refresh_metadata: Annotated[
        bool,
        typer.Option(
            "--refresh-metadata",
            help="Read the metadata of unchanged files again, without embedding them.",
        ),
    ] = False,
    batch_size: BatchSizeOption = 64,
    workers: WorkersOption = None,
    kinds: Annotated[
        str | None,
        option(
            "--kinds",
            "LIST",
            "Comma-separated file kinds: image, video, audio, document, text, table. (default: "
            "all)",
            autocompletion=list_of(KINDS),
        ),
    ] = None,
    hidden: Annotated[
        bool | None,
        typer.Option("--hidden/--no-hidden", help="Include hidden files and directories."),
    ] = None,
    follow: Annotated[
        bool | None,
        typer.Option("--follow/--no-follow", help="Follow symbolic links to directories."),
    ] = None,
    one_file_system: Annotated[
        bool | None,
        typer.Option(
            "--one-file-system/--any-file-system", help="Do not cross file-system boundaries."
        ),
    ] = None,
    ignore_files: Annotated[
        bool | None, typer.Option("--ignore/--no-ignore", help="Respect .mmsearchignore files.")
    ] = None,
    system_folders: Annotated[
        bool | None,
        typer.Option(
            "--system-folders/--no-system-folders",
            help="Include folders of NAS boxes, systems and photo programs, such as @eaDir.",
        ),
    ] = None,
    archives: Annotated[
        bool | None,
        typer.Option(
            "--archives/--no-archives",
            help="Enter tar files (WebDataset shards) in directories.",
        ),
    ] = None,
    text_column: Annotated[
        str | None,
        option(
            "--text-column",
            "NAME",
            "Text column of tables. (default: text, caption and similar names)",
        ),
    ] = None,
    image_column: Annotated[
        str | None,
        option(
            "--image-column",
            "NAME",
            "Image file column of tables. (default: image, file_name and similar names)",
        ),
    ] = None,
    text_encoding: Annotated[
        str | None,
        option(
            "--text-encoding",
            "NAME",
            "Encoding of texts and tables that are not UTF-8, such as cp1250 or big5. (default: "
            "detected, where it is sure)",
        ),
    ] = None,
    max_pixels: Annotated[
        float | None,
        option(
            "--max-pixels",
            "MILLIONS",
            "Maximum image size in megapixels. (default: by memory, at most 250)",
            min=0.001,
        ),
    ] = None,
    time_limit: Annotated[
        float, option("--time-limit", "S", "Time limit per file in seconds.", min=0.1)
    ] = 60,
    with_tokens: Annotated[
        bool,
        typer.Option(
            "--with-tokens", help="Precompute the reranker's image tokens; prints their size first."
        ),
    ] = False,
    rerank: Annotated[
        str,
        option(
            "--rerank",
            "NAME",
            "Reranker of `--with-tokens`, as of `mmsearch search`.",
            autocompletion=one_of(RERANKERS),
        ),
    ] = "auto",
    token_cache: Annotated[
        str | None,
        option(
            "--token-cache",
            "SIZE",
            "Maximum size of the reranker token cache, such as 500MB. (default: 2GB)",
        ),
    ] = None,
    token_precision: Annotated[
        str | None,
        option(
            "--token-precision",
            "float16|int8",
            "Storage precision of cached tokens; int8 halves the size. (default: float16)",
        ),
    ] = None,
    ocr: OcrOption = None,
    transcribe: TranscribeOption = None,
    no_transcribe: NoTranscribeOption = False,
    captions: CaptionsOption = None,
    no_captions: NoCaptionsOption = False,
    renew_texts: RenewTextsOption = False,
    shared: Annotated[
        bool,
        typer.Option(
            "--shared",
            help="Let the group of the library's directory read and write the library. "
            "(default: only you can, if you created it)",
        ),
    ] = False,
    cluster: ClusterOption = None,
    encoders: EncodersOption = None,
    catalog: Annotated[
        str | None,
        option(
            "--catalog",
            "URL",
            "Database for the catalog of a new library: postgresql://USER@HOST/DATABASE?schema="
            "NAME, without a password. (default: an SQLite file in the library)",
        ),
    ] = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Index directories, or update their index: images, videos, sounds, PDF, texts, tables."""
    given = locals()
    from api.cli import console
    from indexer.moved_sources import MoveOptions
    from indexer.pipeline import index_sources
    from indexer.sources import SourceOptions, parse_changes
    from indexer.spaces import index_spaces
    from retrieval.encoders.languages import language_code

    require_paths(paths or [])
    given["max_pixels"] = None if max_pixels is None else int(max_pixels * 1e6)
    changes = parse_changes(options_of(SourceOptions, given))
    if cluster is not None or encoders is not None:
        from api.cli.cluster import index_on_cluster

        index_on_cluster(given, changes)
        return
    token_settings = _token_settings(token_cache, token_precision)
    models = chosen_models(ocr, transcribe, no_transcribe, captions, no_captions)
    recognizers = load_chosen(models)
    opened, loaded = library_and_encoder(
        library or default_library_path(),
        encoder,
        space,
        device,
        bool(paths),
        language_code(language) if language else None,
        catalog,
    )
    if shared:
        opened.share()
    reranker = (
        _reranker_for_tokens(opened, loaded, rerank, device, token_settings)
        if with_tokens
        else None
    )
    _configure_tokens(opened, token_settings)
    opened.set_enrichment(models)

    with stop_on_signal(note=STOPPING) as stop:

        def index_in(encoder: "Encoder") -> "Summary":
            with console.indexing_progress(quiet=as_json) as bar:
                # What was moved is known after the first run.
                moves = MoveOptions(not_moved=True)
                if encoder is loaded:
                    moves = MoveOptions(moved_from or (), not_moved, _asker(bar))
                return index_sources(
                    opened,
                    encoder,
                    paths or (),
                    changes=changes,
                    moves=moves,
                    batch_size=batch_size,
                    workers=workers,
                    limit_s=time_limit,
                    retry_failed=retry_failed and encoder is loaded,
                    refresh_metadata=refresh_metadata and encoder is loaded,
                    on_progress=bar,
                    should_stop=stop.is_set,
                )

        others = [] if space else other_encoders(opened, loaded.space.id, device)
        first, *runs = index_spaces([loaded, *others], index_in)
    facts = _report(opened, first, runs, paths or (), is_new=space == "new", as_json=as_json)
    is_stopped, tokens = any(run.summary.interrupted for run in (first, *runs)), None
    texts = enrich_and_tell(
        opened,
        () if is_stopped else (first, *runs),
        recognizers,
        renew=renew_texts,
        retry_failed=retry_failed,
        workers=workers,
        as_json=as_json,
    )
    is_stopped |= any(summary.interrupted for summary in texts)
    if reranker and not is_stopped:
        tokens = _prepare_tokens(opened, loaded, reranker, batch_size, workers, as_json)
        is_stopped = tokens["interrupted"]
    for run in (first, *runs):
        if not is_stopped and run.problem is None:
            with stop_on_signal(note=STOPPING) as stop:
                build_due_indices(
                    opened, run.encoder, device=device, is_quiet=as_json, should_stop=stop.is_set
                )
    if as_json:
        facts["texts"] = as_facts(texts)
        print_json(facts | ({"tokens": tokens} if reranker else {}))
    if is_stopped:
        complain(
            "Stopped: run the same command again to continue; embedded items are in the library."
        )
        raise typer.Exit(130)


def _report(
    library: Library,
    first: "SpaceRun",
    others: Sequence["SpaceRun"],
    paths: Sequence[Path],
    *,
    is_new: bool,
    as_json: bool,
) -> dict[str, Any]:
    """Print what was done, or return the fields of `--json`. first: the run in the space asked."""
    from api.cli.spaces import report_other_spaces
    from api.http.schemas import valid_text

    summary, space_id = first.summary, first.encoder.space.id
    if not as_json:
        _tell_summary(summary, library, paths)
        report_other_spaces(library, space_id, others)
        _tell_of_default(library, first.encoder, is_new=is_new)
        return {}
    passed_over = {"endings", "system_folders"}
    counts = {name: value for name, value in vars(summary).items() if name not in passed_over}
    return {
        "library": str(library.path),
        "space": space_id,
        **counts,
        "passed_over": {"endings": summary.endings, "system_folders": summary.system_folders},
        "notes": [valid_text(note) for note in summary.notes],
        "items_per_second": round(summary.items_per_second, 2),
        "other_spaces": report_other_spaces(library, space_id, others, is_quiet=True),
    }


def _tell_of_default(library: Library, encoder: "Encoder", *, is_new: bool) -> None:
    """Say that searches go on with the default space, after another one was added."""
    from api.cli import console

    default = library.space()
    if is_new and encoder.space != default:
        console.out.print(
            f"Searches use {default.id} by default. `mmsearch spaces default {encoder.space.id}` "
            "changes that.",
            markup=False,
        )


def _tell_summary(summary: "Summary", library: Library, paths: Sequence[Path]) -> None:
    """Print what was done, and what is to be known of moved and missing sources."""
    from api.cli import console
    from api.http.schemas import valid_text

    if console.err.quiet:
        return
    if summary.found == 0 and not summary.removed:
        where = ", ".join(str(path) for path in paths) or "the library's sources"
        console.out.print(f"No files that can be indexed in {where}.", markup=False)
    else:
        console.print_summary(summary, library.path)
    for line in console.passed_over(summary.endings, summary.system_folders):
        console.out.print(line, markup=False)
    for note in summary.notes:
        complain(valid_text(note))


def _asker(bar: "IndexingBar") -> "Callable[[PossibleMove], bool] | None":
    """Return what asks whether a source was moved; None where nobody can answer."""
    from api.cli import console

    def was_moved(move: "PossibleMove") -> bool:
        with bar.hidden():
            return typer.confirm(_question(move), default=False, err=True)

    return was_moved if sys.stdin.isatty() and console.err.is_terminal else None


def _question(move: "PossibleMove") -> str:
    from api.cli.console import display_path
    from api.printable import one_line

    old, new = display_path(move.old), display_path(move.new)
    presence = move.presence
    why = f" ({one_line(move.doubt)})" if move.doubt else ""
    return (
        f"{old} is not there, and {presence.same:,} of its {presence.files:,} files are at "
        f"{new}{why}. Was it moved there?"
    )


def _token_settings(size: str | None, precision: str | None) -> dict[str, Any]:
    """Build the given settings of the token cache; raises UsageError for invalid ones."""
    from retrieval.rerankers.token_cache import TokenCacheSettings

    limit = None if size is None else parse_size(size)
    settings = {"limit_bytes": limit, "precision": precision}
    asked: dict[str, Any] = {key: value for key, value in settings.items() if value is not None}
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
    library: Library, encoder: "Encoder", name: str, device: str, asked: dict[str, Any]
) -> "Reranker":
    """Load the reranker of a space; raise foreseeable errors before hours of indexing."""
    from indexer.reranker_tokens import plan_tokens
    from retrieval.rerankers.registry import load_reranker

    reranker = load_reranker(name, encoder, device)
    if reranker is None:
        raise UsageError(
            f"There is no reranker for {encoder.space.encoder}, so no tokens can be precomputed. "
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
    """Precompute the reranker tokens of a library; returns the fields of `--json`."""
    from api.cli import console
    from indexer.reranker_tokens import TokensPlan, prepare_tokens

    facts: dict[str, Any] = {}

    def tell(plan: TokensPlan) -> None:
        limit = plan.settings.limit_bytes
        complain(
            f"Precomputing reranker tokens of {len(plan.missing):,} images: "
            f"{plan.bytes_per_image / 1e3:,.1f} kB per image, {plan.new_bytes / 1e6:,.1f} MB in "
            f"total, besides {plan.held_bytes / 1e6:,.1f} MB in the token cache (maximum "
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

    with console.stage_progress() as show, stop_on_signal(note=STOPPING) as stop:
        summary = prepare_tokens(
            library,
            encoder,
            reranker,
            workers=workers,
            batch_size=batch_size,
            on_plan=tell,
            on_progress=lambda event: (
                None if is_quiet else show("Computing tokens", event.done, event.total or 0)
            ),
            should_stop=stop.is_set,
        )
    if not is_quiet:
        failed = (
            f", {summary.failed:,} failed (deleted, changed or unreadable)"
            if summary.failed
            else ""
        )
        console.out.print(f"Reranker tokens of {summary.made:,} images precomputed{failed}.")
    return facts | vars(summary)

"""Index into a Lance table on a Ray cluster, and build the index of a table, there or here."""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from api.cli.open_library import ENCODER_VARIABLE
from api.cli.options import STOPPING, complain, print_json, stop_on_signal
from retrieval.errors import NotFoundError, UsageError
from retrieval.library import is_table
from retrieval.media import Modality

if TYPE_CHECKING:
    from indexer.sources import Changes
    from retrieval.encoders.base import Encoder, Vectors
    from retrieval.lance.index_settings import TableIndexSettings
    from retrieval.lance.table import LanceTable

_OF_ONE_MACHINE = {
    "space": "--space",
    "moved_from": "--moved-from",
    "not_moved": "--not-moved",
    "refresh_metadata": "--refresh-metadata",
    "ocr": "--ocr",
    "transcribe": "--transcribe",
    "captions": "--captions",
    "with_tokens": "--with-tokens",
    "token_cache": "--token-cache",
    "token_precision": "--token-precision",
    "shared": "--shared",
}
"""Options of `mmsearch index` that mean nothing here, by the names of their values."""


def table_location(library: Path | None) -> str:
    """Return the location that `--library` names; raises UsageError unless it is of a table."""
    from retrieval.lance.library import with_slashes

    if library is None or not is_table(library):
        raise UsageError(
            "This is done for a library in a Lance table: `--library lance:DIR`, in a directory "
            "that this machine writes to, or `--library lance+s3://BUCKET/PREFIX`."
        )
    return with_slashes(library)


def index_on_cluster(given: Mapping[str, Any], changes: "Changes") -> None:
    """Index paths, or update their index, on a cluster.

    given: the options of `mmsearch index`, by name. changes: those of the sources.
    """
    from api.cli import console
    from indexer.cluster import job
    from indexer.cluster.connection import connected, require_answer
    from indexer.pipeline import DEFAULT_BATCH_SIZE
    from retrieval.encoders.languages import language_code

    if given["cluster"] is None:
        raise UsageError("`--encoders` needs `--cluster`: one machine has one encoder.")
    for name, option in _OF_ONE_MACHINE.items():
        if given[name]:
            raise UsageError(f"`{option}` cannot be used with `--cluster`.")
    if not given["paths"]:  # a stranger's table could name folders of this machine
        raise UsageError("Name the sources: `mmsearch index SOURCE... --cluster ADDRESS`.")
    location = table_location(given["library"])
    require_answer(given["cluster"])  # before a table is made
    language = given["language"]
    table, encoder = _table_and_encoder(
        location,
        given["encoder"],
        language=language_code(language) if language else None,
    )
    as_json = given["as_json"]
    options = job.JobOptions(
        batch_size=None if given["batch_size"] == DEFAULT_BATCH_SIZE else given["batch_size"],
        readers=given["workers"],
        encoders=given["encoders"],
        device=given["device"],
        limit_s=given["time_limit"],
        max_pixels=given["max_pixels"],
        retry_failed=given["retry_failed"],
    )
    with (
        connected(given["cluster"]) as resources,
        stop_on_signal(note=STOPPING) as stop,
        console.indexing_progress(quiet=as_json) as bar,
    ):
        summary = job.index_on_cluster(
            table,
            encoder,
            given["paths"],
            resources,
            changes=changes,
            options=options,
            on_progress=bar,
            on_note=complain,
            should_stop=stop.is_set,
        )
    if as_json:
        passed_over = {"endings", "system_folders"}
        print_json(
            {
                "library": location,
                "space": table.space.id,
                **{name: value for name, value in vars(summary).items() if name not in passed_over},
                "passed_over": {name: getattr(summary, name) for name in sorted(passed_over)},
                "items_per_second": round(summary.items_per_second, 2),
                "cluster": vars(resources),
                "version": table.newest_version,
            }
        )
    elif not console.err.quiet:
        console.print_summary(summary, location)
        for line in console.passed_over(summary.endings, summary.system_folders):
            console.out.print(line, markup=False)
        for note in summary.notes:
            complain(note)
    if summary.interrupted:
        complain("Stopped: run the same command again to continue; what is done is in the library.")
        raise typer.Exit(130)


def _table_and_encoder(
    location: str, encoder_name: str | None, *, language: str | None
) -> "tuple[LanceTable, Encoder]":
    """Open or create the table, with the encoder of its space, as `library_and_encoder` does."""
    from api.cli import console
    from retrieval.encoders.deferred import DeferredEncoder
    from retrieval.encoders.registry import AUTO, choose_encoder, load_encoder
    from retrieval.encoders.trust import require_trusted_encoder, trust_named_encoder
    from retrieval.lance.table import LanceTable

    try:
        table = LanceTable.open(location)
    except NotFoundError:
        choice = choose_encoder(encoder_name or os.environ.get(ENCODER_VARIABLE) or AUTO, language)
        console.err.print(f"Encoder: {choice.name} ({choice.reason}).", markup=False)
        encoder = load_encoder(choice.name, "cpu")
        return LanceTable.create(location, encoder.space), encoder
    space = table.space
    if space.is_given:
        raise UsageError(
            f"{location} has vectors that were made elsewhere ({space.encoder}): nothing here can "
            "encode in its space."
        )
    if encoder_name is None or encoder_name in {AUTO, space.encoder}:
        if encoder_name is not None:
            trust_named_encoder(encoder_name)
        require_trusted_encoder(space.encoder)
        return table, DeferredEncoder(
            space, lambda: load_encoder(space.encoder, "cpu", space.weights)
        )
    encoder = load_encoder(encoder_name, "cpu")
    table.require_space(encoder.space)
    return table, encoder


def build_index(
    library: Path | None,
    kind: str | None,
    partitions: int | None,
    target_recall: float | None,
    cluster: str | None,
    factory: str | None,
    *,
    as_json: bool,
) -> None:
    """Build the vector index of a table and tune it, here or on a cluster; options by their names.

    Raises UsageError for a library that is no table, and for `--factory`, which is FAISS's.
    """
    from api.cli import console
    from indexer.cluster.connection import connected
    from retrieval.encoders.registry import load_encoder
    from retrieval.encoders.trust import require_trusted_encoder
    from retrieval.lance.index_build import TableIndexOptions, build_table_index
    from retrieval.lance.table import LanceTable

    location = table_location(library)
    if factory is not None:
        raise UsageError("`--factory` is of FAISS; the index of a table has a `--kind`.")
    table = LanceTable.open(location)
    space = table.space

    def encode(texts: list[str]) -> "Vectors":
        require_trusted_encoder(space.encoder)
        return load_encoder(space.encoder, "auto", space.weights).encode(Modality.TEXT, texts)

    with contextlib.ExitStack() as stack:
        workers = 0
        if cluster is not None:
            resources = stack.enter_context(connected(cluster))
            resources.require_enough()
            workers = resources.cpus - 1
        show = stack.enter_context(console.stage_progress(quiet=as_json))
        built = build_table_index(
            table,
            None if space.is_given else encode,
            TableIndexOptions(kind, partitions, target_recall, workers),
            on_progress=show,
        )
    if as_json:
        print_json({"library": location, "built": [built.to_json()] if built else []})
    elif built is None:
        console.out.print(
            "Nothing to build: so few vectors are compared one by one. `--kind IVF_PQ` forces an "
            "index."
        )
    else:
        console.out.print(
            f"Index of {built.rows:,} vectors built in {built.seconds:,.1f} s by "
            f"{built.workers} process{'' if built.workers == 1 else 'es'}: {built.kind}, "
            f"{built.partitions:,} lists.",
            markup=False,
        )
        _tell_efforts(built)


def tell_index(library: Path | None, *, as_json: bool) -> None:
    """Show the vector index of a table: its kind, why it was chosen, its settings and recall."""
    from api.cli import console
    from retrieval.lance.index_settings import HAS_VECTOR, choose_index, settings_of
    from retrieval.lance.table import LanceTable

    location = table_location(library)
    table = LanceTable.open(location)
    found = settings_of(table)
    rows = table.count(HAS_VECTOR)
    reasons = found.reasons if found else choose_index(rows, table.space.dimension).reasons
    if as_json:
        facts = {"rows": rows, "index": found.to_json() if found else None, "reasons": reasons}
        print_json({"library": location, "space": table.space.id, **facts})
        return
    console.out.print(
        f"Index     {found.kind if found else 'none: vectors are compared one by one'}"
    )
    past = f", {rows - found.rows:,} more now" if found else ""
    console.out.print(f"Vectors   {found.rows if found else rows:,}{past}")
    if found:
        _tell_efforts(found)
    for reason in reasons:
        console.out.print(f"Why       {reason}", markup=False)


def _tell_efforts(built: "TableIndexSettings") -> None:
    from api.cli import console

    for modality, effort in built.efforts.items():
        recall = "not measured" if effort.recall is None else f"recall@10 {effort.recall:.3f}"
        console.out.print(
            f"{modality.capitalize()} queries: {effort.breadth:,} probes, {effort.overfetch} "
            f"candidates per hit: {recall} (target: {built.target_recall:g})",
            markup=False,
        )

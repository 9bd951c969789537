"""`mmsearch index --cluster`: index into a Lance table on the machines of a Ray cluster."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from api.cli.open_library import ENCODER_VARIABLE
from api.cli.options import STOPPING, complain, print_json, stop_on_signal
from retrieval.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from indexer.sources import Changes
    from retrieval.encoders.base import Encoder
    from retrieval.lance.table import LanceTable

_OF_ONE_MACHINE = {
    "space": "--space",
    "moved_from": "--moved-from",
    "not_moved": "--not-moved",
    "refresh_metadata": "--refresh-metadata",
    "with_tokens": "--with-tokens",
    "token_cache": "--token-cache",
    "token_precision": "--token-precision",
    "shared": "--shared",
}
"""Options of `mmsearch index` that mean nothing here, by the names of their values."""


def table_location(library: Path | None) -> str:
    """Return the location of the table that `--library` names; raises UsageError for another one.

    A path has one slash where `lance+s3://` has two.
    """
    from retrieval.lance.location import is_lance

    named = "" if library is None else os.fspath(library)
    scheme, colon, rest = named.partition(":")
    if colon and scheme.startswith("lance+") and rest.startswith("/"):
        named = f"{scheme}://{rest.lstrip('/')}"
    if not is_lance(named):
        raise UsageError(
            "A cluster writes a library in a Lance table: `--library lance:DIR`, in a directory "
            "that this machine writes to, or `--library lance+s3://BUCKET/PREFIX`."
        )
    return named


def index_on_cluster(given: Mapping[str, Any], changes: "Changes") -> None:
    """Index paths, or update their index, on a cluster.

    given: the options of `mmsearch index`, by name. changes: those of the sources.
    """
    from api.cli import console
    from indexer.cluster import job
    from indexer.cluster.connection import connected
    from indexer.pipeline import DEFAULT_BATCH_SIZE
    from retrieval.encoders.languages import language_code

    if given["cluster"] is None:
        raise UsageError("`--encoders` needs `--cluster`: one machine has one encoder.")
    for name, option in _OF_ONE_MACHINE.items():
        if given[name]:
            raise UsageError(f"`{option}` cannot be used with `--cluster`.")
    location = table_location(given["library"])
    paths = given["paths"] or []
    language = given["language"]
    table, encoder = _table_and_encoder(
        location,
        given["encoder"],
        has_paths=bool(paths),
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
            paths,
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
        console.print_summary(summary, Path(location))
        for line in console.passed_over(summary.endings, summary.system_folders):
            console.out.print(line, markup=False)
        for note in summary.notes:
            complain(note)
    if summary.interrupted:
        complain("Stopped: run the same command again to continue; what is done is in the library.")
        raise typer.Exit(130)


def _table_and_encoder(
    location: str, encoder_name: str | None, *, has_paths: bool, language: str | None
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
        if not has_paths:
            raise
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

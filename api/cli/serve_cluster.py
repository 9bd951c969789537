"""`mmsearch serve --cluster`: run replicas and shards of a library on Ray Serve."""

import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from api.cli.options import complain, library_directory
from api.cli.serve import check_exposure, configure_logs, listen, only_path
from retrieval.errors import UsageError
from retrieval.lance.location import is_lance, spelled
from retrieval.library import open_library
from retrieval.shards.partition import make_shards, require_shards, shard_directories

if TYPE_CHECKING:
    from api.cluster.deployment import Plan
    from api.http.settings import ServiceSettings


@dataclass(frozen=True)
class ClusterOptions:
    """Options of `mmsearch serve` that are for Ray Serve alone."""

    cluster: str
    replicas: int
    shards: int
    shards_in: Path | None
    copy: Path | None = None


def serve_on_cluster(
    library: list[str], settings: "ServiceSettings", options: ClusterOptions, device: str
) -> None:
    """Run the service until a signal ends it.

    Raises:
        UsageError: What Ray Serve cannot do, or options that do not fit together.
        ClusterError: The cluster cannot be reached, or cannot run the service.
    """
    from api.cluster.deployment import Plan, deployed
    from api.cluster.gateway import create_gateway
    from api.cluster.runtime import connected, prepare
    from api.http.server import Server

    prepare(options.cluster)
    _require_possible(settings)
    table = _table(library, options)
    if table is not None and options.copy is not None:  # each machine makes its own copies
        directories = shard_directories(options.copy, options.shards)
    else:
        directories = _directories(library, options, settings.spaces)
    check_exposure(settings)
    sockets = listen(settings)  # raises for a port in use, before anything is started
    plan = Plan(
        directories,
        options.shards > 1 or len(directories) > 1,
        options.replicas,
        settings,
        device,
        table=table,
    )
    signals: list[int] = []
    complain(f"Starting {_described(plan)} on Ray Serve.")
    with connected(options.cluster, cpus=plan.cpus), deployed(plan) as handle:
        gateway = create_gateway(handle, settings, is_sharded=plan.is_sharded)
        server = Server(gateway, settings, signals.append)
        configure_logs(settings)
        if hasattr(signal, "SIGHUP") and (settings.api_keys_file or not sys.stdin.isatty()):
            signal.signal(signal.SIGHUP, lambda *_: gateway.state.keys.reload())
        server.run(sockets)
    if signal.SIGINT in signals:
        raise KeyboardInterrupt
    if not server.started:
        raise typer.Exit(1)  # the server has logged the reason


def _require_possible(settings: "ServiceSettings") -> None:
    """Raise UsageError for settings that one process alone can have."""
    given = [
        ("--uploads", settings.uploads is not None),
        ("--index-below", bool(settings.index_below)),
        ("--captions", settings.captions is not None),
        ("--resident", settings.socket_only),
        ("--idle-exit", settings.idle_exit_minutes is not None),
    ]
    if names := [name for name, is_given in given if is_given]:
        raise UsageError(
            f"`{names[0]}` is for a service without replicas: leave it out, or leave out "
            "`--cluster`."
        )


def _table(given: list[str], options: ClusterOptions) -> str | None:
    """Return the location of the Lance table that is served, if it is one."""
    is_table = len(given) == 1 and is_lance(given[0])
    if is_table and options.copy is None:
        raise UsageError(
            "Replicas of a Lance table have copies of it: name a directory for them with `--copy "
            "DIR`, on a disk of each machine."
        )
    if options.copy is not None and not is_table:
        raise UsageError(
            "`--copy DIR` is the copy of one Lance table: `--library lance+s3://BUCKET/PREFIX`."
        )
    return spelled(given[0]) if is_table else None


def _directories(given: list[str], options: ClusterOptions, spaces: Sequence[str]) -> list[Path]:
    """List the library, or its shards, made where they are not there or not up to date."""
    if len(given) > 1:
        if options.shards > 1:
            raise UsageError(
                "`--shards` makes the shards of one library; several `--library` name shards that "
                "are there."
            )
        paths = [library_directory(Path(text)) or Path(text) for text in given]
        require_shards(paths)
        return paths
    path = only_path(given)
    library = open_library(path)
    try:
        for space_id in spaces:
            library.space(space_id)  # raises for an unknown one, before anything is started
        for warning in library.warnings:
            complain(f"Warning: {warning}")
        if options.shards == 1:
            return [path]
        below = options.shards_in or library.path.with_name(f"{library.path.name}.shards")
        return make_shards(library, below, options.shards)
    finally:
        library.close()


def _described(plan: "Plan") -> str:
    replicas = f"{plan.replicas} replica{'s' * (plan.replicas != 1)}"
    if not plan.is_sharded:
        return f"{replicas} of {plan.directories[0]}"
    return f"{len(plan.directories)} shards with {replicas} each"

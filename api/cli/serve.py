"""`mmsearch serve`: run the HTTP API and the web page."""

import errno
import logging
import os
import re
import signal
import socket
import sys
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.cli.options import DeviceOption, complain, library_directory, option, options_of
from api.cli.tables import ShardOption, copied_library, following
from retrieval.errors import LibraryError, MMSearchError, UsageError
from retrieval.library import default_library_path, is_place_for_library, open_library

if TYPE_CHECKING:
    from fastapi import FastAPI

    from api.http.settings import ServiceSettings
    from retrieval.library import Library

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")

_BACKLOG = 2048
"""Connections that may wait to be accepted, as of uvicorn."""


def serve(
    library: Annotated[
        list[str] | None,
        option(
            "--library",
            "[NAME=]DIR",
            "Library directory, or a folder that `mmsearch QUERY` has indexed. With names, several "
            "libraries, each below /libraries/NAME/: repeatable. (default: $MMSEARCH_LIBRARY, else "
            "one in your data directory)",
        ),
    ] = None,
    copy: Annotated[
        Path | None,
        option(
            "--copy",
            "DIR",
            "Serve a copy of the Lance table that is named with `--library`, which follows it.",
        ),
    ] = None,
    shard: ShardOption = None,
    poll: Annotated[
        float | None,
        option(
            "--poll",
            "S",
            "Seconds between two looks for a new version of the table. (default: 5)",
            min=0.1,
        ),
    ] = None,
    host: Annotated[
        str | None, typer.Option("--host", help="Address to listen on. (default: 127.0.0.1)")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option("--port", min=0, max=65_535, help="Port to listen on. (default: 8765)"),
    ] = None,
    socket_only: Annotated[
        bool | None,
        typer.Option(
            "--resident",
            help="Answer commands on this machine only, through a Unix socket; listen on no port.",
        ),
    ] = None,
    idle_exit_minutes: Annotated[
        float | None,
        option("--idle-exit", "MINUTES", "Exit after this time without a request.", min=0.001),
    ] = None,
    api_keys_file: Annotated[
        Path | None,
        option("--api-keys", "FILE", "File of API keys, one per line: NAME:SCOPES:SECRET."),
    ] = None,
    new_key: Annotated[
        bool, typer.Option("--new-key", help="Print a new line for the API key file and exit.")
    ] = False,
    allowed_hosts: Annotated[
        list[str] | None,
        option(
            "--allowed-host",
            "NAME",
            "Host name that requests may use, besides localhost; NAME:PORT, too. Repeatable.",
        ),
    ] = None,
    root_path: Annotated[
        str | None,
        option("--root-path", "PATH", "Sub-path at which a proxy serves this, such as /photos."),
    ] = None,
    trusted_proxies: Annotated[
        list[str] | None,
        option(
            "--trusted-proxy",
            "ADDRESS",
            "Address or network of a proxy whose X-Forwarded-* headers count. Repeatable.",
        ),
    ] = None,
    cors_origins: Annotated[
        list[str] | None,
        option(
            "--cors-origin",
            "ORIGIN",
            "Web origin whose scripts may use the service (CORS). Repeatable.",
        ),
    ] = None,
    uploads: Annotated[
        Path | None, option("--uploads", "DIR", "Allow uploads, stored in this directory.")
    ] = None,
    index_below: Annotated[
        list[Path] | None,
        option(
            "--index-below",
            "DIR",
            "Allow indexing of directories below this one, besides the sources. Repeatable.",
        ),
    ] = None,
    rerank: Annotated[
        str | None,
        option("--rerank", "NAME", "Reranker, as for `mmsearch search`. (default: auto)"),
    ] = None,
    background_tokens: Annotated[
        bool | None,
        typer.Option(
            "--background-tokens/--no-background-tokens",
            help="Make what the reranker needs of shown items while nobody asks. (default: yes)",
        ),
    ] = None,
    captions: Annotated[
        str | None,
        option(
            "--captions",
            "NAME|DIR",
            "Image-to-text model that describes images and answers questions for clients. "
            "(default: none)",
        ),
    ] = None,
    spaces: Annotated[
        list[str] | None,
        option(
            "--space",
            "ID",
            "Id of a vector space that can be searched; the first is the default. Repeatable. "
            "(default: the library's default space)",
        ),
    ] = None,
    rate_limit: Annotated[
        str | None,
        option(
            "--rate-limit",
            "RATE",
            "Rate limit per key or address, such as 600/minute. (default: 500/second)",
        ),
    ] = None,
    max_connections: Annotated[
        int | None,
        typer.Option(
            "--max-connections", min=1, help="Maximum number of connections. (default: 1000)"
        ),
    ] = None,
    max_connections_per_address: Annotated[
        int | None,
        typer.Option(
            "--max-connections-per-address",
            min=1,
            help="Maximum number of connections of a client address. (default: 256)",
        ),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            "--batch",
            min=1,
            help="Maximum number of searches in a batch; 1: no batching. (default: 32)",
        ),
    ] = None,
    queue: Annotated[
        int | None,
        typer.Option(
            "--queue",
            min=1,
            help="Maximum queue length; further requests are answered 429. (default: 256)",
        ),
    ] = None,
    deadline_s: Annotated[
        float | None,
        option("--deadline", "S", "Time limit per request in seconds. (default: 10)", min=0.01),
    ] = None,
    log_level: Annotated[
        str | None,
        option("--log-level", "NAME", "Log level: debug, info, warning or error. (default: info)"),
    ] = None,
    access_log: Annotated[
        bool | None,
        typer.Option(
            "--access-log/--no-access-log", help="Log each request as a JSON line. (default: no)"
        ),
    ] = None,
    cluster: Annotated[
        str | None,
        option(
            "--cluster",
            "ADDRESS",
            "Run replicas on Ray Serve: `local` starts Ray here, `auto` or HOST:PORT is a cluster.",
        ),
    ] = None,
    replicas: Annotated[
        int | None,
        typer.Option(
            "--replicas",
            min=1,
            max=1000,
            help="Replicas of the library or each shard. (default: 2)",
        ),
    ] = None,
    shards: Annotated[
        int | None,
        typer.Option(
            "--shards", min=1, help="Shards of the library, made by content hash. (default: 1)"
        ),
    ] = None,
    shards_in: Annotated[
        Path | None,
        option(
            "--shards-in", "DIR", "Where to make shards of a library. (default: LIBRARY.shards)"
        ),
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Run the HTTP API and the web page."""
    given = locals()
    if new_key:
        _print_new_key()
        return
    settings = _settings(given)
    if _served_on_cluster(library or [], settings, given):
        return
    table, library = copied_library(library, copy, shard, poll, device)
    named = parse_libraries(library or [])
    opened = None if named else _open(only_path(library), settings)
    if settings.socket_only:
        _require_sockets()
        sockets = []
    else:
        check_exposure(settings)
        sockets = listen(settings)  # raises for a port in use, before anything is loaded

    from api.http.app import create_app
    from api.http.server import Server

    failures: list[Exception] = []

    def end(error: Exception) -> None:
        failures.append(error)
        server.should_exit = True

    if opened is None:
        from api.http.libraries import create_libraries_app

        application = create_libraries_app(_open_named(named, settings), settings, device=device)
    else:
        application = create_app(
            opened, settings, device=device, load_in_background=True, on_failed=end
        )
    signals: list[int] = []
    server = Server(application, settings, signals.append)
    configure_logs(settings)
    # A terminal that closes ends the service; a service manager asks it to read the keys again.
    if hasattr(signal, "SIGHUP") and (settings.api_keys_file or not sys.stdin.isatty()):
        signal.signal(signal.SIGHUP, lambda *_: _reload_keys(application))
    with following(table, opened, shard, poll, device):
        server.run(sockets)
    if failures:
        raise failures[0]
    if signal.SIGINT in signals:
        raise KeyboardInterrupt  # the one raised by uvicorn can get lost
    if not server.started:
        raise typer.Exit(1)  # the server has logged the reason


def _print_new_key() -> None:
    from api.http.middleware.keys import keep_private, new_key

    if keep_private(sys.stdout):
        complain("Only you can read the file (its permissions are 600 now).")
    print(new_key())  # noqa: T201


def _served_on_cluster(
    library: list[str], settings: "ServiceSettings", given: dict[str, Any]
) -> bool:
    """Serve on a cluster, if one is given; returns whether it is."""
    cluster, *of_cluster = (given[name] for name in ("cluster", "replicas", "shards", "shards_in"))
    if cluster is None:
        for value, name in zip(of_cluster, ("replicas", "shards", "shards-in"), strict=True):
            if value is not None:
                raise UsageError(
                    f"`--{name}` is for a service on Ray Serve: add `--cluster local`."
                )
        return False
    from api.cli.serve_cluster import ClusterOptions, serve_on_cluster

    for name in ("shard", "poll"):
        if given[name] is not None:
            raise UsageError(f"`--{name}` is for one copy: with `--cluster` say `--shards N`.")
    replicas, shards, shards_in = of_cluster
    options = ClusterOptions(cluster, replicas or 2, shards or 1, shards_in, given["copy"])
    serve_on_cluster(library, settings, options, given["device"])
    return True


def parse_libraries(given: list[str]) -> dict[str, Path]:
    """Parse several NAME=DIR, or one; an empty result is for one library without a name.

    Raises UsageError for a name that is given twice, or several libraries without names.
    """
    if len(given) <= 1 and not any(_is_named(text) for text in given):
        return {}
    named: dict[str, Path] = {}
    for text in given:
        name, equals, directory = text.partition("=")
        if not equals or not directory or not _NAME.fullmatch(name):
            raise UsageError(
                f"--library {text!r}: several libraries need names of letters, digits, - and _, "
                "such as `--library photos=DIR --library work=DIR2`."
            )
        if name in named:
            raise UsageError(f"--library: the name {name} is given twice.")
        path = Path(directory).expanduser()
        named[name] = library_directory(path) or path
    return named


def _is_named(text: str) -> bool:
    """Return whether a text is NAME=DIR, and not a directory whose name has an equals sign."""
    name, equals, _ = text.partition("=")
    return bool(equals) and bool(_NAME.fullmatch(name)) and not Path(text).exists()


def only_path(given: list[str] | None) -> Path:
    """Return the directory of the one library that is given, or of the default one."""
    if not given:
        return default_library_path()
    path = Path(given[0])
    return library_directory(path) or path


def _open_named(
    named: dict[str, Path], settings: "ServiceSettings"
) -> "dict[str, Library | Path | MMSearchError]":
    """Open libraries; one that cannot be opened has its error. Raises it if none can be."""
    found: dict[str, Library | Path | MMSearchError] = {}
    for name, path in named.items():
        try:
            found[name] = _open(path, settings)
        except (MMSearchError, OSError) as error:
            complain(f"The library {name} is not served: {error}")
            found[name] = error if isinstance(error, MMSearchError) else LibraryError(str(error))
    failed = [one for one in found.values() if isinstance(one, MMSearchError)]
    if len(failed) == len(found):
        raise failed[0]
    return found


def _reload_keys(application: "FastAPI") -> None:
    for one in (application, *getattr(application.state, "libraries", {}).values()):
        one.state.keys.reload()


def _settings(options: dict[str, Any]) -> "ServiceSettings":
    """Combine options and environment into settings; raises UsageError for invalid ones."""
    from pydantic import ValidationError

    from api.http.settings import ServiceSettings

    chosen = options_of(ServiceSettings, options)
    given = {name: value for name, value in chosen.items() if value not in (None, [])}
    try:
        return ServiceSettings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        reason = first["msg"].removeprefix("Value error, ").removesuffix(".")
        raise UsageError(f"MMSEARCH_{name.upper()}: {reason}.") from error


def _open(path: Path, settings: "ServiceSettings") -> "Library | Path":
    """Open the library, with warnings printed; returns the path if there is none yet."""
    if is_place_for_library(path):
        complain(
            f"There is no library at {path} yet. The service opens it as soon as there is one: "
            f"`mmsearch index PATH... --library {quote(str(path))}`."
        )
        return path
    opened = open_library(path)
    if opened.is_table and (settings.index_below or settings.uploads):
        raise UsageError(
            f"{opened.location} is a table, which a service only reads: leave `--index-below` and "
            "`--uploads` out, or serve a library in a directory."
        )
    for space_id in settings.spaces:
        opened.space(space_id)  # raises for an unknown one, before anything is loaded
    for warning in opened.warnings:
        complain(f"Warning: {warning}")
    return opened


def _require_sockets() -> None:
    """Raise UsageError where there are no Unix sockets, or they are refused."""
    from api.resident.places import OFF, is_possible

    if not is_possible():
        raise UsageError(
            f"`--resident` needs Unix sockets, which this system lacks, or {OFF} switches off."
        )


def listen(settings: "ServiceSettings") -> list[socket.socket]:
    """Listen on all addresses of the host; raises UsageError if that cannot be."""
    host, port = settings.host, settings.port
    sockets: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        for family, address in dict.fromkeys((each[0], each[4]) for each in found):
            if sockets and port == 0:
                break  # each would get a port of its own
            sockets.append(_bind(family, address))
    except OSError as error:
        for each in sockets:
            each.close()
        if error.errno == errno.EADDRINUSE:
            raise UsageError(
                f"Port {port} of {host or 'this machine'} is in use, maybe by another `mmsearch "
                "serve`. End that, or choose another port with `--port`."
            ) from error
        raise UsageError(
            f"Cannot listen on {host or 'this machine'}, port {port}: {error.strerror}. Choose "
            "another address with `--host` or `--port`."
        ) from error
    return sockets


def _bind(family: int, address: Any) -> socket.socket:
    listening = socket.socket(family)
    try:
        if os.name == "posix":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind(address)
        listening.listen(_BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening


def check_exposure(settings: "ServiceSettings") -> None:
    """Refuse a non-loopback address without API keys; warn if others can read the key file."""
    from api.http.middleware.keys import may_be_read_by_others, read_keys

    file = settings.api_keys_file
    has_keys = bool(read_keys(settings.api_keys, file))
    if not settings.is_loopback and not has_keys:
        raise UsageError(
            f"Other machines could reach {settings.host or 'this machine'} and search this "
            "library, so this address needs an API key. Create one with "
            "`mmsearch serve --new-key > keys.txt` and add `--api-keys keys.txt`, or set "
            "MMSEARCH_API_KEYS."
        )
    if file is not None and may_be_read_by_others(file):
        complain(f"Warning: other users of this machine can read {file}. Run `chmod 600` on it.")


def configure_logs(settings: "ServiceSettings") -> None:
    """Log in the format of Uvicorn, but requests as plain JSON lines."""
    from api.printable import PrintableFormatter

    for name, form in [
        ("mmsearch", "%(levelname)s:     %(message)s"),
        ("mmsearch.access", "%(message)s"),
    ]:
        handler = logging.StreamHandler()
        handler.setFormatter(PrintableFormatter(form))
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.propagate = False
        logger.setLevel(settings.log_level.upper())
    if settings.access_log:
        logging.getLogger("mmsearch.access").setLevel(logging.INFO)

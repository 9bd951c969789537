"""Options, checks and output shared by several commands."""

import json
import math
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from inspect import signature
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from api.cli.completion import ENCODERS, MODALITIES, RERANKERS, one_of, spaces
from retrieval.errors import NotFoundError, UsageError
from retrieval.files import user_cache_directory
from retrieval.objects.paths import given_uri
from retrieval.objects.trust import trust_uri
from retrieval.search.limits import MAX_RERANK_BUDGET_MS, MAX_RERANK_DEPTH


def option(name: str, metavar: str, description: str, **settings: Any) -> Any:
    """Declare an option with a value; settings: its `min` and `max`, its `autocompletion`."""
    return typer.Option(name, metavar=metavar, help=description, **settings)


def library_directory(path: Path | None) -> Path | None:
    """Return the directory of a library, which may be named by the folder that it is of."""
    if path is None or not path.is_dir() or (path / "library.toml").exists():
        return path
    from api.cli.folder_library import library_of

    return library_of(path) or path


LibraryOption = Annotated[
    Path | None,
    option(
        "--library",
        "DIR",
        "Library directory, or a folder that `mmsearch QUERY` has indexed. (default: "
        "$MMSEARCH_LIBRARY, else one in your data directory)",
        callback=library_directory,
    ),
]
SourcesArgument = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="PATH...",
        help="Directories and files, or addresses: s3://, gs://, az://, https://. (default: all "
        "known sources)",
    ),
]
SplitOption = Annotated[
    str | None, typer.Option("--split", help="Dataset split. (default: its only one, or test)")
]
CaptionsOption = Annotated[
    list[Path],
    option(
        "--captions",
        "FILE",
        "Further captions.jsonl, whose captions are added by image name. Repeatable.",
    ),
]
LanguageOption = Annotated[
    str | None, typer.Option("--language", help="Caption language, if the dataset has several.")
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
DeviceOption = Annotated[str, option("--device", "NAME", "Device: auto, cpu, cuda, cuda:1, mps.")]
EncoderOption = Annotated[
    str,
    option(
        "--encoder",
        "NAME",
        "Encoder, as for `mmsearch index`.",
        autocompletion=one_of(ENCODERS),
    ),
]
CacheOption = Annotated[
    Path | None, option("--cache", "DIR", "Cache directory. (default: user cache)")
]
SeedOption = Annotated[int, typer.Option("--seed", help="Random seed.")]
BatchSizeOption = Annotated[
    int,
    typer.Option(
        "--batch-size", min=1, max=4096, help="Number of images encoded and committed at once."
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers", min=1, help="Number of decoder processes. (default: one per core, at most 16)"
    ),
]
ClusterOption = Annotated[
    str | None,
    option(
        "--cluster",
        "ADDRESS",
        "Work on a Ray cluster, into a library in a Lance table: ray://HOST:PORT, auto (the one of "
        "this machine) or local (started for this command).",
    ),
]
EncodersOption = Annotated[
    int | None,
    option(
        "--encoders",
        "N",
        "Number of encoders in the cluster. (default: one per GPU, else by measurement)",
        min=1,
    ),
]
SpaceOption = Annotated[
    str | None,
    option(
        "--space",
        "ID",
        "Id or name of the vector space to use, if the library has several.",
        autocompletion=spaces,
    ),
]
ModalityOption = Annotated[
    str,
    option(
        "--modality",
        "any|image|text|audio",
        "Modality to find: image (with video frames and pages), text (chunks of text), audio "
        "(windows of sound), or any, where the text of a page finds the page.",
        autocompletion=one_of(MODALITIES),
    ),
]
ServerOption = Annotated[
    str | None,
    option(
        "--server", "URL", "Ask a service instead of a local library. (default: $MMSEARCH_SERVER)"
    ),
]
SpacesOption = Annotated[
    list[str],
    option(
        "--space",
        "ID",
        "Id or name of the vector space to search, if there are several. Repeatable: rank fusion "
        "of the answers.",
        autocompletion=spaces,
    ),
]
RerankOption = Annotated[
    str,
    option(
        "--rerank",
        "NAME",
        "Reranker: auto, none, cross-attention[:FILE], blip-itm[:NAME_OR_DIR], "
        "late-interaction:NAME_OR_DIR, vilt:NAME_OR_DIR or vlm:NAME_OR_DIR.",
        autocompletion=one_of(RERANKERS),
    ),
]
RerankDepthOption = Annotated[
    int | None,
    option(
        "--rerank-depth",
        "N",
        "Number of candidates to rerank. (default: the reranker's)",
        min=1,
        max=MAX_RERANK_DEPTH,
    ),
]
RerankBudgetOption = Annotated[
    float,
    option(
        "--rerank-budget",
        "MS",
        "Maximum reranking time in milliseconds.",
        min=0,
        max=MAX_RERANK_BUDGET_MS,
    ),
]


def cache_directory(chosen: Path | None, name: str) -> Path:
    """Return the directory of `--cache`, or the one of this name in the user's cache."""
    return chosen or user_cache_directory() / name


def options_of(taker: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Select the options of a command, its `locals()`, that a class or function takes by name."""
    return {name: given[name] for name in signature(taker).parameters if name in given}


def split_list(names: str, separator: str = ",") -> tuple[str, ...]:
    """Split a list at commas or another separator; strips blanks and drops empty members."""
    return tuple(name.strip() for name in names.split(separator) if name.strip())


def require_paths(paths: Iterable[Path]) -> None:
    """Raise NotFoundError for a missing path, before anything is created or loaded.

    The user has named them: what is on a server may be connected to from now on.
    """
    for path in paths:
        if (uri := given_uri(path)) is not None:
            trust_uri(uri)
        elif not os.path.lexists(path):
            raise NotFoundError(f"There is nothing at {path}.")


STOPPING = "Finishing the current batch. Press Ctrl-C again to stop at once."
"""Note of an indexing run that `stop_on_signal` stops."""

_BYTES = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def parse_size(text: str) -> int:
    """Parse a size such as `500MB`, `1.5 GB` or `800000` into bytes; units are decimal.

    Raises UsageError for anything else.
    """
    found = re.fullmatch(r"([0-9]{1,15})(?:\.([0-9]{1,15}))? ?([KMGT]?B)?", text.strip().upper())
    if found:
        whole, decimals, unit = found.groups(default="")
        scaled, scale = int(whole + decimals) * _BYTES[unit], int(10 ** len(decimals))
        if scaled % scale == 0:
            return scaled // scale
    raise UsageError(
        f"{text!r} is not a size. Write a whole number of bytes, or a number with kB, MB, GB or TB "
        "(powers of 1,000), such as 500MB or 1.5GB."
    )


@contextmanager
def stop_on_signal(*others: signal.Signals, note: str = "") -> Iterator[threading.Event]:
    """Yield an event that the first Ctrl-C, or another signal, sets; a second Ctrl-C interrupts.

    note: what to print then.
    """
    stop = threading.Event()

    def set_stop(_signal: int, _frame: FrameType | None) -> None:
        stop.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if note:
            complain(note)

    before = {number: signal.signal(number, set_stop) for number in (signal.SIGINT, *others)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def complain(message: str) -> None:
    """Print a message to standard error; a terminal gets it wrapped between words."""
    from api.cli import console

    console.err.print(message, markup=False, soft_wrap=not console.err.is_terminal)


def print_json(value: dict[str, Any], *, indent: int | None = 2) -> None:
    """Print JSON; infinities and NaN, which JSON lacks, become null.

    Letters stand as they are where standard output takes UTF-8. What is no printable character is
    escaped: it could be a command to a terminal.
    """
    text = json.dumps(
        _finite(value),
        indent=indent,
        default=datetime.isoformat,
        ensure_ascii=not (sys.stdout.encoding or "").lower().startswith("utf"),
    )
    print(_UNPRINTABLE.sub(_escaped, text), flush=indent is None)  # noqa: T201


_UNPRINTABLE = re.compile(r"[^\n -~]")


def _escaped(found: re.Match[str]) -> str:
    """Return a character that is printable, another one as JSON escapes it."""
    character = found[0]
    return character if character.isprintable() else json.dumps(character)[1:-1]


def print_result(body: dict[str, Any], text: Callable[[], str], *, as_json: bool) -> None:
    """Print a result as one JSON object, or as the text that a function makes of it."""
    from api.cli import console

    if as_json:
        print_json(body)
    else:
        console.out.print(text().removesuffix("\n"), markup=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value

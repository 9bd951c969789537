"""What several commands share: options, checks, the two ways to print."""

import json
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from retrieval.errors import NotFoundError

LibraryOption = Annotated[
    Path | None,
    typer.Option(
        "--library",
        metavar="DIR",
        help="The library. [default: $MMSEARCH_LIBRARY, else one in your data directory]",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
DeviceOption = Annotated[
    str, typer.Option("--device", metavar="NAME", help="auto, cpu, cuda, cuda:1, mps.")
]
BatchSizeOption = Annotated[
    int, typer.Option("--batch-size", min=1, max=4096, help="Images encoded and committed at once.")
]
SpaceOption = Annotated[
    str | None,
    typer.Option("--space", metavar="ID", help="One of the library's spaces.", show_default=False),
]


def require_paths(paths: Iterable[Path]) -> None:
    """Refuse a missing path before anything is created or loaded."""
    for path in paths:
        if not os.path.lexists(path):
            raise NotFoundError(f"There is nothing at {path}.")


def complain(message: str) -> None:
    """Print a message for the user to standard error."""
    from api import console

    console.err.print(message, markup=False)


def print_json(value: dict[str, Any]) -> None:
    """Print machine-readable output. JSON has no infinities; they become null."""
    print(json.dumps(_finite(value), indent=2))  # noqa: T201


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value

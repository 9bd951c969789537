"""Options and loaders shared by the benchmarks."""

import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from api.cli.options import complain, option, split_list
from retrieval.errors import UsageError

if TYPE_CHECKING:
    from retrieval.encoders.base import Encoder
    from retrieval.rerankers.base import Reranker

_Number = TypeVar("_Number", int, float)

THIS_PROGRAM = [sys.executable, "-c", "from api.cli import main; main()"]

DatasetOption = Annotated[
    str,
    option(
        "--dataset",
        "FORMAT:PATH",
        "Dataset; formats: jsonl, karpathy, coco, flickr30k-csv, image-folder, csv, parquet, beir, "
        "vidore.",
    ),
]
NprobeOption = Annotated[
    int, typer.Option("--nprobe", min=1, help="Number of inverted lists to visit.")
]
OverfetchOption = Annotated[
    int, typer.Option("--overfetch", min=1, help="Candidates to refine per wanted item.")
]
DepthOption = Annotated[
    int | None,
    typer.Option("--depth", min=1, help="Length of the ranked lists. (default: all items)"),
]
LimitOption = Annotated[
    int | None, typer.Option("--limit", min=1, help="Use only the first N images and their texts.")
]
MostPhotosOption = Annotated[int, typer.Option("--limit", min=1, help="Maximum number of photos.")]
MarkdownOption = Annotated[Path | None, option("--markdown", "OUT", "Write the table as Markdown.")]
JsonFileOption = Annotated[
    Path | None, option("--json-file", "OUT", "Write the whole result as JSON.")
]
MetricsOption = Annotated[str, typer.Option("--metrics", help="Comma-separated metrics.")]
RoundsOption = Annotated[
    int, typer.Option("--rounds", min=1, help="Number of measurements, taken in turn.")
]
SyntheticRowsOption = Annotated[
    int, typer.Option("--rows", min=200, help="Number of synthetic rows.")
]
DimensionOption = Annotated[
    int, typer.Option("--dimension", min=16, max=4096, help="Dimension of synthetic rows.")
]
QueriesOption = Annotated[
    int, typer.Option("--queries", min=100, help="Maximum number of queries per modality.")
]


def whole_numbers(numbers: str, option: str) -> list[int]:
    """Parse a comma-separated list of integers from 1; raises UsageError for anything else."""
    return parse_numbers(numbers, option, "integers from 1", int, lambda number: number >= 1)


def parse_numbers(
    text: str,
    option: str,
    wanted: str,
    kind: Callable[[str], _Number],
    is_valid: Callable[[_Number], bool],
    *,
    fewest: int = 1,
) -> list[_Number]:
    """Parse a comma-separated list of numbers.

    Args:
        text: the list.
        option: its name, for the error.
        wanted: what it takes, for the error.
        kind: parser of one number; raises ValueError.
        is_valid: whether a number is allowed.
        fewest: least length of the list.

    Raises:
        UsageError: a number that is not allowed, or too few of them.
    """
    with suppress(ValueError):
        found = [kind(number) for number in split_list(text)]
        if len(found) >= fewest and all(map(is_valid, found)):
            return found
    raise UsageError(f"{option} takes comma-separated {wanted}, not {text!r}.")


@cache
def load_chosen_encoder(name: str, device: str) -> "Encoder":
    """Load the encoder of `--encoder`, once per process."""
    from retrieval.encoders.registry import load_encoder

    return load_encoder(name, device)


@cache
def load_chosen_reranker(name: str, encoder: str, device: str) -> "Reranker | None":
    """Load the reranker of `--rerank` for an encoder, once per process; None for `none`."""
    from retrieval.rerankers.registry import AUTO, load_reranker

    reranker = load_reranker(name, load_chosen_encoder(encoder, device), device)
    if reranker is None and name == AUTO:
        complain(f"There is no reranker for {encoder}: results are not reranked.")
    return reranker

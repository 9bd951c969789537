"""Options and loaders shared by the benchmarks."""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from api.cli.options import (
    complain,
)
from retrieval.errors import UsageError

if TYPE_CHECKING:
    from retrieval.encoders.base import Encoder
    from retrieval.rerankers.base import Reranker


DatasetOption = Annotated[
    str,
    typer.Option(
        "--dataset",
        metavar="FORMAT:PATH",
        help="Dataset; formats: jsonl, karpathy, coco, flickr30k-csv, image-folder, csv, parquet, "
        "beir.",
    ),
]
EncoderOption = Annotated[
    str, typer.Option("--encoder", metavar="NAME", help="Encoder, as for `mmsearch index`.")
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
CacheOption = Annotated[
    Path | None,
    typer.Option("--cache", metavar="DIR", help="Embedding cache directory. (default: user cache)"),
]
SeedOption = Annotated[int, typer.Option("--seed", help="Random seed.")]


def whole_numbers(numbers: str, option: str) -> list[int]:
    """Parse a comma-separated list of integers from 1; raises UsageError for anything else."""
    try:
        found = [int(number) for number in split_list(numbers)]
    except ValueError:
        found = [0]
    if min(found, default=1) < 1:
        raise UsageError(f"{option} takes comma-separated integers from 1, not {numbers!r}.")
    return found


def split_list(names: str) -> tuple[str, ...]:
    """Split a comma-separated list; strips blanks and drops empty members."""
    return tuple(name.strip() for name in names.split(",") if name.strip())


@cache
def load_chosen_encoder(name: str, device: str) -> "Encoder":
    """Load the encoder of `--encoder`, once per process."""
    from retrieval.encoders.registry import choose_encoder, load_encoder

    return load_encoder(choose_encoder(name).name, device)


@cache
def load_chosen_reranker(name: str, encoder: str, device: str) -> "Reranker | None":
    """Load the reranker of `--rerank` for an encoder, once per process; None for `none`."""
    from retrieval.rerankers.registry import AUTO, load_reranker

    reranker = load_reranker(name, load_chosen_encoder(encoder, device), device)
    if reranker is None and name == AUTO:
        complain(f"There is no reranker for {encoder}: results are not reranked.")
    return reranker

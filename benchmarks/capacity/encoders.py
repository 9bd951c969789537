"""What encoders cost: dimension, and operations of an image and of a text (`encoders.toml`)."""

import itertools
import math
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.resources import files

from retrieval.errors import UsageError

_OPEN_CLIP = "open_clip:"
PUBLISHED = ("ViT-B-32", "ViT-B-16", "ViT-L-14")
"""Encoders whose images a second on an A100 are published: `gpu_images_ENCODER` (constants)."""


@dataclass(frozen=True)
class EncoderCost:
    """What one input takes. Operations are floating-point, a multiplication and an addition two."""

    name: str
    dimension: int
    image_operations: float
    text_operations: float


def short_name(name: str) -> str:
    """Drop what does not change the cost: `open_clip:ViT-L-14/openai` is a `ViT-L-14`."""
    if name == "starter:1":
        return name
    return name.removeprefix(_OPEN_CLIP).partition("/")[0] if "local-dir:" not in name else name


@cache
def _costs() -> dict[str, EncoderCost]:
    text = files("benchmarks.capacity").joinpath("encoders.toml").read_text(encoding="utf-8")
    return {
        name: EncoderCost(name, dimension, image * 1e9, words * 1e9)
        for name, (dimension, image, words) in tomllib.loads(text)["gigaoperations"].items()
    }


def encoder_names() -> list[str]:
    """List the encoders with known cost."""
    return list(_costs())


def encoder_cost(name: str) -> EncoderCost | None:
    """Return the cost of an encoder by its name, as `--encoder` takes it; None: it is unknown."""
    return _costs().get(short_name(name))


def require_encoder_cost(name: str) -> EncoderCost:
    """Return the cost of an encoder; raises UsageError with similar names for an unknown one."""
    cost = encoder_cost(name)
    if cost is None:
        near = get_close_matches(short_name(name), encoder_names(), n=3, cutoff=0.4)
        known = f" Similar: {', '.join(near)}." if near else ""
        raise UsageError(
            f"What the encoder {name!r} costs is unknown.{known} Measure it with `mmsearch bench "
            "throughput DIR --encoder NAME --json` and give the output as `--measured FILE`, with "
            "its `--dimension`."
        )
    return cost


def gpu_images_per_second(operations: float, published: Sequence[tuple[float, float]]) -> float:
    """Estimate the images a second of a GPU from those of encoders with published figures.

    Between two of them by a power law; below the smallest, its rate, since reading limits it; above
    the largest, in proportion to the operations.

    Args:
        operations: floating-point operations an image.
        published: operations an image and images a second, by operations.
    """
    least, most = published[0], published[-1]
    if operations <= least[0]:
        return least[1]
    if operations >= most[0]:
        return most[1] * most[0] / operations
    for (low, fast), (high, slow) in itertools.pairwise(published):
        if low <= operations <= high:
            share = math.log(operations / low) / math.log(high / low)
            return float(fast * (slow / fast) ** share)
    raise AssertionError("the published figures are sorted")

"""Augment images while an encoder is trained: crop, mirror, RandAugment."""

import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from PIL import Image

from retrieval.errors import UsageError

MAGNITUDES = 31
"""Steps of RandAugment's magnitude, from 0 to 30."""

_SIDED = re.compile(
    r"\b(?:left|right|mirrored|text|letters?|words?|writing|written|reads|reading|says|sign|signs|"
    r"logos?|numbers?|links|rechts|linke[rnms]?|rechte[rnms]?|schrift\w*|buchstaben?|schild\w*|"
    r"nummer\w*|steht)\b|[左右字写号牌]",
    re.IGNORECASE,
)
"""Words of captions that a mirrored image would make wrong: of sides, and of what can be read."""

_GENERATOR = threading.Lock()


@dataclass(frozen=True)
class RandomAugmentation:
    """Crop, mirror and RandAugment of `torchvision`, before the encoder's own preprocessing.

    The same seed gives the same pixels, on any number of processes.

    side: pixels of both sides of the result, the encoder's input. least_area: a part of this share
    of the image's area or more is cut out and scaled (Szegedy et al. 2015); 1: the image stays
    whole. flip: probability of a mirrored image, where no caption speaks of left, right or writing.
    operations, magnitude: RandAugment (Cubuk et al. 2020), the number of operations an image and
    their strength from 0 to 30; with 0 operations, none.
    """

    side: int = 224
    least_area: float = 0.5
    flip: float = 0.5
    operations: int = 2
    magnitude: int = 9

    def __post_init__(self) -> None:
        """Raise UsageError for a setting out of range."""
        for name, low, high in (
            ("least_area", 0.05, 1),
            ("flip", 0, 1),
            ("operations", 0, 10),
            ("magnitude", 0, MAGNITUDES - 1),
            ("side", 1, 4096),
        ):
            if not low <= (value := getattr(self, name)) <= high:
                raise UsageError(f"{name} must be from {low} to {high}, not {value}.")

    def __call__(self, image: Image.Image, seed: int, captions: Sequence[str]) -> Image.Image:
        """Make the variant of an RGB image for a seed of 63 bits; captions: all of the image."""
        flip = 0.0 if self.flip and speaks_of_sides(captions) else self.flip
        steps = _steps(self.side, self.least_area, flip, self.operations, self.magnitude)
        # The steps draw from the generator of the whole process: it is lent and given back.
        with _GENERATOR, torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for step in steps:
                image = step(image)
        return image


def speaks_of_sides(captions: Sequence[str]) -> bool:
    """Return whether a caption speaks of left, right or writing, in English, German or Chinese."""
    return any(_SIDED.search(caption) for caption in captions)


@cache
def _steps(
    side: int, least_area: float, flip: float, operations: int, magnitude: int
) -> tuple[Any, ...]:
    from torchvision.transforms import InterpolationMode, v2

    bicubic, grey = InterpolationMode.BICUBIC, 127
    steps: list[Any] = []
    if least_area < 1:
        steps.append(
            v2.RandomResizedCrop(
                side, scale=(least_area, 1.0), interpolation=bicubic, antialias=True
            )
        )
    if flip:
        steps.append(v2.RandomHorizontalFlip(flip))
    if operations:
        steps.append(
            v2.RandAugment(operations, magnitude, MAGNITUDES, InterpolationMode.BILINEAR, fill=grey)
        )
    return tuple(steps)

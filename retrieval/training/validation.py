"""Recall on captioned photos, for model selection."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

DEPTHS = (1, 5, 10)


@dataclass(frozen=True)
class Recalls:
    """Recall@1, @5 and @10 of both directions, in [0, 1].

    text_to_image: the share of captions with their photo among the first k.
    image_to_text: the share of photos with any of their captions among the first k.
    """

    text_to_image: tuple[float, float, float]
    image_to_text: tuple[float, float, float]

    @classmethod
    def from_json(cls, fields: Mapping[str, Sequence[float]]) -> Self:
        """Parse the JSON of `dataclasses.asdict`."""
        return cls(**{name: tuple(values) for name, values in fields.items()})  # type: ignore[arg-type]

    @property
    def mean(self) -> float:
        """Mean of all six."""
        return sum(self.text_to_image + self.image_to_text) / 6


def mean_recalls(several: Iterable[Recalls]) -> Recalls:
    """Average the recalls of several sets of captions, at least one."""
    rows = [(*each.text_to_image, *each.image_to_text) for each in several]
    means = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
    return Recalls.from_json({"text_to_image": means[:3], "image_to_text": means[3:]})


def recalls(images: Tensor, texts: Tensor, photo_of_text: Tensor) -> Recalls:
    """Measure vectors of n photos and m captions.

    Args:
        images: (n, d) float32, unit L2 norm.
        texts: (m, d) float32, unit L2 norm.
        photo_of_text: (m,) int64, the row in `images` of each text's photo; each photo has one.

    An item that ties with the right one counts as ranked before it.
    """
    similarity = texts @ images.T
    positive = similarity.gather(1, photo_of_text[:, None])
    before_photo = (similarity >= positive).sum(1) - 1
    best = torch.full((len(images),), -torch.inf, device=images.device).scatter_reduce(
        0, photo_of_text, positive[:, 0], "amax"
    )
    foreign = photo_of_text[:, None] != torch.arange(len(images), device=images.device)
    before_text = ((similarity >= best) & foreign).sum(0)
    return Recalls(_at_depths(before_photo), _at_depths(before_text))


def _at_depths(ranks: Tensor) -> tuple[float, float, float]:
    first, fifth, tenth = ((ranks < depth).float().mean().item() for depth in DEPTHS)
    return first, fifth, tenth

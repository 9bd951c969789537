"""Faithfulness of explanations: the deletion test.

The most attended cells of an image are painted over with its mean colour, and as many random cells.
If the heat map is faithful, the first lowers the match more (the deletion metric of Petsiuk et al.
2018, RISE, at one share of the image, on whole cells of the map).
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageStat

from benchmarks.datasets import RetrievalDataset
from retrieval.encoders.base import Encoder
from retrieval.errors import UnreadableFileError, UsageError
from retrieval.media.images import read_image
from retrieval.rerankers.base import Reranker
from retrieval.rerankers.explanation import Box, explain

_RANDOM_DRAWS = 5
_RESAMPLES = 10_000


@dataclass(frozen=True, eq=False)
class DeletionResult:
    """Fall of the match by deletion, one value per photo, in logits.

    attended, least_attended: (n,) float64, with the most and the least attended cells painted over.
    random: (n,), mean over several random choices of as many cells. share: share of the cells.
    """

    share: float
    attended: NDArray[np.float64]
    random: NDArray[np.float64]
    least_attended: NDArray[np.float64]
    low: float
    high: float

    @property
    def difference(self) -> float:
        """Mean fall with attended cells minus that with random ones; 95% interval: low, high."""
        return float((self.attended - self.random).mean())

    @property
    def wins(self) -> float:
        """Share of the photos in which attended cells lower the match more than random ones."""
        return float((self.attended > self.random).mean())


def measure_deletion(
    dataset: RetrievalDataset,
    encoder: Encoder,
    reranker: Reranker,
    *,
    limit: int = 200,
    share: float = 0.2,
    seed: int = 0,
    on_progress: Callable[[str, int, int], None] = lambda *_: None,
) -> DeletionResult:
    """Explain the first `limit` photos by their first caption, and delete the most attended cells.

    The interval of the mean difference is a bootstrap over photos.

    Args:
        dataset: Photos with captions.
        encoder: The encoder.
        reranker: A reranker that can explain.
        limit: Maximum number of photos.
        share: Share of the cells to delete.
        seed: Random seed.
        on_progress: Called with stage, done and total.

    Raises:
        UsageError: No captions or readable photos, or a reranker that cannot explain.
    """
    random = np.random.default_rng(seed)
    first_caption = {image: text for text, image in reversed(dataset.captions)}
    chosen = [image for image in dataset.images if image in first_caption][:limit]
    falls = []
    for done, image_id in enumerate(chosen, start=1):
        try:
            image = read_image(dataset.images[image_id])
        except (OSError, UnreadableFileError):
            continue
        text = dataset.texts[first_caption[image_id]]
        explanation = explain(reranker, encoder, text, image)
        cells = explanation.heat.size
        count = max(1, round(share * cells))
        order = np.argsort(-explanation.heat, axis=None, kind="stable")
        draws = [random.choice(cells, count, replace=False) for _ in range(_RANDOM_DRAWS)]
        painted = [
            paint_over(image, explanation.view, explanation.heat.shape, picked)
            for picked in (order[:count], order[-count:], *draws)
        ]
        pixels = np.stack([reranker.preprocess(copy) for copy in painted])
        matches = reranker.match(reranker.text_tokens([text]), reranker.image_tokens(pixels))[0]
        fall = explanation.match - matches.astype(np.float64)
        falls.append((fall[0], fall[2:].mean(), fall[1]))
        on_progress("photos", done, len(chosen))
    if not falls:
        raise UsageError("The dataset has no readable photo with a caption to explain.")
    attended, at_random, least = np.array(falls).T
    differences = attended - at_random
    picks = random.integers(0, len(differences), (_RESAMPLES, len(differences)))
    low, high = np.percentile(differences[picks].mean(1), (2.5, 97.5))
    return DeletionResult(share, attended, at_random, least, float(low), float(high))


def paint_over(
    image: Image.Image, view: Box, shape: tuple[int, ...], cells: NDArray[np.int64]
) -> Image.Image:
    """Copy an image with some cells of a grid filled with its mean colour.

    Args:
        image: RGB.
        view: the part that the grid covers: left, top, right, bottom, in pixels.
        shape: (rows, columns) of the grid.
        cells: (c,) numbers of the cells, row by row from 0.
    """
    rows, columns = shape
    painted = image.copy()
    draw = ImageDraw.Draw(painted)
    mean = tuple(round(value) for value in ImageStat.Stat(image).mean)
    across = list(pairwise(np.linspace(view[0], view[2], columns + 1)))
    down = list(pairwise(np.linspace(view[1], view[3], rows + 1)))
    for cell in cells.tolist():
        (left, right), (top, bottom) = across[cell % columns], down[cell // columns]
        draw.rectangle((round(left), round(top), round(right) - 1, round(bottom) - 1), fill=mean)
    return painted

"""Vectors that are distributed as a dual encoder's, of any number, from a seed.

Uniform noise misleads: its neighbours are hardly nearer than anything else. Of 500 photos' ten
nearest neighbours, 49% are in the same one of 16 k-means lists; of rows made here 47%, of uniform
noise 13%: whatever visits few lists would look useless.

A row is drawn in a basis where the covariance is diagonal, then rotated:

- **spectrum**: the eigenvalue of direction i is in proportion to (1 + i / bend) ** -decay, a power
  law with a bent start;
- **clusters**: a tree. A row goes down it, at each level to child c with a probability in
  proportion to (c + 1) ** -popularity, and adds each node's offset; what the tree does not account
  for of the variance is the row's own. Offsets and rows' own parts have the same spectrum, so that
  the whole has it too;
- **modality gap** (Liang et al., 2022): vectors of a modality share a part along one direction,
  and the two directions differ;
- **texts** belong to images: direction i of a text correlates with the image's by
  match / (1 + i / match_bend), and its other part is that of another image, since what a caption
  leaves out could be as in any photo.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retrieval.embeddings import Rows
from retrieval.encoders.base import Vectors
from retrieval.files import replacing

BLOCK = 8192
"""Rows made at once, from a seed of their own: a row is the same however many are made."""

_IMAGES, _OTHER_IMAGES, _TEXTS = 0, 1, 2
_OFFSETS = 4096
"""Offsets of a level; nodes of one level may share one, but not their ancestors' as well."""

_SCATTER = 40503
"""An odd factor, which spreads the nodes of a level over its offsets."""


@dataclass(frozen=True)
class Profile:
    """The constants of a distribution.

    children, shares: the tree's branching and each level's share of the variance. shared: the
    squared length of the part that all vectors of a modality share; means_cosine: between these
    parts of images and of texts.
    """

    bend: float
    decay: float
    children: tuple[int, ...]
    shares: tuple[float, ...]
    popularity: float
    match: float
    match_bend: float
    shared: float
    means_cosine: float


STARTER = Profile(
    bend=66.0,
    decay=2.8,
    children=(64, 16, 16, 16),
    shares=(0.16, 0.21, 0.13, 0.12),
    popularity=1.07,
    match=0.755,
    match_bend=22.0,
    shared=0.013,
    means_cosine=-0.24,
)
"""Fitted to `starter` on Flickr8k: 7,000 photos, and one caption each of the validation ones.

A random search brought these statistics of the first 7,000 images and 1,000 texts near to the real
ones: participation ratio of the spectrum, spread and upper quantiles of cosines, median cosine of
the 1st, 10th and 100th neighbour among 1,000 and among 7,000 rows, local intrinsic dimension,
cosines of pairs and of strangers, recall of a text's own image, a text's nearest images. `shared`
and `means_cosine` are measured. The test of this module compares them.
"""

CLIP = replace(STARTER, shared=0.49, means_cosine=0.31)
"""The same with the modality gap of CLIP, which `starter` has hardly.

Not fitted here: it makes the distance of the modalities' means 0.82, as Liang et al. (2022)
measured for CLIP, and cosines of 0.15 between strangers and about 0.33 within pairs, of 0.5
between images, which is where CLIP's lie.
"""

PROFILES = {"clip": CLIP, "starter": STARTER}


class SyntheticVectors:
    """Images and texts of one distribution; the same seed gives the same rows."""

    def __init__(self, profile: Profile = CLIP, *, dimension: int = 512, seed: int = 0) -> None:
        self.profile = profile
        self.dimension = dimension
        self.seed = seed

    def images(self, count: int, *, held_out: bool = False) -> Vectors:
        """Generate the first `count` images, (count, d) float32, unit L2 norm.

        Held-out ones come from the same distribution and are no rows of it: queries.
        """
        stream = _OTHER_IMAGES if held_out else _IMAGES
        blocks = [self._image_block(stream, block) for block in range(-(-count // BLOCK))]
        return np.concatenate(blocks)[:count]

    def texts(self, count: int) -> Vectors:
        """Texts that belong to the first `count` images, (count, d) float32, unit L2 norm."""
        blocks = [self._text_block(block) for block in range(-(-count // BLOCK))]
        return np.concatenate(blocks)[:count]

    def image_blocks(self, count: int) -> Iterator[Vectors]:
        """Generate the first `count` images, a block at a time."""
        for first in range(0, count, BLOCK):
            yield self._image_block(_IMAGES, first // BLOCK)[: count - first]

    def write(self, path: Path, count: int) -> Rows:
        """Write the first `count` images as an embeddings file and map it, (count, d) float16."""
        with replacing(path) as unfinished, unfinished.open("wb") as file:
            for block in self.image_blocks(count):
                file.write(block.astype(np.float16).tobytes())
        return np.memmap(path, np.float16, mode="r", shape=(count, self.dimension))

    def _image_block(self, stream: int, block: int) -> Vectors:
        return self._finish(self._latent(stream, block), self._means[0])

    def _text_block(self, block: int) -> Vectors:
        image, other = self._latent(_IMAGES, block), self._latent(_TEXTS, block)
        agreement = self.profile.match / (
            1 + np.arange(self.dimension, dtype=np.float32) / self.profile.match_bend
        )
        other *= np.sqrt(1 - agreement**2)
        return self._finish(agreement * image + other, self._means[1])

    def _latent(self, stream: int, block: int) -> Vectors:
        """Coordinates of one block's rows before the rotation, (BLOCK, d)."""
        random = np.random.default_rng([self.seed, stream, block])
        own = 1 - sum(self.profile.shares)
        rows = random.standard_normal((BLOCK, self.dimension), dtype=np.float32)
        rows *= np.float32(np.sqrt(own))
        place = np.zeros(BLOCK, np.int64)
        levels = zip(self.profile.children, self.profile.shares, self._offsets, strict=True)
        for children, share, offsets in levels:
            chosen = random.choice(children, BLOCK, p=self._popularities(children))
            place = place * children + chosen
            rows += np.float32(np.sqrt(share)) * offsets[place * _SCATTER % _OFFSETS]
        rows *= self._spread
        return rows

    def _finish(self, rows: Vectors, mean: Vectors) -> Vectors:
        rows = rows @ self._rotation
        rows *= np.float32(np.sqrt(1 - self.profile.shared))
        rows += mean
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return rows

    @cached_property
    def _spread(self) -> Vectors:
        """Standard deviations, (d,): their squares sum to 1."""
        i = np.arange(self.dimension)
        eigenvalues = (1 + i / self.profile.bend) ** -self.profile.decay
        spread: Vectors = np.sqrt(eigenvalues / eigenvalues.sum()).astype(np.float32)
        return spread

    @cached_property
    def _offsets(self) -> list[Vectors]:
        random = np.random.default_rng([self.seed, 3])
        shape = (_OFFSETS, self.dimension)
        offsets = [random.standard_normal(shape, dtype=np.float32) for _ in self.profile.children]
        first = np.arange(self.profile.children[0]) * _SCATTER % _OFFSETS
        # What popular nodes of the first level have in common would be shared by all rows.
        popularities = self._popularities(len(first)).astype(np.float32)
        offsets[0][first] -= popularities @ offsets[0][first]
        return offsets

    def _popularities(self, children: int) -> NDArray[np.float64]:
        weights = np.arange(1.0, children + 1) ** -self.profile.popularity
        popularities: NDArray[np.float64] = weights / weights.sum()
        return popularities

    @cached_property
    def _rotation(self) -> Vectors:
        random = np.random.default_rng([self.seed, 4])
        square = random.standard_normal((self.dimension, self.dimension))
        return np.linalg.qr(square)[0].astype(np.float32)

    @cached_property
    def _means(self) -> tuple[Vectors, Vectors]:
        """Return the means of all images and of all texts, (d,) each."""
        random = np.random.default_rng([self.seed, 5])
        one, other = np.linalg.qr(random.standard_normal((self.dimension, 2)))[0].T
        cosine = self.profile.means_cosine
        length = np.sqrt(self.profile.shared)
        image = length * one
        text = length * (cosine * one + np.sqrt(1 - cosine**2) * other)
        return image.astype(np.float32), text.astype(np.float32)

"""Image towers with integers of 8 bits: static quantisation, calibrated on photos.

QDQ, weights per output channel, activations per tensor with the ranges that photos had
(Krishnamoorthi 2018, "Quantizing deep convolutional networks for efficient inference"). Texts stay
float32: a query is one text, and its vector then is exact.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

from retrieval.encoders.base import Pixels, Vectors
from retrieval.encoders.exports.encoder import ExportedEncoder
from retrieval.encoders.exports.store import (
    IMAGE_TOWER,
    INT8,
    INT8_PRECISION,
    Export,
    Loss,
    Report,
    checksums,
    find_export,
    link_file,
    new_export,
    write_card,
)
from retrieval.encoders.runtimes.onnx_files import quantise_file
from retrieval.media import Modality

CALIBRATION_PHOTOS = 96
NEIGHBOURS = 10


def quantise(
    export: Export, photos: Sequence[Pixels], on_progress: Report = lambda *_: None
) -> Export:
    """Make the int8 export of a float32 one: an encoder with a space of its own.

    Args:
        export: of float32.
        photos: preprocessed, to calibrate with.
        on_progress: called with a stage, and how much of how much of it is done.
    """
    with tempfile.TemporaryDirectory(prefix="mmsearch-export-") as folder:
        tower = Path(folder, "tower.onnx")
        quantise_file(
            export.file(IMAGE_TOWER),
            tower,
            _samples(photos, on_progress),
            operations=["Conv", "Gemm", "MatMul"],
            # Products of activations with one another stay exact: attention needs its range.
            options={"MatMulConstBOnly": True},
        )
        digest = xxhash.xxh3_128_hexdigest(tower.read_bytes() + export.space.weights.encode())
        name, weights = f"{export.space.encoder}{INT8}", f"xxh3-128:{digest}"
        space = replace(export.space, encoder=name, weights=weights)
        with new_export(space) as directory:
            link_file(tower, directory / IMAGE_TOWER)
            for file in export.files:
                if not file.startswith("image/"):
                    link_file(export.directory / file, directory / file)
            write_card(
                replace(
                    export,
                    directory=directory,
                    space=space,
                    precision=INT8_PRECISION,
                    files=checksums(directory),
                    measured=None,
                )
            )
    made = find_export(name, weights)
    assert made is not None
    return made


def measure_loss(
    exact: ExportedEncoder, quantised: ExportedEncoder, photos: Sequence[Pixels]
) -> Loss:
    """Compare the vectors of photos by two encoders: cosines, and nearest neighbours."""
    pixels = np.stack(photos)
    first = exact.encode(Modality.IMAGE, pixels)
    second = quantised.encode(Modality.IMAGE, pixels)
    cosines = np.einsum("nd,nd->n", first, second)
    count = min(NEIGHBOURS, len(photos) - 1)
    return Loss(
        photos=len(photos),
        cosine_median=float(np.median(cosines)),
        cosine_least=float(cosines.min()),
        neighbour_count=count,
        neighbours=same_neighbours(first, second, count),
    )


def same_neighbours(first: Vectors, second: Vectors, count: int) -> float:
    """Compute the mean share of each row's `count` nearest other rows that two matrices agree on.

    1 where there are no others.
    """
    if count < 1:
        return 1.0
    sets = [_nearest(vectors, count) for vectors in (first, second)]
    shared = [len(np.intersect1d(a, b, assume_unique=True)) for a, b in zip(*sets, strict=True)]
    return float(np.mean(shared) / count)


def _nearest(vectors: Vectors, count: int) -> NDArray[np.intp]:
    similarities = vectors @ vectors.T
    np.fill_diagonal(similarities, -np.inf)
    return np.argsort(-similarities, axis=1, kind="stable")[:, :count]


def _samples(photos: Sequence[Pixels], on_progress: Report) -> Iterator[Mapping[str, Pixels]]:
    for number, pixels in enumerate(photos):
        on_progress("calibrate", number, len(photos))
        yield {"pixels": pixels[np.newaxis]}
    on_progress("calibrate", len(photos), len(photos))

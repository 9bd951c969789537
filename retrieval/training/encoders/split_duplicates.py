"""Find training photos that are near-duplicates of photos that a model is measured on."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retrieval.duplicates import DEFAULT_THRESHOLD, similar_rows
from retrieval.encoders.base import Encoder
from retrieval.errors import UnreadableFileError, UsageError
from retrieval.media import Modality
from retrieval.media.images import LEAST_SIDE, read_image
from retrieval.training.captions import CaptionedPhoto
from retrieval.training.feature_folder import FeatureFolder, Progress

PAIRS_SHOWN = 5

_BATCH = 32


@dataclass(frozen=True)
class SplitDuplicate:
    """A training photo and a measured one that show the same. similarity: cosine, at most 1."""

    similarity: float
    training: Path
    measured: Path


def find_split_duplicates(
    training: Sequence[CaptionedPhoto],
    measured: Sequence[CaptionedPhoto],
    encoder: Encoder,
    *,
    threshold: float = DEFAULT_THRESHOLD,
    cache: Path,
    on_progress: Progress = lambda *_: None,
) -> list[SplitDuplicate]:
    """Find pairs of a training photo and a measured one, as `mmsearch duplicates` finds images.

    Files of equal content are among them. Photos that cannot be read are in no pair.

    Args:
        training: photos to train on.
        measured: photos of the validation or test split.
        encoder: gives the vectors; the default threshold was measured with `starter`.
        threshold: minimum cosine, 0 to 1.
        cache: folder of the vectors, which are computed once.
        on_progress: called with stage, done and total.

    Returns:
        The pairs, the most similar first.

    Raises:
        UsageError: the threshold is out of range.
    """
    if not 0 <= threshold <= 1:
        raise UsageError(f"The threshold is a cosine between 0 and 1, not {threshold}.")
    if not training or not measured:
        return []
    paths = [photo.path for photo in (*training, *measured)]
    vectors = _vectors(paths, encoder, cache, on_progress)
    # Rows of one content are not paired: here, those of one split.
    split = np.repeat(np.arange(2), [len(training), len(measured)])
    found = similar_rows(
        vectors,
        np.arange(len(paths)),
        split,
        threshold,
        on_progress=lambda done, total: on_progress("duplicates", done, total),
    )
    return [
        SplitDuplicate(similarity, paths[first], paths[second])
        for similarity, first, second in zip(
            found.similarity.tolist(), found.first.tolist(), found.second.tolist(), strict=True
        )
    ]


def without_duplicates(
    training: Sequence[CaptionedPhoto], duplicates: Sequence[SplitDuplicate]
) -> list[CaptionedPhoto]:
    """Leave out the training photos of all pairs. Raises UsageError if none is left."""
    left_out = {pair.training for pair in duplicates}
    kept = [photo for photo in training if photo.path not in left_out]
    if not kept:
        raise UsageError(
            f"All {len(training):,} training photos are near-duplicates of measured ones: are the "
            "splits the same?"
        )
    return kept


def describe_duplicates(duplicates: Sequence[SplitDuplicate], *, left_out: bool) -> str:
    """Write the warning: how many there are, and the most similar; empty where there are none."""
    if not duplicates:
        return ""
    photos = len({pair.training for pair in duplicates})
    lines = [
        f"{photos:,} training photos are near-duplicates of photos that the model is measured on"
        + (", and were left out:" if left_out else ", which makes it look better than it is:")
    ]
    lines += [
        f"  {pair.similarity:.3f}  {pair.training}  {pair.measured}"
        for pair in duplicates[:PAIRS_SHOWN]
    ]
    if len(duplicates) > PAIRS_SHOWN:
        lines.append(f"  and {len(duplicates) - PAIRS_SHOWN:,} pairs more")
    return "\n".join(lines)


def _vectors(
    paths: Sequence[Path], encoder: Encoder, cache: Path, on_progress: Progress
) -> NDArray[np.float16]:
    """Open the cached vectors of images, (n, d), computing missing ones; zeros: unreadable."""
    names = hashlib.sha256("\n".join(map(_content, paths)).encode()).hexdigest()
    folder = FeatureFolder(cache, "split-vectors", [names, encoder.space.id])
    vectors = folder.open("vectors.f16", (len(paths), encoder.space.dimension))
    for rows in folder.missing(len(paths), _BATCH, "vectors for duplicates", on_progress):
        pixels = {}
        for row in range(rows.start, rows.stop):
            try:
                pixels[row] = encoder.preprocess(read_image(paths[row], least_side=LEAST_SIDE))
            except (OSError, UnreadableFileError):
                vectors[row] = 0
        if pixels:
            encoded = encoder.encode(Modality.IMAGE, np.stack([*pixels.values()]))
            vectors[np.array([*pixels])] = encoded
    return vectors


def _content(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return "unreadable"

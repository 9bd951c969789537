"""Read the pairs of a run as outputs of the layers that stay frozen, not as pixels and tokens."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from retrieval.errors import UnreadableFileError, UsageError
from retrieval.training.encoders.frozen_prefix import (
    CaptionStates,
    FrozenPrefix,
    PhotoStates,
    caption_states,
    photo_states,
    trimmed,
)
from retrieval.training.encoders.gradient_cache import Inputs
from retrieval.training.encoders.models import DualModel
from retrieval.training.encoders.pairs import PhotoPairs, TrainingPair
from retrieval.training.encoders.tuning import Tuned
from retrieval.training.feature_folder import Progress


@dataclass(frozen=True, eq=False)
class FrozenStates:
    """Outputs of the frozen layers for all photos and captions of a source.

    prefix: encodes them. images, texts: where they lie; texts are None where the text tower has no
    frozen layers. rows: of each caption in `texts`.
    """

    prefix: FrozenPrefix
    dual: DualModel
    images: PhotoStates
    texts: CaptionStates | None
    rows: dict[str, int]

    def photo(self, number: int, variant: int = 0) -> Tensor:
        """Read a variant of a photo; (...) float32.

        Raises UnreadableFileError where the photo could not be read.
        """
        states = self.images.batch(np.array([variant]), np.array([number])).squeeze(0)
        if not states.any():
            raise UnreadableFileError("It could not be read when frozen layers were computed.")
        return states

    def read(self, pair: TrainingPair) -> Tensor:
        """Read the image of a pair; raises what `pair.open` does, where it is damaged."""
        try:
            return self.photo(pair.number, pair.variant)
        except UnreadableFileError:
            pair.open()  # says why
            raise

    def captions(self, captions: Sequence[str]) -> Inputs:
        """Read n captions, for `prefix.encode_text`."""
        if self.texts is None:
            return self.dual.tokenize(captions)
        return self.texts.batch(np.array([self.rows[text] for text in captions]))


def frozen_states(
    tuned: Tuned,
    dual: DualModel,
    source: PhotoPairs,
    *,
    cache: Path,
    most_bytes: int,
    on_progress: Progress = lambda *_: None,
) -> FrozenStates:
    """Open the outputs of frozen layers for a source, computing missing ones.

    Args:
        tuned: the model that is trained, whose image tower has frozen layers.
        dual: the encoder that it is a copy of.
        source: pairs with `fixed_variants`.
        cache: directory of the cache.
        most_bytes: bound of the size on disk, of images and of captions.
        on_progress: called with stage, done and total.

    Raises:
        UsageError: a tower cannot be cut, or the bound or the free space is too small.
    """
    variants = source.fixed_variants
    if variants is None:
        raise UsageError("These pairs are new ones in each epoch.")
    captions = list(dict.fromkeys(text for photo in source.photos for text in photo.captions))
    ids = trimmed(tuned.model, dual.tokenize(captions))
    device = next(tuned.model.parameters()).device
    tried = torch.rand(2, 3, *dual.input_shape, generator=torch.Generator().manual_seed(0))
    prefix = FrozenPrefix(tuned, tried.to(device), ids[[0, -1]].to(device))

    def read(photo: int, variant: int) -> Tensor | None:
        try:
            return dual.preprocess(source.open(photo, variant))
        except (OSError, UnreadableFileError):
            return None

    images = photo_states(
        prefix,
        read,
        photos=len(source.photos),
        variants=variants,
        key=[dual.encoder, json.dumps(dual.config, sort_keys=True), source.image_digest],
        cache=cache,
        most_bytes=most_bytes,
        on_progress=on_progress,
    )
    texts = None
    if prefix.text_shape is not None:
        texts = caption_states(
            prefix, ids, cache=cache, most_bytes=most_bytes, on_progress=on_progress
        )
    rows = {text: row for row, text in enumerate(captions)}
    return FrozenStates(prefix, dual, images, texts, rows)

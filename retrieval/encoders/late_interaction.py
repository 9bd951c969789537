"""Encode pages by the pooled vectors of a late-interaction model, to propose candidates."""

from collections.abc import Sequence
from typing import cast

import numpy as np
from PIL import Image

from retrieval.encoders.base import (
    REDUCTION,
    ImageTextEncoder,
    Inputs,
    Pixels,
    Space,
    Tokens,
    Vectors,
    cannot_encode,
)
from retrieval.encoders.checkpoints import CheckpointKind
from retrieval.encoders.multi_vector import EXAMPLE, LATE_INTERACTION, load_multi_vector
from retrieval.media import Modality

_KIND = CheckpointKind(
    LATE_INTERACTION, "--encoder", EXAMPLE, "another encoder (`mmsearch encoders` lists them)"
)

_IMAGES_PER_BATCH = 32


class LateInteractionEncoder(ImageTextEncoder):
    """ColPali or ColQwen2 with one vector a page: the mean of its patches' vectors.

    `name` is `late-interaction:NAME_OR_DIR`, as of `MultiVectorModel`. The vector of a text is the
    mean of those of its tokens, so that the dot product of both is the mean over all pairs of a
    token and a patch, where MaxSim takes the best patch of each token. It is there to propose
    candidates to `LateInteractionReranker`, which shares its weights: a page takes 2 bytes a
    dimension (256 bytes of 128), its patches up to a thousand times as much.

    Raises UsageError and EncoderUnavailableError as `MultiVectorModel`.
    """

    def __init__(self, name: str, device: str = "cpu") -> None:
        self._model = load_multi_vector(_KIND, name.partition(":")[2], device)
        self.space = Space(
            encoder=self._model.name,
            weights=f"xxh3-128:{self._model.digest}",
            preprocessing=f"the checkpoint's processor; mean of the vectors; {REDUCTION}",
            dimension=self._model.dimension,
        )
        self.context_length = self._model.context_length
        self.input_side = self._model.input_side

    def preprocess(self, image: Image.Image) -> Pixels:
        """Apply the checkpoint's own image processor; a () array of a record."""
        return self._model.preprocess(image)

    def token_count(self, text: str) -> int:
        """Tokens of a text with those around it, before truncation."""
        return self._model.token_count(text)

    def encode(self, modality: Modality, inputs: Inputs) -> Vectors:
        """Encode n images, as `preprocess` returns them, or n strings -> (n, d), unit L2 norm."""
        match modality:
            case Modality.IMAGE:
                return self._encode_images(inputs)
            case Modality.TEXT:
                return self._encode_texts(cast("Sequence[str]", inputs))
            case _:
                raise cannot_encode(self, modality)

    def _encode_images(self, pixels: Inputs) -> Vectors:
        pooled = [np.empty((0, self.space.dimension), np.float32)]
        for start in range(0, len(pixels), _IMAGES_PER_BATCH):
            batch = pixels[start : start + _IMAGES_PER_BATCH]
            pooled.append(mean_vectors(self._model.image_vectors(batch)))
        return np.concatenate(pooled)

    def _encode_texts(self, texts: Sequence[str]) -> Vectors:
        return mean_vectors(self._model.text_vectors(texts))


def mean_vectors(tokens: Tokens) -> Vectors:
    """Average the present vectors of each, (n, t, d) -> (n, d) of unit L2 norm."""
    total = np.where(tokens.mask[..., np.newaxis], tokens.values, 0).sum(axis=1, dtype=np.float32)
    lengths = np.linalg.norm(total, axis=1, keepdims=True)
    vectors: Vectors = (total / np.maximum(lengths, np.float32(1e-12))).astype(np.float32)
    return vectors

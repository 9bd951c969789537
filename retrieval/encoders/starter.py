"""The embedded default encoder: works at once, offline, on a CPU.

Frozen towers from installed packages (`towers`) and the projection heads (`heads`) that
`mmsearch train heads` made; how good they are stands in `weights/MODEL_CARD.md`.
"""

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from retrieval.encoders.base import Pixels, Space, Tokens, Vectors
from retrieval.encoders.weight_files import (
    IMAGE_WEIGHTS_SHA256,
    TEXT_WEIGHTS_SHA256,
    TOKENIZER_SHA256,
    heads_digest,
)

if TYPE_CHECKING:
    from retrieval.encoders.heads import ImageHead, TextHead
    from retrieval.encoders.towers import ImageTower, TextFeatures, TextTower

HEADS_FILE = Path(__file__).parent / "weights" / "starter_heads.safetensors"
IMAGE_BATCH = 32
TEXT_BATCH = 64


class StarterEncoder:
    """EfficientNet-Lite2 and MiniLM-L6 under projection heads trained on Flickr8k.

    Satisfies `base.Encoder`. Building one reads only the heads file; each tower loads when it is
    first needed, so that a text query never loads the image tower.

    Args:
        device: where the towers run, as torch names it ("cpu", "cuda", "cuda:1").
        heads: a heads file made by `retrieval.training.heads.train_heads` instead of the shipped
            one. Other heads make another space.

    Raises:
        EncoderUnavailableError: the heads file is missing or damaged, or (at first use) a tower's
            package is missing or altered.
    """

    context_length = 128

    def __init__(self, device: str = "cpu", *, heads: Path = HEADS_FILE) -> None:
        self.device = device
        self._heads_file = heads
        self.space = Space(
            encoder="starter",
            weights=f"sha256:{_weights_digest(heads)}",
            preprocessing=(
                "image: RGB, longer side cut to sqrt(width * height), squashed to 260x260 bicubic, "
                "(x - 127) / 128; "
                "text: lower-case WordPiece of at most 128 tokens"
            ),
            dimension=512,
        )

    @cached_property
    def _image_tower(self) -> "ImageTower":
        from retrieval.encoders.towers import ImageTower

        return ImageTower(self.device)

    @cached_property
    def _text_tower(self) -> "TextTower":
        from retrieval.encoders.towers import TextTower

        return TextTower(self.device)

    @cached_property
    def _heads(self) -> "tuple[ImageHead, TextHead]":
        from retrieval.encoders.heads import load_heads

        return load_heads(self._heads_file, self.device)

    def preprocess(self, image: Image.Image) -> Pixels:
        """Turn an upright RGB image of any size into (260, 260, 3) uint8."""
        from retrieval.encoders.towers import resize

        return resize(image)

    def encode_images(self, pixels: Pixels) -> Vectors:
        """Encode (n, 260, 260, 3) uint8 -> (n, 512) float32, unit L2 norm."""
        import torch

        vectors = np.empty((len(pixels), self.space.dimension), np.float32)
        with torch.inference_mode():
            for start in range(0, len(pixels), IMAGE_BATCH):
                features = self._image_tower(pixels[start : start + IMAGE_BATCH])
                encoded = self._heads[0](features.map, features.pooled, features.logits)
                vectors[start : start + IMAGE_BATCH] = encoded.cpu().numpy()
        return vectors

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """Encode n texts -> (n, 512) float32, unit L2 norm."""
        import torch

        vectors = np.empty((len(texts), self.space.dimension), np.float32)
        with torch.inference_mode():
            for rows, features in self._text_batches(texts):
                encoded = self._heads[1](features.early, features.pooled, features.mask)
                vectors[rows] = encoded.cpu().numpy()
        return vectors

    def image_tokens(self, pixels: Pixels) -> Tokens:
        """Say what the image tower sees at each position of its 9x9 map.

        Returns the last block's output, (n, 81, 352), row by row; all positions are present. It
        is the narrowest layer behind all of the tower's convolutions: the 1280 channels that
        `conv_head` makes of it hold nothing that a linear layer of a reranker cannot make again.
        """
        from retrieval.encoders.towers import MAP_CHANNELS, MAP_POSITIONS

        values = np.empty((len(pixels), MAP_POSITIONS, MAP_CHANNELS), np.float32)
        for start in range(0, len(pixels), IMAGE_BATCH):
            features = self._image_tower(pixels[start : start + IMAGE_BATCH])
            values[start : start + IMAGE_BATCH] = features.map.cpu().numpy()
        return Tokens(values, np.ones(values.shape[:2], np.bool_))

    def text_tokens(self, texts: Sequence[str]) -> Tokens:
        """Give the text tower's last hidden states, (n, t, 384), t the longest text's tokens.

        The special tokens at both ends count as present.
        """
        from retrieval.encoders.towers import TEXT_WIDTH

        batches = list(self._text_batches(texts))
        longest = max((features.mask.shape[1] for _, features in batches), default=0)
        values = np.zeros((len(texts), longest, TEXT_WIDTH), np.float32)
        mask = np.zeros((len(texts), longest), np.bool_)
        for rows, features in batches:
            length = features.mask.shape[1]
            values[rows, :length] = features.last.cpu().numpy()
            mask[rows, :length] = features.mask.cpu().numpy()
        return Tokens(values, mask)

    def token_count(self, text: str) -> int:
        """Tokens of a text with the special ones, before truncation."""
        return len(self._text_tower.tokenize([text])[0])

    def _text_batches(
        self, texts: Sequence[str]
    ) -> "Iterator[tuple[NDArray[np.intp], TextFeatures]]":
        ids = self._text_tower.tokenize(texts)
        # Texts of like length share a batch, so that little of it is padding.
        order = np.argsort([len(row) for row in ids], kind="stable")
        for start in range(0, len(order), TEXT_BATCH):
            rows = order[start : start + TEXT_BATCH]
            yield rows, self._text_tower([ids[row] for row in rows])


def _weights_digest(heads: Path) -> str:
    pins = (IMAGE_WEIGHTS_SHA256, TEXT_WEIGHTS_SHA256, TOKENIZER_SHA256, heads_digest(heads))
    return hashlib.sha256("\n".join(pins).encode()).hexdigest()

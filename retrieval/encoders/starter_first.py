"""The first edition of the embedded encoder, on PyTorch: kept for libraries made with it.

Frozen towers from installed packages (`towers`) and the projection heads (`heads`) that
`mmsearch train heads` made; how good they are stands in `weights/MODEL_CARD.md`.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from retrieval.encoders.base import Pixels, Tokens, Vectors
from retrieval.encoders.starter_inputs import (
    MAP_POSITIONS,
    TEXT_WIDTH,
    TOKEN_CHANNELS,
    StarterEdition,
    starter_space,
)
from retrieval.encoders.weight_files import (
    IMAGE_WEIGHTS_SHA256,
    TEXT_WEIGHTS_SHA256,
    TOKENIZER_SHA256,
    heads_digest,
)

if TYPE_CHECKING:
    from torch import Tensor

    from retrieval.encoders.heads import ImageHead, TextHead
    from retrieval.encoders.towers import ImageTower, TextTower

HEADS_FILE = Path(__file__).parent / "weights" / "starter_heads.safetensors"
IMAGE_BATCH = 32
TEXT_BATCH = 64


@dataclass(frozen=True)
class _TextStates:
    """What the text head reads of n texts: its own layer's outputs, the pooled features, a mask."""

    tokens: "Tensor"
    pooled: "Tensor"
    mask: "Tensor"


class FirstStarterEncoder(StarterEdition):
    """EfficientNet-Lite2 and MiniLM-L6 under projection heads trained on Flickr8k.

    Satisfies `base.TokenEncoder`. Building one reads only the heads file; each tower loads when it
    is first needed, so that a text query never loads the image tower.

    Args:
        device: where the towers run, as torch names it ("cpu", "cuda", "cuda:1").
        heads: a heads file made by `retrieval.training.heads.train_heads` instead of the shipped
            one. Other heads make another space.

    Raises:
        EncoderUnavailableError: the heads file is missing or damaged, or (at first use) a tower's
            package is missing or altered.
    """

    runtime = "PyTorch float32"

    def __init__(self, device: str = "cpu", *, heads: Path = HEADS_FILE) -> None:
        self.device = device
        self._heads_file = heads
        self._last_states: tuple[tuple[str, ...], list[Any]] | None = None
        self.space = starter_space(
            _weights_digest(heads), "lower-case WordPiece of at most 128 tokens"
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

    def _encode_images(self, pixels: Pixels) -> Vectors:
        import torch

        vectors = np.empty((len(pixels), self.space.dimension), np.float32)
        with torch.inference_mode():
            for start in range(0, len(pixels), IMAGE_BATCH):
                features = self._image_tower(pixels[start : start + IMAGE_BATCH])
                encoded = self._heads[0](features.map, features.pooled, features.logits)
                vectors[start : start + IMAGE_BATCH] = encoded.cpu().numpy()
        return vectors

    def _encode_texts(self, texts: Sequence[str]) -> Vectors:
        import torch

        vectors = np.empty((len(texts), self.space.dimension), np.float32)
        with torch.inference_mode():
            for rows, states in self._text_states(texts):
                encoded = self._heads[1].project(states.tokens, states.pooled, states.mask)
                vectors[rows] = encoded.cpu().numpy()
        return vectors

    def image_tokens(self, pixels: Pixels) -> Tokens:
        """Say what is at each position of the image tower's 9x9 map, (n, 81, 734), row by row.

        All positions are present. See `towers.ImageTower.tokens` for what the channels are.
        """
        values = np.empty((len(pixels), MAP_POSITIONS, TOKEN_CHANNELS), np.float32)
        for start in range(0, len(pixels), IMAGE_BATCH):
            tokens = self._image_tower.tokens(pixels[start : start + IMAGE_BATCH])
            values[start : start + IMAGE_BATCH] = tokens.cpu().numpy()
        return Tokens.all_present(values)

    def text_tokens(self, texts: Sequence[str]) -> Tokens:
        """Give the outputs of the text head's own layer, (n, t, 384), t the longest text's tokens.

        They have learned from captions what the text tower had not. The special tokens at both
        ends count as present.
        """
        batches = self._text_states(texts)
        longest = max((states.mask.shape[1] for _, states in batches), default=0)
        values = np.zeros((len(texts), longest, TEXT_WIDTH), np.float32)
        mask = np.zeros((len(texts), longest), np.bool_)
        for rows, states in batches:
            length = states.mask.shape[1]
            values[rows, :length] = (states.tokens * states.mask[:, :, None]).cpu().numpy()
            mask[rows, :length] = states.mask.cpu().numpy()
        return Tokens(values, mask)

    def _text_states(self, texts: Sequence[str]) -> "list[tuple[NDArray[np.intp], _TextStates]]":
        """States of texts in batches of like length, so that little of the work is padding.

        Those of the last call are kept: a query's vector and its tokens come of the same states.
        """
        import torch

        from retrieval.encoders.towers import unpacked

        if self._last_states is None or self._last_states[0] != tuple(texts):
            ids = self._text_tower.tokenize(texts)
            order = np.argsort([len(row) for row in ids], kind="stable")
            batches = []
            with torch.inference_mode():
                for start in range(0, len(order), TEXT_BATCH):
                    rows = order[start : start + TEXT_BATCH]
                    features = self._text_tower([ids[row] for row in rows])
                    early = features.early[features.mask]
                    packed = self._heads[1].packed_tokens(early, features.mask)
                    tokens = unpacked(packed, features.mask)
                    batches.append((rows, _TextStates(tokens, features.pooled, features.mask)))
            if len(texts) > TEXT_BATCH:
                return batches
            self._last_states = (tuple(texts), batches)
        return self._last_states[1]


def _weights_digest(heads: Path) -> str:
    pins = (IMAGE_WEIGHTS_SHA256, TEXT_WEIGHTS_SHA256, TOKENIZER_SHA256, heads_digest(heads))
    return hashlib.sha256("\n".join(pins).encode()).hexdigest()

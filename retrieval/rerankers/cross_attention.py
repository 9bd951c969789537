"""Rerank the candidates of one vector space with a cross-attention model; save and load it."""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from retrieval.encoders.base import Pixels, Space, TokenEncoder, Tokens
from retrieval.encoders.registry import resolve_device
from retrieval.encoders.weight_files import checked_metadata, write_weights
from retrieval.errors import EncoderUnavailableError, SpaceMismatchError, UsageError
from retrieval.rerankers.base import Scores
from retrieval.rerankers.cross_attention_networks import (
    CrossAttentionNetwork,
    TorchNetwork,
    load_networks,
)
from retrieval.rerankers.late_interaction import max_sim

if TYPE_CHECKING:
    from retrieval.rerankers.cross_attention_model import CrossAttentionModel

FORMAT = "mmsearch-fusion-1"
SHIPPED = Path(__file__).parent / "weights" / "starter_fusion.safetensors"
"""For the first edition of `starter`."""
SHIPPED_NETWORKS = Path(__file__).parent / "weights" / "starter"
"""For the second edition, without PyTorch."""
SHIPPED_FOR = "starter"

IMAGE_SIMILARITY_WEIGHT = 1.0
"""Best of 0.1 to 2 on `val` of Flickr8k, by the similarity of the captions of query and hits."""

_REMEDY = "Reinstall mmsearch, train one with `mmsearch train reranker`, or use `--rerank none`."


@dataclass(frozen=True)
class CrossAttentionCard:
    """Metadata of a weight file.

    encoder, space_id: the vector space that the model was trained for. match_weight: weight of
    the match beside the similarity. depth: number of candidates reranked by default.
    short_text_tokens: texts of at most so few tokens are words and phrases rather than captions;
    as queries, they have the factor short_text_weight of the match_weight, in place of the
    out-of-distribution trust, which knows captions alone.
    """

    encoder: str
    space_id: str
    match_weight: float
    depth: int
    short_text_tokens: int = 0
    short_text_weight: float = 0.0


def save_model(path: Path, model: "CrossAttentionModel", card: CrossAttentionCard) -> None:
    """Write a model as float16 safetensors, its configuration and card in the header."""
    header = {"config": json.dumps(asdict(model.config)), "card": json.dumps(asdict(card))}
    write_weights(path, FORMAT, model.state_dict(), header)


def load_model(
    path: Path, device: str = "cpu"
) -> "tuple[CrossAttentionModel, CrossAttentionCard, str]":
    """Read a model in inference mode, its card and the SHA-256 of its weights.

    Raises:
        EncoderUnavailableError: the file is missing, damaged or of another architecture.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from retrieval.rerankers.cross_attention_model import CrossAttentionModel
    from retrieval.rerankers.layers import CrossAttentionConfig

    metadata = checked_metadata(path, FORMAT, _REMEDY)
    try:
        model = CrossAttentionModel(CrossAttentionConfig(**json.loads(metadata["config"])))
        card = CrossAttentionCard(**json.loads(metadata["card"]))
        model.load_state_dict({k: v.float() for k, v in load_file(path, device=device).items()})
    except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError, UsageError) as error:
        raise EncoderUnavailableError(
            f"The cross-attention model {path} has another architecture than this version: {error}"
        ) from error
    return model.to(device).eval().requires_grad_(False), card, metadata["sha256"]


def shipped_model(space: Space) -> Path | None:
    """Find the model in the package that was trained for a space; None if there is none."""
    if space.encoder != SHIPPED_FOR:
        return None
    for path in (SHIPPED_NETWORKS, SHIPPED):
        if path.exists() and _space_id(path) == space.id:
            return path
    return None


def _space_id(path: Path) -> str:
    """Return the id of the space that a weight file, or a folder of networks, was trained for."""
    if path.is_dir():
        card = load_networks(path, "cpu", _REMEDY)[1]["card"]
    else:
        card = json.loads(checked_metadata(path, FORMAT, _REMEDY)["card"])
    return str(card["space_id"])


class CrossAttentionReranker:
    """Rerank with a cross-attention model over the tokens of its space's encoder.

    Args:
        path: A weight file, run by PyTorch, or a folder that `mmsearch train export` made of one,
            run by ONNX Runtime.
        encoder: The encoder of the candidates' space.
        device: `cpu`, `cuda` or `auto`.

    Raises:
        EncoderUnavailableError: the file is missing or damaged.
        SpaceMismatchError: the model was trained for another space.
    """

    def __init__(self, path: Path, encoder: TokenEncoder, device: str = "cpu") -> None:
        self.network: CrossAttentionNetwork
        if path.is_dir():
            self.network, said = load_networks(path, device, _REMEDY)
            card = CrossAttentionCard(**said["card"])
            config, digest = said["config"], said["sha256"]
        else:
            device = resolve_device(device)
            model, card, digest = load_model(path, device)
            self.network, config = TorchNetwork(model, device), asdict(model.config)
        if card.space_id != encoder.space.id:
            raise SpaceMismatchError(
                f"The cross-attention model {path} was trained for the encoder {card.encoder!r} "
                f"(space {card.space_id}), not for {encoder.space.encoder!r} (space "
                f"{encoder.space.id}). Use `--rerank none`, or train one for this space with "
                "`mmsearch train reranker`."
            )
        # Clients compare the name with `fusion`, and caches find tokens by the identity: both
        # stay what they were.
        self.name = "fusion" if path in {SHIPPED, SHIPPED_NETWORKS} else f"fusion:{path}"
        everything = json.dumps([config, card.space_id, digest])
        self.identity = f"fusion-{hashlib.sha256(everything.encode()).hexdigest()[:16]}"
        self.match_weight = card.match_weight
        self.image_similarity_weight = IMAGE_SIMILARITY_WEIGHT
        self.depth = card.depth
        self._card = card
        self.encoder = encoder

    @classmethod
    def by_name(cls, file: str, encoder: TokenEncoder, device: str = "cpu") -> Self:
        """Load a file or folder or, for an empty name, the shipped model of the space."""
        path = Path(file) if file else shipped_model(encoder.space)
        if path is None:
            raise UsageError(
                f"No cross-attention model comes with mmsearch for {encoder.space.encoder!r}. "
                "Train one with `mmsearch train reranker` and name it "
                "(`--rerank cross-attention:FILE`), or use `--rerank none`."
            )
        return cls(path, encoder, device)

    def preprocess(self, image: Image.Image) -> Pixels:
        """Apply the encoder's own preprocessing."""
        return self.encoder.preprocess(image)

    def image_tokens(self, pixels: Pixels) -> Tokens:
        """Encode images and embed their tokens, (n, t, width)."""
        tokens = self.encoder.image_tokens(pixels)
        return Tokens(self.network.embed_images(tokens), tokens.mask)

    def text_tokens(self, texts: Sequence[str]) -> Tokens:
        """Encode texts and embed their tokens, (m, t, width)."""
        tokens = self.encoder.text_tokens(texts)
        return Tokens(self.network.embed_texts(tokens), tokens.mask)

    def match(self, texts: Tokens, images: Tokens) -> Scores:
        """Compute the match logits of all pairs, (m, n) float32."""
        if not len(texts.values) or not len(images.values):
            return np.empty((len(texts.values), len(images.values)), np.float32)
        return self.network.match(texts, images)

    def text_query_weight(self, texts: Tokens) -> Scores:
        """Compute a factor of the match weight for each text as a query, (m,) float32, 0 to 1.

        It is the out-of-distribution trust; of short texts, what the card says.
        """
        trust = self.network.trust("text", _mean_state(texts))
        is_short = texts.mask.sum(1) <= self._card.short_text_tokens
        return np.where(is_short, np.float32(self._card.short_text_weight), trust)

    def image_query_weight(self, images: Tokens) -> Scores:
        """Compute the out-of-distribution trust in images as queries, (n,) float32, 0 to 1."""
        return self.network.trust("image", _mean_state(images))

    def image_similarity(self, image: Tokens, images: Tokens) -> Scores:
        """Compare one image with n others by late interaction, (n,) float32, -1 to 1."""
        return max_sim(image, images, self.network.image_centre)

    def attribution(self, text: Tokens, image: Tokens) -> NDArray[np.float32]:
        """Attribute the match of one text and one image to their tokens, (t, u) float32.

        t and u count text and image tokens without padding. See `CrossAttentionModel.attribution`.
        """
        return self.network.attribution(
            text.values[0, text.mask[0]].astype(np.float32),
            image.values[0, image.mask[0]].astype(np.float32),
        )

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """Locate each of a text's tokens in it; (0, 0) for special tokens."""
        return self.encoder.token_spans(text)

    def view(self, width: int, height: int) -> tuple[float, float, float, float]:
        """Return the part of an image that the encoder sees: left, top, right, bottom (px)."""
        return self.encoder.view(width, height)

    def grid(self, _: Pixels, count: int) -> NDArray[np.int64]:
        """Lay the tokens of an image out as the square that they are, (rows, columns)."""
        side = math.isqrt(count)
        if side * side != count:
            raise UsageError(f"The {count} image tokens of this encoder are no square grid.")
        return np.arange(count).reshape(side, side)


def _mean_state(tokens: Tokens) -> NDArray[np.float32]:
    """Average the present tokens, (n, t, width) -> (n, width)."""
    present = tokens.mask[:, :, np.newaxis].astype(np.float32)
    total = (tokens.values.astype(np.float32) * present).sum(1)
    mean: NDArray[np.float32] = total / present.sum(1)
    return mean

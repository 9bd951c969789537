"""The projection heads of the starter encoder: tower outputs in, unit vectors out.

Both heads pool by attention (a softmax over positions from learned queries, several at once) and
add what the tower already knows as a whole: the text side its sentence embedding, the image side
its pooled features and a convex combination of class-name embeddings, weighted by the
classifier's probabilities (ConSE, Norouzi et al. 2013). The last is what carries the encoder
beyond the captions it was trained on: a photo of a known class lands near the name of the class.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retrieval.encoders.towers import (
    CLASSES,
    MAP_CHANNELS,
    POOLED_CHANNELS,
    TEXT_WIDTH,
    TransformerLayer,
)
from retrieval.encoders.weight_files import HEADS_FORMAT, heads_digest, write_weights
from retrieval.errors import EncoderUnavailableError

DIMENSION = 512
SENTENCE_SCALE = 8.0

FEATURE_DROPOUT = 0.2
"""Share of the inputs of each projection that is left out while training."""
POSITION_DROPOUT = 0.2
"""Share of the image map's positions that the pooling may not look at while training."""


class AttentionPooling(nn.Module):
    """Pool (n, t, width) to (n, queries * width) by one softmax over t for each query."""

    def __init__(self, width: int, queries: int) -> None:
        super().__init__()
        self.score = nn.Linear(width, queries)
        nn.init.normal_(self.score.weight, std=0.02)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Pool the tokens whose (n, t) bool mask is True; each row needs one."""
        scores = self.score(x)
        if mask is not None:
            scores = scores.masked_fill(~mask[:, :, None], -1e4)
        weights = scores.softmax(1)
        return (weights.transpose(1, 2) @ x).flatten(1)  # type: ignore[no-any-return]


class Refinement(nn.Module):
    """A residual two-layer perceptron that starts as the identity."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(DIMENSION)
        self.up = nn.Linear(DIMENSION, DIMENSION)
        self.down = nn.Linear(DIMENSION, DIMENSION)
        nn.init.zeros_(self.down.weight)
        nn.init.zeros_(self.down.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Refine (n, 512)."""
        inner = F.dropout(F.gelu(self.up(self.norm(x))), FEATURE_DROPOUT, self.training)
        return x + self.down(inner)  # type: ignore[no-any-return]


class ImageHead(nn.Module):
    """Outputs of the image tower to (n, 512) unit vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.map_norm = nn.LayerNorm(MAP_CHANNELS)
        self.map_pooling = AttentionPooling(MAP_CHANNELS, queries=8)
        self.map_out = nn.Linear(8 * MAP_CHANNELS, DIMENSION)
        self.pooled_norm = nn.LayerNorm(POOLED_CHANNELS)
        self.pooled_out = nn.Linear(POOLED_CHANNELS, DIMENSION)
        self.class_vectors: Tensor
        self.register_buffer("class_vectors", torch.zeros(CLASSES, TEXT_WIDTH))
        self.class_out = nn.Linear(TEXT_WIDTH, DIMENSION)
        self.refinement = Refinement()

    def forward(self, map: Tensor, pooled: Tensor, logits: Tensor) -> Tensor:  # noqa: A002
        """Project the fields of `towers.ImageFeatures`."""
        tokens = self.map_norm(map)
        seen = None
        if self.training:
            seen = torch.rand(tokens.shape[:2], device=tokens.device) >= POSITION_DROPOUT
        spatial = F.dropout(self.map_pooling(tokens, seen), FEATURE_DROPOUT, self.training)
        whole = F.dropout(self.pooled_norm(pooled), FEATURE_DROPOUT, self.training)
        named = logits.softmax(1) @ self.class_vectors
        vectors = self.map_out(spatial) + self.pooled_out(whole) + self.class_out(named)
        return F.normalize(self.refinement(vectors), dim=1)


class TextHead(nn.Module):
    """Outputs of the text tower to (n, 512) unit vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = TransformerLayer(dropout=FEATURE_DROPOUT / 2)
        self.pooling = AttentionPooling(TEXT_WIDTH, queries=4)
        self.tokens_out = nn.Linear(4 * TEXT_WIDTH, DIMENSION)
        self.sentence_out = nn.Linear(TEXT_WIDTH, DIMENSION)
        self.refinement = Refinement()

    def start_from(self, layer: TransformerLayer) -> None:
        """Start the own transformer layer as a copy of the tower's last one."""
        self.layer.load_state_dict(layer.state_dict())

    def forward(self, early: Tensor, pooled: Tensor, mask: Tensor) -> Tensor:
        """Project the fields of `towers.TextFeatures`."""
        return self.project(self.layer(early, mask), pooled, mask)

    def project(self, tokens: Tensor, pooled: Tensor, mask: Tensor) -> Tensor:
        """Project the own layer's outputs, (n, t, 384), and the pooled features."""
        tokens = F.dropout(self.pooling(tokens, mask), FEATURE_DROPOUT, self.training)
        # The mean of many token vectors is short beside the concatenated ones that it joins.
        sentence = F.dropout(
            SENTENCE_SCALE * F.normalize(pooled, dim=1), FEATURE_DROPOUT, self.training
        )
        vectors = self.tokens_out(tokens) + self.sentence_out(sentence)
        return F.normalize(self.refinement(vectors), dim=1)


def save_heads(path: Path, image: ImageHead, text: TextHead) -> None:
    """Write both heads as float16 safetensors with a checksum in the header."""
    tensors = {
        f"{side}.{name}": value
        for side, head in (("image", image), ("text", text))
        for name, value in head.state_dict().items()
    }
    write_weights(path, HEADS_FORMAT, tensors)


def load_heads(path: Path, device: str = "cpu") -> tuple[ImageHead, TextHead]:
    """Read both heads, ready for inference.

    Raises:
        EncoderUnavailableError: the file is missing, damaged or of another architecture.
    """
    from safetensors.torch import load_file

    heads_digest(path)
    tensors = {name: value.float() for name, value in load_file(path, device=device).items()}
    image, text = ImageHead(), TextHead()
    for prefix, head in (("image.", image), ("text.", text)):
        state = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        try:
            head.load_state_dict(state)
        except RuntimeError as error:
            raise EncoderUnavailableError(
                f"The heads {path} have another architecture than this version: {error}"
            ) from error
        head.to(device).eval().requires_grad_(False)
    return image, text

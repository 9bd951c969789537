"""The projection heads of the starter encoder: tower outputs in, unit vectors out.

Both heads pool by attention (a softmax over positions from learned queries, several at once) and
add what the tower already knows as a whole: the text side its sentence embedding, the image side
its pooled features and a convex combination of class-name embeddings, weighted by the
classifier's probabilities (ConSE, Norouzi et al. 2013). The last is what carries the encoder
beyond the captions it was trained on: a photo of a known class lands near the name of the class.
"""

from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retrieval.encoders.starter_inputs import MAP_CHANNELS, TEXT_WIDTH, TOKEN_CHANNELS
from retrieval.encoders.towers import CLASSES, POOLED_CHANNELS, TransformerLayer
from retrieval.encoders.weight_files import HEADS_FORMAT, heads_digest, write_weights
from retrieval.errors import EncoderUnavailableError

DIMENSION = 512
SENTENCE_SCALE = 8.0
LOG_SCALE = "log_scale"
"""Name of the tensor of a heads file that only training reads."""

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

    def __init__(self, dropout: float = FEATURE_DROPOUT) -> None:
        super().__init__()
        self.dropout = dropout
        self.norm = nn.LayerNorm(DIMENSION)
        self.up = nn.Linear(DIMENSION, DIMENSION)
        self.down = nn.Linear(DIMENSION, DIMENSION)
        nn.init.zeros_(self.down.weight)
        nn.init.zeros_(self.down.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Refine (n, 512)."""
        inner = F.dropout(F.gelu(self.up(self.norm(x))), self.dropout, self.training)
        return x + self.down(inner)  # type: ignore[no-any-return]


class TokenNorm(nn.Module):
    """Normalise the tokens of `towers.ImageTower.tokens`: earlier blocks and the last by itself.

    The last block's share of each position's variance, so, does not depend on the others.
    """

    def forward(self, tokens: Tensor) -> Tensor:
        """Normalise (n, positions, 734)."""
        widths = [TOKEN_CHANNELS - MAP_CHANNELS, MAP_CHANNELS]
        parts = zip(torch.split(tokens, widths, -1), widths, strict=True)
        return torch.cat([F.layer_norm(part, (width,)) for part, width in parts], -1)


class ImageHead(nn.Module):
    """Outputs of the image tower to (n, 512) unit vectors.

    channels: of the map that it pools: `towers.ImageFeatures.map`, or `towers.ImageTower.tokens`.
    dropout, position_dropout: shares of inputs and of positions left out while training.
    """

    def __init__(
        self,
        channels: int = MAP_CHANNELS,
        dropout: float = FEATURE_DROPOUT,
        position_dropout: float = POSITION_DROPOUT,
    ) -> None:
        super().__init__()
        self.dropout, self.position_dropout = dropout, position_dropout
        self.map_norm = TokenNorm() if channels == TOKEN_CHANNELS else nn.LayerNorm(channels)
        self.map_pooling = AttentionPooling(channels, queries=8)
        self.map_out = nn.Linear(8 * channels, DIMENSION)
        self.pooled_norm = nn.LayerNorm(POOLED_CHANNELS)
        self.pooled_out = nn.Linear(POOLED_CHANNELS, DIMENSION)
        self.class_vectors: Tensor
        self.register_buffer("class_vectors", torch.zeros(CLASSES, TEXT_WIDTH))
        self.class_out = nn.Linear(TEXT_WIDTH, DIMENSION)
        self.refinement = Refinement(dropout)

    def forward(self, map: Tensor, pooled: Tensor, logits: Tensor) -> Tensor:  # noqa: A002
        """Project a (n, positions, channels) map and `towers.ImageFeatures`' other fields."""
        tokens = self.map_norm(map)
        seen = None
        if self.training:
            seen = torch.rand(tokens.shape[:2], device=tokens.device) >= self.position_dropout
        spatial = F.dropout(self.map_pooling(tokens, seen), self.dropout, self.training)
        whole = F.dropout(self.pooled_norm(pooled), self.dropout, self.training)
        named = logits.softmax(1) @ self.class_vectors
        vectors = self.map_out(spatial) + self.pooled_out(whole) + self.class_out(named)
        return F.normalize(self.refinement(vectors), dim=1)


class TextHead(nn.Module):
    """Outputs of the text tower to (n, 512) unit vectors.

    layers: own transformer layers, which take the place of as many at the tower's end. The tower's
    sentence embedding counts from `sentence_mean`, that of all sentences, which are all alike in
    some towers. dropout: share of inputs left out while training.
    """

    def __init__(self, layers: int = 1, dropout: float = FEATURE_DROPOUT) -> None:
        super().__init__()
        self.dropout = dropout
        self.layers = nn.ModuleList(
            TransformerLayer(dropout=FEATURE_DROPOUT / 2) for _ in range(layers)
        )
        self.pooling = AttentionPooling(TEXT_WIDTH, queries=4)
        self.tokens_out = nn.Linear(4 * TEXT_WIDTH, DIMENSION)
        self.sentence_mean: Tensor
        self.register_buffer("sentence_mean", torch.zeros(TEXT_WIDTH))
        self.sentence_out = nn.Linear(TEXT_WIDTH, DIMENSION)
        self.refinement = Refinement(dropout)
        self.register_load_state_dict_pre_hook(_complete)  # type: ignore[no-untyped-call]

    def forward(self, early: Tensor, pooled: Tensor, mask: Tensor) -> Tensor:
        """Project the tower's (n, t, 384) states before its last layers, and its pooled ones."""
        return self.project(self.tokens(early, mask), pooled, mask)

    def tokens(self, early: Tensor, mask: Tensor) -> Tensor:
        """Run the own layers on (n, t, 384) under a (n, t) bool mask."""
        for layer in self.layers:
            early = layer(early, mask)
        return early

    def packed_tokens(self, early: Tensor, mask: Tensor) -> Tensor:
        """Do the same to the present tokens alone, (p, 384), in the order of the mask's rows."""
        for layer in self.layers:
            early = cast("TransformerLayer", layer).packed(early, mask)
        return early

    def project(self, tokens: Tensor, pooled: Tensor, mask: Tensor) -> Tensor:
        """Project the own layers' outputs, (n, t, 384), and the pooled features."""
        tokens = F.dropout(self.pooling(tokens, mask), self.dropout, self.training)
        # The mean of many token vectors is short beside the concatenated ones that it joins.
        sentence = SENTENCE_SCALE * F.normalize(pooled - self.sentence_mean, dim=1)
        sentence = F.dropout(sentence, self.dropout, self.training)
        vectors = self.tokens_out(tokens) + self.sentence_out(sentence)
        return F.normalize(self.refinement(vectors), dim=1)


def _complete(_module: nn.Module, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Read files of the time when a text head had one layer, called `layer`, and no mean."""
    old = f"{prefix}layer."
    for key in [key for key in state if key.startswith(old)]:
        state[f"{prefix}layers.0.{key.removeprefix(old)}"] = state.pop(key)
    state.setdefault(f"{prefix}sentence_mean", torch.zeros(TEXT_WIDTH))


def save_heads(
    path: Path, image: ImageHead, text: TextHead, log_scale: Tensor | None = None
) -> None:
    """Write both heads as float16 safetensors with a checksum in the header.

    log_scale: natural logarithm of the inverse temperature of the training, to go on from.
    """
    tensors = {
        f"{side}.{name}": value
        for side, head in (("image", image), ("text", text))
        for name, value in head.state_dict().items()
    }
    if log_scale is not None:
        tensors[LOG_SCALE] = log_scale
    write_weights(path, HEADS_FORMAT, tensors)


def load_heads(path: Path, device: str = "cpu") -> tuple[ImageHead, TextHead]:
    """Read both heads, of the sizes that the file has, ready for inference.

    Raises:
        EncoderUnavailableError: the file is missing, damaged or of another architecture.
    """
    from safetensors.torch import load_file

    heads_digest(path)
    tensors = {name: value.float() for name, value in load_file(path, device=device).items()}
    try:
        own = {name.split(".")[2] for name in tensors if name.startswith("text.layers.")}
        image = ImageHead(channels=tensors["image.map_pooling.score.weight"].shape[1])
        text = TextHead(layers=max(1, len(own)))
        for prefix, head in (("image.", image), ("text.", text)):
            state = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            head.load_state_dict(state)
            head.to(device).eval().requires_grad_(False)
    except (KeyError, RuntimeError) as error:
        raise EncoderUnavailableError(
            f"The heads {path} have another architecture than this version: {error}"
        ) from error
    return image, text

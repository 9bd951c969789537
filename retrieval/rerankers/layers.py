"""Layers that rerankers of every kind share, and their hyperparameters."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retrieval.errors import UsageError, require_at_least, require_share

Kind = Literal["cross", "single-stream", "concat", "gated", "bilinear", "cosine"]
KINDS: tuple[Kind, ...] = get_args(Kind)
JOINT_KINDS: tuple[Kind, ...] = ("cross", "single-stream")
"""Kinds whose tokens of both sides attend to each other; the others pool each side first."""


@dataclass(frozen=True)
class CrossAttentionConfig:
    """Hyperparameters of a cross-attention model.

    image_width, text_width: channels of the input tokens. image_positions: length of the learned
    position table, 0 for none. kind: how text and image interact: `cross` (`CrossAttentionScorer`),
    `single-stream` (`SingleStreamScorer`), or by pooled vectors (`PooledScorer`). width, heads:
    channels and attention heads of every layer. feed_forward: hidden width of perceptrons as a
    multiple of `width`, 0 for none. depth: number of cross-attention blocks, or of layers of the
    single stream. text_layers, image_layers: self-attention layers of one side before them.
    co_attention: of `cross`, whether images also attend to texts, between the blocks. dropout:
    dropout rate.
    """

    image_width: int
    text_width: int
    image_positions: int = 0
    kind: Kind = "cross"
    width: int = 256
    heads: int = 4
    depth: int = 1
    feed_forward: int = 2
    text_layers: int = 1
    image_layers: int = 1
    co_attention: bool = True
    dropout: float = 0.2

    def __post_init__(self) -> None:
        require_at_least(self, 1, "image_width", "text_width", "width", "heads", "depth")
        require_at_least(self, 0, "image_positions", "feed_forward", "text_layers", "image_layers")
        if self.width % self.heads:
            raise UsageError(f"width ({self.width}) must be a multiple of heads ({self.heads}).")
        require_share(self, "dropout")
        if self.kind not in KINDS:
            raise UsageError(f"kind must be one of {', '.join(KINDS)}, not {self.kind!r}.")


def attention_weights(query: Tensor, key: Tensor, mask: Tensor | None = None) -> Tensor:
    """Compute softmax(Q K^T / sqrt(d_k)), (..., q, k), of (..., q, d_k) and (..., k, d_k)."""
    scores = query @ key.transpose(-1, -2) / math.sqrt(key.shape[-1])
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return scores.softmax(-1)


class Attention(nn.Module):
    """Multi-head attention, softmax(Q K^T / sqrt(d_k)) V (Vaswani et al. 2017)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.recorded: list[Tensor] | None = None

    def forward(self, x: Tensor, context: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend from (..., q, width) to (..., k, width) where the (..., k) bool mask is True."""
        few_queries = x.ndim == context.ndim == 3 and self.heads * x.shape[-2] <= context.shape[-2]
        if few_queries and self.recorded is None and not self.training and x.shape[0] == 1:
            return self._attend_with_few(x, context, mask)
        key, value = (self._split(part) for part in self.key_value(context).chunk(2, -1))
        query = self._split(self.query(x)).expand(*key.shape[:-2], -1, -1)
        bias = None if mask is None else mask[..., None, None, :]
        if self.recorded is None:
            mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        else:
            weights = attention_weights(query, key, bias).detach().requires_grad_()
            self.recorded.append(weights)
            mixed = weights @ value
        return self.out(mixed.transpose(-2, -3).flatten(-2))  # type: ignore[no-any-return]

    def _attend_with_few(self, x: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        """Attend with few queries, (1, q, width), to many tokens, (n, k, width).

        q . (K y) = (K^T q) . y, so no keys and values are computed, which for the words of one text
        and many images is most of the work. The softmax cancels the bias of the keys, a constant
        for each query. One large product is several times faster here than many small ones.
        """
        width, depth = context.shape[-1], context.shape[-1] // self.heads
        to_key, to_value = self.key_value.weight.view(2, self.heads, depth, width)
        bias = self.key_value.bias[width:].view(self.heads, 1, depth)
        folded = (self._split(self.query(x))[0] @ to_key).flatten(0, 1) / math.sqrt(depth)
        count, queries = len(context), x.shape[1]
        scores = (context.reshape(-1, width) @ folded.T).view(count, -1, len(folded))
        if mask is not None:
            scores = scores.masked_fill(~mask[..., None], -torch.inf)
        mixed = scores.softmax(1).transpose(1, 2) @ context
        by_head = mixed.view(count, self.heads, queries, width).transpose(0, 1).flatten(1, 2)
        values = by_head @ to_value.transpose(1, 2) + bias
        joined = values.view(self.heads, count, queries, depth).permute(1, 2, 0, 3).flatten(2)
        return self.out(joined)  # type: ignore[no-any-return]

    def _split(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:-1], self.heads, x.shape[-1] // self.heads).transpose(-2, -3)


class FeedForward(nn.Module):
    """Pre-norm two-layer perceptron with a residual."""

    def __init__(self, config: CrossAttentionConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.width)
        self.up = nn.Linear(config.width, config.feed_forward * config.width)
        self.down = nn.Linear(config.feed_forward * config.width, config.width)
        self.dropout = config.dropout / 2

    def forward(self, x: Tensor) -> Tensor:
        """Transform (..., width)."""
        inner = self.down(F.gelu(self.up(self.norm(x))))
        return x + F.dropout(inner, self.dropout, self.training)


class SelfAttentionLayer(nn.Module):
    """Pre-norm transformer layer over the tokens of one side, or of both."""

    def __init__(self, config: CrossAttentionConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.width)
        self.attention = Attention(config.width, config.heads)
        self.feed_forward = FeedForward(config) if config.feed_forward else nn.Identity()
        self.dropout = config.dropout / 2

    def forward(self, x: Tensor, mask: Tensor | None = None, first: int | None = None) -> Tensor:
        """Transform (n, t, width) under an (n, t) bool mask.

        first: compute the first tokens only, (n, first, width), which attend to all.
        """
        normed = self.norm(x)
        mixed = self.attention(normed[:, :first], normed, mask)
        mixed = x[:, :first] + F.dropout(mixed, self.dropout, self.training)
        return self.feed_forward(mixed)  # type: ignore[no-any-return]


class Stem(nn.Module):
    """Layers of one side: projection to the model's width, positions, self-attention."""

    def __init__(
        self, config: CrossAttentionConfig, channels: int, layers: int, positions: int
    ) -> None:
        super().__init__()
        self.dropout = config.dropout
        self.norm = nn.LayerNorm(channels)
        self.project = nn.Linear(channels, config.width)
        self.positions = nn.Parameter(torch.zeros(positions, config.width)) if positions else None
        self.layers = nn.ModuleList(SelfAttentionLayer(config) for _ in range(layers))

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Embed (n, t, channels) -> (n, t, width)."""
        x = self.project(F.dropout(self.norm(tokens), self.dropout, self.training))
        if self.positions is not None:
            x = x + self.positions
        for layer in self.layers:
            x = layer(x, mask)
        return x  # type: ignore[no-any-return]


class Readout(nn.Module):
    """Perceptron from a vector of a pair to a logit, initialised to zero."""

    def __init__(self, channels: int, config: CrossAttentionConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.hidden = nn.Linear(channels, config.width)
        self.out = nn.Linear(config.width, 1)
        self.dropout = config.dropout
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., channels) to (...)."""
        hidden = F.dropout(F.gelu(self.hidden(self.norm(x))), self.dropout, self.training)
        return self.out(hidden)[..., 0]  # type: ignore[no-any-return]


def pool(x: Tensor, score: Tensor, mask: Tensor | None) -> Tensor:
    """Pool (n, t, c) to (n, c) by a softmax over the (n, t, 1) scores."""
    if mask is not None:
        score = score.masked_fill(~mask[..., None], -torch.inf)
    return (score.softmax(1) * x).sum(1)

"""Cross-attention model: tokens of texts and images in, match logits out.

Two streams as in LXMERT (Tan and Bansal 2019) and co-attention (Lu et al. 2019): self-attention
layers for each side, then blocks in which the text attends to the image and the image to the text.
Everything that depends on one side alone is computed once per text and once per image, not once per
pair. Texts are packed, so padding costs nothing.
"""

import math
from dataclasses import dataclass
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retrieval.errors import UsageError, require_at_least, require_share
from retrieval.rerankers.ood import MahalanobisTrust

SUMMARY_QUERIES = 4
SUMMARY_WIDTH = 512

Kind = Literal["cross", "concat", "gated", "bilinear"]


@dataclass(frozen=True)
class CrossAttentionConfig:
    """Hyperparameters of a cross-attention model.

    image_width, text_width: channels of the input tokens. image_positions: length of the learned
    position table, 0 for none. kind: how text and image interact; all but `cross` pool each side
    first (`PooledScorer`). width, heads: channels and attention heads of every layer.
    feed_forward: hidden width of perceptrons as a multiple of `width`, 0 for none. depth: number
    of cross-attention blocks. text_layers, image_layers: self-attention layers before them.
    co_attention: whether images also attend to texts, between the blocks. dropout: dropout rate.
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
        if self.kind not in ("cross", "concat", "gated", "bilinear"):
            raise UsageError(f"kind must be cross, concat, gated or bilinear, not {self.kind!r}.")


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
    """Pre-norm transformer layer over the tokens of one side."""

    def __init__(self, config: CrossAttentionConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.width)
        self.attention = Attention(config.width, config.heads)
        self.feed_forward = FeedForward(config) if config.feed_forward else nn.Identity()
        self.dropout = config.dropout / 2

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Transform (n, t, width) under an (n, t) bool mask."""
        normed = self.norm(x)
        mixed = self.attention(normed, normed, mask)
        mixed = x + F.dropout(mixed, self.dropout, self.training)
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


@dataclass
class Packed:
    """The tokens of m texts, concatenated without padding.

    values: (1, s, width), shared by all images, or (n, s, width), one set per image. mask: (m, t)
    bool, the positions of the s tokens before packing.
    """

    values: Tensor
    mask: Tensor

    @property
    def sums(self) -> Tensor:
        """One-hot text of each token, (s, m): `x @ sums` adds up the tokens of each text."""
        texts = torch.arange(len(self.mask), device=self.mask.device)
        owner = texts[:, None].expand_as(self.mask)[self.mask]
        return F.one_hot(owner, len(self.mask)).to(self.values.dtype)

    def unpack(self, packed: Tensor) -> Tensor:
        """Pad (n, s, c) to (n, m, t, c) with zeros."""
        shape = (len(packed), *self.mask.shape, packed.shape[-1])
        padded = packed.new_zeros(shape)
        padded[:, self.mask] = packed
        return padded


class CrossBlock(nn.Module):
    """Text attends to itself, then to the image; the image attends to the text.

    The first block skips the self-attention of the text, which the stem has done. The last block
    does not update the image, which nothing reads afterwards.
    """

    def __init__(self, config: CrossAttentionConfig, *, first: bool, last: bool) -> None:
        super().__init__()
        self.dropout = config.dropout / 2
        self.text_self = None if first else SelfAttentionLayer(config)
        self.text_norm = nn.LayerNorm(config.width)
        self.image_norm = nn.LayerNorm(config.width)
        self.to_image = Attention(config.width, config.heads)
        # Without perceptrons only the attention output of the last block is read.
        self.is_read_out = last and not config.feed_forward
        self.feed_forward = FeedForward(config) if config.feed_forward else nn.Identity()
        self.to_text: Attention | None = None
        if config.co_attention and not last:
            self.to_text = Attention(config.width, config.heads)
            self.own_norm = nn.LayerNorm(config.width)
            self.seen_norm = nn.LayerNorm(config.width)
            self.image_feed_forward = FeedForward(config) if config.feed_forward else nn.Identity()

    def forward(
        self, texts: Packed, images: Tensor, image_mask: Tensor | None
    ) -> tuple[Packed, Tensor, Tensor]:
        """Run the block.

        Args:
            texts: s tokens of m texts.
            images: (n, t, width), or (n, m, t, width) once images have attended to texts.
            image_mask: (n, t) bool.

        Returns:
            The new texts, the new images, and the attention output of each text token, (n, s,
            width).
        """
        x = texts.values
        if self.text_self is not None:
            padded = texts.unpack(x).flatten(0, 1)
            mixed = self.text_self(padded, texts.mask.repeat(len(x), 1))
            x = mixed.view(len(x), *texts.mask.shape, x.shape[-1])[:, texts.mask]
        seen = self.image_norm(images)
        if images.ndim == 3:
            context = self.to_image(self.text_norm(x), seen, image_mask)
        else:
            each = texts.unpack(self.text_norm(x).expand(len(images), -1, -1))
            mask = None if image_mask is None else image_mask[:, None]
            context = self.to_image(each, seen, mask)[:, texts.mask]
        if self.is_read_out:
            return texts, images, context
        x = self.feed_forward(x + F.dropout(context, self.dropout, self.training))
        new = Packed(x, texts.mask)
        if self.to_text is not None:
            images = self._update_images(new, images)
        return new, images, context

    def _update_images(self, texts: Packed, images: Tensor) -> Tensor:
        assert self.to_text is not None
        if images.ndim == 3:
            images = images[:, None].expand(-1, len(texts.mask), -1, -1)
        padded = texts.unpack(self.seen_norm(texts.values))
        mixed = self.to_text(self.own_norm(images), padded, texts.mask)
        mixed = F.dropout(mixed, self.dropout, self.training)
        return self.image_feed_forward(images + mixed)  # type: ignore[no-any-return]


class Summary(nn.Module):
    """Unit vector of one side, pooled by attention with several learned queries."""

    def __init__(self, config: CrossAttentionConfig) -> None:
        super().__init__()
        self.dropout = config.dropout
        self.norm = nn.LayerNorm(config.width)
        self.score = nn.Linear(config.width, SUMMARY_QUERIES)
        self.out = nn.Linear(SUMMARY_QUERIES * config.width, SUMMARY_WIDTH)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Pool (n, t, width) under an (n, t) bool mask to (n, 512), unit L2 norm."""
        x = self.norm(x)
        score = self.score(x)
        if mask is not None:
            score = score.masked_fill(~mask[..., None], -torch.inf)
        pooled = (score.softmax(1).transpose(1, 2) @ x).flatten(1)
        return F.normalize(self.out(F.dropout(pooled, self.dropout, self.training)), dim=1)


class CrossAttentionScorer(nn.Module):
    """Cross-attention blocks, read out by comparing each word with its attention output.

    The logit is scale * sum_i w_i cos(a_i, b_i), with a_i the text token before the last
    cross-attention, b_i its attention output over the image and w a softmax over the text tokens
    (Lee et al. 2018, SCAN, with learned weights), plus the scaled cosine of both summaries, plus,
    if `feed_forward` is not 0, a perceptron over the pooled tokens of the last block.
    """

    def __init__(self, config: CrossAttentionConfig) -> None:
        super().__init__()
        last = config.depth - 1
        self.blocks = nn.ModuleList(
            CrossBlock(config, first=i == 0, last=i == last) for i in range(config.depth)
        )
        self.importance_norm = nn.LayerNorm(config.width)
        self.importance = nn.Linear(config.width, 1)
        self.word = nn.Linear(config.width, config.width)
        self.log_scale = nn.Parameter(torch.tensor(math.log(10.0)))
        self.bias = nn.Parameter(torch.tensor(0.0))
        self.text_summary = Summary(config)
        self.image_summary = Summary(config)
        self.log_summary_scale = nn.Parameter(torch.tensor(math.log(10.0)))
        self.pooled = _Readout(config.width, config) if config.feed_forward else None

    @property
    def text_to_image(self) -> list[Attention]:
        """Return the attention of texts over images, one a block."""
        return [cast("CrossBlock", block).to_image for block in self.blocks]

    def forward(
        self, texts: Tensor, mask: Tensor, images: Tensor, image_mask: Tensor | None
    ) -> Tensor:
        """Compute the match logits of all pairs, (n, m)."""
        packed = Packed(texts[mask][None], mask)
        sums = packed.sums
        importance = self.importance(self.importance_norm(texts))[..., 0]
        weights = importance.masked_fill(~mask, -torch.inf).softmax(1)[mask]
        summaries = self.image_summary(images, image_mask) @ self.text_summary(texts, mask).T
        before = packed
        context = images
        for block in self.blocks:
            before = packed
            packed, images, context = block(packed, images, image_mask)
        words = F.normalize(self.word(before.values), dim=-1)
        # The cosine without a normalised copy of `context`, the largest tensor here.
        lengths = context.norm(dim=-1).clamp(min=1e-6)
        agreement = (words * context).sum(-1) / lengths * weights
        logits = self.log_scale.exp() * (agreement @ sums) + self.bias
        logits = logits + self.log_summary_scale.exp() * summaries
        if self.pooled is not None:
            pooled = (sums * weights[:, None]).T @ packed.values
            logits = logits + self.pooled(pooled)
        return logits  # type: ignore[no-any-return]


class PooledScorer(nn.Module):
    """Baselines without cross-attention: each side is first pooled by attention to one vector.

    concat: [t; v]. gated: g * tanh(W t) + (1 - g) * tanh(V v), g = sigmoid(G [t; v]) (Arevalo et
    al. 2017). bilinear: (W t) * (V v), a bilinear form of low rank (Kim et al. 2017).
    """

    def __init__(self, config: CrossAttentionConfig) -> None:
        super().__init__()
        width = config.width
        self.kind = config.kind
        self.text_score = nn.Linear(width, 1)
        self.image_score = nn.Linear(width, 1)
        self.text = nn.Linear(width, width)
        self.image = nn.Linear(width, width)
        self.gate = nn.Linear(2 * width, width) if config.kind == "gated" else None
        self.readout = _Readout(2 * width if config.kind == "concat" else width, config)
        nn.init.normal_(self.readout.out.weight, std=0.02)

    def forward(
        self, texts: Tensor, mask: Tensor, images: Tensor, image_mask: Tensor | None
    ) -> Tensor:
        """Compute the match logits of all pairs, (n, m)."""
        text = _pool(texts, self.text_score(texts), mask)[None]
        image = _pool(images, self.image_score(images), image_mask)[:, None]
        pairs = (len(images), len(texts), -1)
        if self.kind == "bilinear":
            fused = self.text(text) * self.image(image)
        elif self.gate is not None:
            share = self.gate(torch.cat([text.expand(pairs), image.expand(pairs)], -1)).sigmoid()
            fused = share * self.text(text).tanh() + (1 - share) * self.image(image).tanh()
        else:
            fused = torch.cat([self.text(text).expand(pairs), self.image(image).expand(pairs)], -1)
        return self.readout(fused)  # type: ignore[no-any-return]


class _Readout(nn.Module):
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


def _pool(x: Tensor, score: Tensor, mask: Tensor | None) -> Tensor:
    """Pool (n, t, c) to (n, c) by a softmax over the (n, t, 1) scores."""
    if mask is not None:
        score = score.masked_fill(~mask[..., None], -torch.inf)
    return (score.softmax(1) * x).sum(1)


_FILE_NAMES = {
    "scorer": "fusion",
    "text_trust": "text_familiarity",
    "image_trust": "image_familiarity",
    "full_trust_distance": "near",
    "zero_trust_distance": "far",
}
"""Names of modules and buffers in weight files and checkpoints, kept from the first version."""


def _use_file_names(_module: nn.Module, state: dict[str, Tensor], *_: object) -> None:
    _rename(state, _FILE_NAMES)


def _use_attribute_names(_module: nn.Module, state: dict[str, Tensor], *_: object) -> None:
    _rename(state, {there: here for here, there in _FILE_NAMES.items()})


def _rename(state: dict[str, Tensor], names: dict[str, str]) -> None:
    for key in list(state):
        state[".".join(names.get(part, part) for part in key.split("."))] = state.pop(key)


class CrossAttentionModel(nn.Module):
    """Score all pairs of texts and images from the tokens of both towers."""

    def __init__(self, config: CrossAttentionConfig) -> None:
        super().__init__()
        self.config = config
        self.image_stem = Stem(
            config, config.image_width, config.image_layers, config.image_positions
        )
        self.text_stem = Stem(config, config.text_width, config.text_layers, 0)
        self.scorer: CrossAttentionScorer | PooledScorer = (
            CrossAttentionScorer(config) if config.kind == "cross" else PooledScorer(config)
        )
        self.text_trust = MahalanobisTrust(config.width)
        self.image_trust = MahalanobisTrust(config.width)
        self.register_state_dict_post_hook(_use_file_names)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_use_attribute_names)  # type: ignore[no-untyped-call]

    def embed_images(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Embed images, independently of any text: (n, t, image_width) -> (n, t, width)."""
        return self.image_stem(tokens, mask)  # type: ignore[no-any-return]

    def embed_texts(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Embed texts, independently of any image: (m, t, text_width) -> (m, t, width)."""
        return self.text_stem(tokens, mask)  # type: ignore[no-any-return]

    def match(
        self, texts: Tensor, text_mask: Tensor, images: Tensor, image_mask: Tensor | None = None
    ) -> Tensor:
        """Compute the match logits of all pairs of embedded texts and images, (n, m).

        Args:
            texts: (m, t, width).
            text_mask: (m, t) bool, at least one True a row.
            images: (n, u, width).
            image_mask: (n, u) bool, at least one True a row; None: all tokens are present.
        """
        return self.scorer(texts, text_mask, images, image_mask)  # type: ignore[no-any-return]

    def forward(
        self,
        text_tokens: Tensor,
        text_mask: Tensor,
        image_tokens: Tensor,
        image_mask: Tensor | None = None,
    ) -> Tensor:
        """Embed texts and images and compute the match logits of all pairs, (n, m).

        Args:
            text_tokens: (n, t, c) float.
            text_mask: (n, t) bool, True for tokens.
            image_tokens: (m, p, c) float.
            image_mask: (m, p) bool, True for tokens to attend to; None: all.
        """
        texts = self.embed_texts(text_tokens, text_mask)
        return self.match(texts, text_mask, self.embed_images(image_tokens, image_mask), image_mask)

    def attribution(self, text: Tensor, image: Tensor) -> Tensor:
        """Attribute the match of one pair to pairs of tokens, (t, u), not negative.

        Attention times the gradient of the logit with respect to it, where positive, averaged over
        heads and summed over blocks (Chefer et al. 2021). text: (t, width), image: (u, width),
        both embedded, without padding.

        Raises UsageError for a model that pools both sides, which has no cross-attention.
        """
        if not isinstance(self.scorer, CrossAttentionScorer):
            raise UsageError(
                "Only a model of kind `cross` has cross-attention to explain a match with."
            )
        layers = self.scorer.text_to_image
        recorded: list[Tensor] = []
        mask = torch.ones(1, len(text), dtype=torch.bool, device=text.device)
        try:
            for layer in layers:
                layer.recorded = recorded
            with torch.enable_grad():
                logit = self.match(text[None], mask, image[None]).sum()
            gradients = torch.autograd.grad(logit, recorded)
        finally:
            for layer in layers:
                layer.recorded = None
        raised = [
            (weights.detach() * gradient).clamp(min=0).mean(-3).flatten(0, -2)
            for weights, gradient in zip(recorded, gradients, strict=True)
        ]
        return torch.stack(raised).sum(0)

"""Cross-attention model: tokens of texts and images in, match logits out.

Two streams as in LXMERT (Tan and Bansal 2019) and co-attention (Lu et al. 2019): self-attention
layers for each side, then blocks in which the text attends to the image and the image to the text.
Everything that depends on one side alone is computed once per text and once per image, not once per
pair. Texts are packed, so padding costs nothing.

The model of every other kind differs in the scorer alone: `SingleStreamScorer`, `PooledScorer`.
"""

import math
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retrieval.errors import UsageError
from retrieval.rerankers.layers import (
    Attention,
    CrossAttentionConfig,
    FeedForward,
    Readout,
    SelfAttentionLayer,
    Stem,
)
from retrieval.rerankers.ood import MahalanobisTrust
from retrieval.rerankers.pooled import PooledScorer
from retrieval.rerankers.single_stream import SingleStreamScorer

SUMMARY_QUERIES = 4
SUMMARY_WIDTH = 512


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

    def fuse(
        self, texts: Tensor, mask: Tensor, images: Tensor, image_mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Run the block over n pairs, (n, t, width) with (n, u, width); the new states of both.

        Where nothing but the attention output of the text is read out, it is added to the text.
        """
        x = texts if self.text_self is None else self.text_self(texts, mask)
        context = self.to_image(self.text_norm(x), self.image_norm(images), image_mask)
        x = self.feed_forward(x + F.dropout(context, self.dropout, self.training))
        if self.to_text is not None:
            mixed = self.to_text(self.own_norm(images), self.seen_norm(x), mask)
            mixed = F.dropout(mixed, self.dropout, self.training)
            images = self.image_feed_forward(images + mixed)
        return x, images

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
        self.pooled = Readout(config.width, config) if config.feed_forward else None

    @property
    def attentions(self) -> list[Attention]:
        """Return the attention of texts over images, one a block."""
        return [cast("CrossBlock", block).to_image for block in self.blocks]

    def fuse(
        self, texts: Tensor, mask: Tensor, images: Tensor, image_mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Compute the last states of n pairs: (n, t, width) of words, (n, u, width) of patches."""
        for block in self.blocks:
            texts, images = cast("CrossBlock", block).fuse(texts, mask, images, image_mask)
        return texts, images

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
        self.scorer: CrossAttentionScorer | SingleStreamScorer | PooledScorer
        match config.kind:
            case "cross":
                self.scorer = CrossAttentionScorer(config)
            case "single-stream":
                self.scorer = SingleStreamScorer(config)
            case _:
                self.scorer = PooledScorer(config)
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

    def fuse(
        self, texts: Tensor, text_mask: Tensor, images: Tensor, image_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Compute the last states of n embedded pairs, text i with image i.

        Args:
            texts: (n, t, width).
            text_mask: (n, t) bool, at least one True a row.
            images: (n, u, width).
            image_mask: (n, u) bool; None: all tokens are present.

        Returns:
            Words that have seen the image, (n, t, width), and patches, (n, u, width), which have
            seen the text but in a model of kind `cross` and depth 1.

        Raises:
            UsageError: the model pools both sides, so that their tokens never meet.
        """
        return self._joint_scorer("fuse tokens").fuse(texts, text_mask, images, image_mask)

    def _joint_scorer(self, what: str) -> CrossAttentionScorer | SingleStreamScorer:
        if isinstance(self.scorer, PooledScorer):
            raise UsageError(
                "Only a model of kind `cross` or `single-stream` has attention between text and "
                f"image to {what} with."
            )
        return self.scorer

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
        heads and summed over blocks (Chefer et al. 2021); of a single stream, that of words over
        patches in every layer. text: (t, width), image: (u, width), both embedded, without padding.

        Raises UsageError for a model that pools both sides, which has no such attention.
        """
        layers = self._joint_scorer("explain a match").attentions
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
            (weights.detach() * gradient)
            .clamp(min=0)
            .mean(-3)
            .flatten(0, -2)[: len(text), -len(image) :]
            for weights, gradient in zip(recorded, gradients, strict=True)
        ]
        return torch.stack(raised).sum(0)

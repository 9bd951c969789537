"""Single-stream reranker: one transformer over the words of a text and the patches of an image.

UNITER (Chen et al. 2020) and ViLT (Kim et al. 2021): the tokens of both sides become one sequence,
in which every token attends to every other from the first layer on.
"""

import torch
from torch import Tensor, nn

from retrieval.rerankers.layers import (
    Attention,
    CrossAttentionConfig,
    Readout,
    SelfAttentionLayer,
    pool,
)

_PAIRS_AT_ONCE = 256
_LONGEST_PERIOD = 10_000.0


class SingleStreamScorer(nn.Module):
    """Layers over [words; patches], read out by a perceptron over the pooled words.

    x = [e_i + a p(i) + m_0; v_j + m_1], with e and v the embedded tokens of both sides (v has its
    learned position already), p the sinusoids of Vaswani et al. 2017, a a learned scale, and m the
    embeddings of the two modalities. After `depth` layers h of self-attention over x, the logit is
    MLP(sum_i w_i h_i) over the words i, w a softmax of learned scores. The last layer computes the
    words only, which attend to everything.

    Everything here depends on the pair: n candidates cost n sequences, which is the price of the
    single stream.
    """

    def __init__(self, config: CrossAttentionConfig) -> None:
        super().__init__()
        self.modalities = nn.Parameter(0.02 * torch.randn(2, config.width))
        self.position_scale = nn.Parameter(torch.tensor(0.1))
        self.layers = nn.ModuleList(SelfAttentionLayer(config) for _ in range(config.depth))
        self.word_score = nn.Linear(config.width, 1)
        self.readout = Readout(config.width, config)
        nn.init.normal_(self.readout.out.weight, std=0.02)

    @property
    def attentions(self) -> list[Attention]:
        """Return the attention of every layer, the words first in its rows and columns."""
        return [layer.attention for layer in self.layers]  # type: ignore[misc]

    def forward(
        self, texts: Tensor, mask: Tensor, images: Tensor, image_mask: Tensor | None
    ) -> Tensor:
        """Compute the match logits of all pairs, (n, m)."""
        count = len(images)
        if not count or not len(texts):
            return texts.new_zeros(count, len(texts))
        logits = []
        at_once = max(1, _PAIRS_AT_ONCE // count)
        for some, present in zip(texts.split(at_once), mask.split(at_once), strict=True):
            # Pairs in the order of the logits: image by image, each with every text.
            kept = present.repeat(count, 1)
            patches = images.repeat_interleave(len(some), 0)
            seen = None if image_mask is None else image_mask.repeat_interleave(len(some), 0)
            x, everything = self._join(some.repeat(count, 1, 1), kept, patches, seen)
            words = self._run(x, everything, some.shape[1])
            pooled = pool(words, self.word_score(words), kept)
            logits.append(self.readout(pooled).view(count, len(some)))
        return torch.cat(logits, 1)

    def fuse(
        self, texts: Tensor, mask: Tensor, images: Tensor, image_mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Compute the last states of n pairs: (n, t, width) of words, (n, u, width) of patches."""
        x, kept = self._join(texts, mask, images, image_mask)
        x = self._run(x, kept, None)
        return x[:, : texts.shape[1]], x[:, texts.shape[1] :]

    def _join(
        self, texts: Tensor, mask: Tensor, images: Tensor, image_mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        words = texts + self.position_scale * sinusoids(texts) + self.modalities[0]
        patches = images + self.modalities[1]
        if image_mask is None:
            image_mask = torch.ones(patches.shape[:2], dtype=torch.bool, device=mask.device)
        return torch.cat([words, patches], 1), torch.cat([mask, image_mask], 1)

    def _run(self, x: Tensor, mask: Tensor, last: int | None) -> Tensor:
        """Apply the layers; of the last one, compute the first `last` tokens only."""
        for number, layer in enumerate(self.layers, start=1):
            x = layer(x, mask, last if number == len(self.layers) else None)
        return x


def sinusoids(like: Tensor) -> Tensor:
    """Compute the positional encoding of (n, t, width), (t, width) (Vaswani et al. 2017).

    Channel 2k of position i is sin(i / 10000^(2k / width)), channel 2k + 1 the cosine of it.
    """
    _, length, width = like.shape
    channels = torch.arange(width, device=like.device)
    rates = _LONGEST_PERIOD ** (-(channels - channels % 2).to(like.dtype) / width)
    angles = torch.arange(length, device=like.device, dtype=like.dtype)[:, None] * rates
    return torch.where(channels % 2 == 0, angles.sin(), angles.cos())

"""Rerankers that pool each side to one vector before the two meet."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retrieval.rerankers.layers import CrossAttentionConfig, Readout, pool


class PooledScorer(nn.Module):
    """Baselines without cross-attention: each side is first pooled by attention to one vector.

    concat: [W t; V v]. gated: g * tanh(W t) + (1 - g) * tanh(V v), g = sigmoid(G [t; v]) (Arevalo
    et al. 2017). bilinear: (W t) * (V v), a bilinear form of low rank (Kim et al. 2017). These are
    read out by a perceptron. cosine: scale * cos(W t, V v) + bias, with nothing else.
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
        if config.kind == "cosine":
            self.log_scale = nn.Parameter(torch.tensor(math.log(10.0)))
            self.bias = nn.Parameter(torch.tensor(0.0))
        else:
            self.readout = Readout(2 * width if config.kind == "concat" else width, config)
            nn.init.normal_(self.readout.out.weight, std=0.02)

    def forward(
        self, texts: Tensor, mask: Tensor, images: Tensor, image_mask: Tensor | None
    ) -> Tensor:
        """Compute the match logits of all pairs, (n, m)."""
        text = pool(texts, self.text_score(texts), mask)
        image = pool(images, self.image_score(images), image_mask)
        if self.kind == "cosine":
            cosines = F.normalize(self.image(image), dim=1) @ F.normalize(self.text(text), dim=1).T
            return self.log_scale.exp() * cosines + self.bias
        text, image = text[None], image[:, None]
        pairs = (len(images), len(texts), -1)
        if self.kind == "bilinear":
            fused = self.text(text) * self.image(image)
        elif self.gate is not None:
            share = self.gate(torch.cat([text.expand(pairs), image.expand(pairs)], -1)).sigmoid()
            fused = share * self.text(text).tanh() + (1 - share) * self.image(image).tanh()
        else:
            fused = torch.cat([self.text(text).expand(pairs), self.image(image).expand(pairs)], -1)
        return self.readout(fused)  # type: ignore[no-any-return]

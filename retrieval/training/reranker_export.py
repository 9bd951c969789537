"""Make the networks of a cross-attention model that ONNX Runtime runs, from its weight file.

For models of one cross-attention block without perceptrons, as the shipped ones are: there the
attention's gradient, which explains a match, has a closed form.
"""

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retrieval.encoders.runtimes.network_folder import write_networks
from retrieval.encoders.runtimes.onnx_files import halved, require_export_packages, to_onnx
from retrieval.errors import UsageError
from retrieval.rerankers.cross_attention import load_model
from retrieval.rerankers.cross_attention_model import CrossAttentionScorer, CrossBlock
from retrieval.rerankers.cross_attention_networks import ONNX_FORMAT
from retrieval.rerankers.layers import CrossAttentionConfig, attention_weights

if TYPE_CHECKING:
    from onnx import ModelProto


def export_reranker(file: Path, output: Path) -> None:
    """Write a cross-attention model as a folder of networks for `CrossAttentionReranker`.

    Args:
        file: Weight file made by `mmsearch train reranker`.
        output: The folder.

    Raises:
        UsageError: the model has another architecture than can be exported.
        EncoderUnavailableError: the file is missing or damaged, or onnx is not installed.
    """
    require_export_packages()
    model, card, digest = load_model(file)
    config, scorer = model.config, model.scorer
    if not isinstance(scorer, CrossAttentionScorer) or config.depth > 1 or config.feed_forward:
        raise UsageError(
            f"{file} cannot be exported: only models of kind `cross` with one block and without "
            "perceptrons can (--kind cross --depth 1 --feed-forward 0). It runs with PyTorch."
        )
    images = config.image_positions or 4
    networks = {
        "embed_images": _stem(model.image_stem, config.image_width, images, config.image_positions),
        "embed_texts": _stem(model.text_stem, config.text_width, 5, 0),
        "match": _match(scorer, config, images),
        "attribution": _attribution(scorer, config),
        "text_trust": _trust(model.text_trust, config.width),
        "image_trust": _trust(model.image_trust, config.width),
    }
    contents = {name: halved(each).SerializeToString() for name, each in networks.items()}
    said = {
        "card": asdict(card),
        "config": asdict(config),
        "sha256": digest,
        "image_centre": model.image_trust.mean.tolist(),
    }
    write_networks(output, ONNX_FORMAT, contents, said)


def _stem(stem: nn.Module, channels: int, tokens: int, positions: int) -> "ModelProto":
    inputs = {"tokens": torch.randn(2, tokens, channels), "mask": _mask(2, tokens)}
    axes = [0] if positions else [0, 1]
    varying = dict.fromkeys([*inputs, "states"], axes)
    return to_onnx(_Embedding(stem), inputs, ["states"], varying)


def _trust(trust: nn.Module, width: int) -> "ModelProto":
    inputs = {"states": torch.randn(2, width)}
    return to_onnx(trust, inputs, ["trust"], {"states": [0], "trust": [0]})


def _match(scorer: CrossAttentionScorer, config: CrossAttentionConfig, images: int) -> "ModelProto":
    inputs = {
        "texts": torch.randn(3, 5, config.width),
        "text_mask": _mask(3, 5),
        "images": torch.randn(2, images, config.width),
        "image_mask": _mask(2, images),
    }
    varying = {name: [0, 1] for name in (*inputs, "logits")}
    return to_onnx(_Match(scorer), inputs, ["logits"], varying)


def _attribution(scorer: CrossAttentionScorer, config: CrossAttentionConfig) -> "ModelProto":
    inputs = {"text": torch.randn(5, config.width), "image": torch.randn(4, config.width)}
    varying = {"text": [0], "image": [0], "raised": [0, 1]}
    return to_onnx(_Attribution(scorer), inputs, ["raised"], varying)


def _mask(count: int, tokens: int) -> Tensor:
    mask = torch.ones(count, tokens, dtype=torch.bool)
    mask[-1, -1] = False
    return mask


class _Embedding(nn.Module):
    """A `Stem`, with zeros for absent tokens: where it has no layers, it does not read the mask."""

    def __init__(self, stem: nn.Module) -> None:
        super().__init__()
        self.stem = stem

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        states: Tensor = self.stem(tokens, mask)
        return states.masked_fill(~mask[..., None], 0.0)


class _Block(nn.Module):
    """What both of the networks below compute with the one block of a scorer."""

    def __init__(self, scorer: CrossAttentionScorer) -> None:
        super().__init__()
        self.scorer = scorer
        self.block = cast("CrossBlock", scorer.blocks[0])
        self.attention = self.block.to_image
        self.heads = self.attention.heads

    def split(self, x: Tensor) -> Tensor:
        """Split (t, width) by heads: (heads, t, width / heads)."""
        return x.view(x.shape[0], self.heads, -1).transpose(0, 1)

    def query(self, texts: Tensor) -> Tensor:
        """Compute queries of (t, width) tokens, (heads, t, width / heads)."""
        return self.split(self.attention.query(self.block.text_norm(texts)))


class _Match(_Block):
    """`CrossAttentionScorer.forward` with padded texts, which have few tokens beside the images.

    No keys and values are computed, as in `Attention` with few queries.
    """

    def forward(self, texts: Tensor, mask: Tensor, images: Tensor, image_mask: Tensor) -> Tensor:
        scorer, attention = self.scorer, self.attention
        width, depth = texts.shape[-1], texts.shape[-1] // self.heads
        importance = scorer.importance(scorer.importance_norm(texts))[..., 0]
        weights = importance.masked_fill(~mask, -torch.inf).softmax(1)
        to_key, to_value = attention.key_value.weight.view(2, self.heads, depth, width)
        bias = attention.key_value.bias[width:].view(self.heads, 1, depth)
        seen = self.block.image_norm(images)
        folded = (self.query(texts.flatten(0, 1)) @ to_key).flatten(0, 1) / math.sqrt(depth)
        scores = seen @ folded.T
        shares = scores.masked_fill(~image_mask[..., None], -torch.inf).softmax(1)
        mixed = (shares.transpose(1, 2) @ seen).unflatten(1, (self.heads, -1))
        values = mixed @ to_value.transpose(1, 2) + bias
        context = attention.out(values.transpose(1, 2).flatten(2))
        words = F.normalize(scorer.word(texts.flatten(0, 1)), dim=-1)
        lengths = context.norm(dim=-1).clamp(min=1e-6)
        cosines = ((words * context).sum(-1) / lengths).unflatten(1, mask.shape)
        agreement = (cosines * weights).sum(2)
        summaries = scorer.image_summary(images, image_mask) @ scorer.text_summary(texts, mask).T
        logits = scorer.log_scale.exp() * agreement + scorer.bias
        return logits + scorer.log_summary_scale.exp() * summaries  # type: ignore[no-any-return]


class _Attribution(_Block):
    """`CrossAttentionModel.attribution`, with the gradient written out.

    The logit depends on the attention of token q by the cosine of its word with the context c that
    it attends to: d cos(w, c) / dc = (w / |w| - cos(w, c) c / |c|) / |c|; and c is linear in it.
    """

    def forward(self, text: Tensor, image: Tensor) -> Tensor:
        scorer, attention = self.scorer, self.attention
        importance = scorer.importance(scorer.importance_norm(text))[..., 0].softmax(0)
        keys, values = attention.key_value(self.block.image_norm(image)).chunk(2, -1)
        value = self.split(values)
        weights = attention_weights(self.query(text), self.split(keys))
        context = attention.out((weights @ value).transpose(0, 1).flatten(1))
        word = F.normalize(scorer.word(text), dim=-1)
        lengths = context.norm(dim=-1, keepdim=True).clamp(min=1e-6)
        unit = context / lengths
        tangent = (word - (word * unit).sum(-1, keepdim=True) * unit) / lengths
        of_context = scorer.log_scale.exp() * importance[:, None] * tangent
        of_mixed = self.split(of_context @ attention.out.weight)
        gradient = of_mixed @ value.transpose(1, 2)
        return (weights * gradient).clamp(min=0).mean(0)

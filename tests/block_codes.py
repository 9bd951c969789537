"""Texts drawn into pictures as blocks, and a recogniser that reads them off the pixels."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from retrieval.recognition.base import Recognized, Segment, Task

_CELL, _CELLS = 8, 32
_MARK = (255, 0, 0)


def draw(text: str, *, size: tuple[int, int] = (320, 200), at: tuple[int, int] = (24, 16)):
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


def save(path: Path, text: str, **how) -> Path:
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

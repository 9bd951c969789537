"""A small captioned dataset whose photos can be told apart, and one cache for all its runs."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from retrieval.encoders.heads import ImageHead, TextHead, save_heads
from retrieval.encoders.starter_inputs import TOKEN_CHANNELS
from retrieval.training.head_data import HeadsTraining
from retrieval.training.rerankers import RerankerTraining

COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 160, 40),
    "blue": (30, 60, 220),
    "yellow": (240, 220, 40),
    "white": (245, 245, 245),
    "black": (12, 12, 12),
}
SHAPES = ("square", "stripe")


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve training and four validation pictures of coloured shapes, two captions each."""
    folder = tmp_path_factory.mktemp("shapes")
    (folder / "images").mkdir()
    random = np.random.default_rng(0)
    lines = []
    for number, (name, colour) in enumerate(COLOURS.items()):
        for shape in SHAPES:
            pixels = random.integers(90, 160, (64, 64, 3), dtype=np.uint8)
            rows = slice(16, 48) if shape == "square" else slice(28, 36)
            columns = slice(16, 48) if shape == "square" else slice(None)
            pixels[rows, columns] = colour
            splits = ("train", "val") if number < 2 else ("train",)
            for split in splits:
                image = f"{name}-{shape}-{split}.png"
                Image.fromarray(pixels).save(folder / "images" / image)
                captions = [f"a {name} {shape}", f"a picture of a {shape} that is {name}"]
                row = {"image": image, "split": split, "en": captions}
                lines.append(json.dumps(row))
    (folder / "captions.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("features")


@pytest.fixture
def heads_config(dataset: Path, cache: Path, tmp_path: Path) -> HeadsTraining:
    """Captions alone, from heads of no use: names of all classes take long to encode."""
    start = tmp_path / "start.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_heads(start, ImageHead(TOKEN_CHANNELS), TextHead(1))
    return HeadsTraining(
        dataset=dataset,
        output=tmp_path / "run",
        cache=cache,
        epochs=2,
        batch_size=6,
        variants=2,
        class_photos=0,
        words=0,
        teacher="",
        start=start,
        averaging=0.5,
    )


@pytest.fixture
def reranker_config(dataset: Path, cache: Path, tmp_path: Path) -> RerankerTraining:
    return RerankerTraining(
        dataset=dataset,
        output=tmp_path / "run",
        cache=cache,
        width=16,
        heads=2,
        epochs=3,
        batch_size=6,
        group_size=3,
        neighbours=4,
        variants=2,
        averaging=0.5,
    )

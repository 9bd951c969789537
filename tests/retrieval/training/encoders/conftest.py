"""Photos whose captions say what they show, for trainers of tiny encoders."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retrieval.training.captions import CaptionedPhoto

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 60, 230), "grey": (128,) * 3}
PLACES = {"left": (0, 0), "right": (0, 16), "above": (0, 0), "below": (16, 0)}


@pytest.fixture(scope="session")
def coloured_photos(tmp_path_factory: pytest.TempPathFactory) -> list[CaptionedPhoto]:
    """Sixteen photos of a coloured half on black noise, with two captions each."""
    folder, random = tmp_path_factory.mktemp("coloured"), np.random.default_rng(0)
    photos = []
    for colour, paint in COLOURS.items():
        for place, (top, left) in PLACES.items():
            pixels = random.integers(0, 30, (32, 32, 3), np.uint8)
            high, wide = (32, 16) if place in {"left", "right"} else (16, 32)
            pixels[top : top + high, left : left + wide] = paint
            path = folder / f"{colour}-{place}.png"
            Image.fromarray(pixels).save(path)
            captions = (f"{colour} {place}", f"the {place} half is {colour}")
            photos.append(CaptionedPhoto(path, captions))
    return photos


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "run"

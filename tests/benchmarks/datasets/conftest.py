from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image


@pytest.fixture
def add_images(tmp_path: Path) -> Callable[..., None]:
    """Writes little JPEGs, each of another colour, under the test's folder."""

    def add(*names: str) -> None:
        for number, name in enumerate(names):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (16, 12), (40 * number % 256, 90, 160)).save(path, "JPEG")

    return add

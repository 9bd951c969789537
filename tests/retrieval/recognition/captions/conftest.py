import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def images():
    """Noise of several sizes: more than a batch of chats."""
    random = np.random.default_rng(0)
    sizes = [(50, 40), (64, 90), (30, 30), (120, 60), (40, 40)]
    return [Image.fromarray(random.integers(0, 256, (*s, 3), dtype=np.uint8)) for s in sizes]

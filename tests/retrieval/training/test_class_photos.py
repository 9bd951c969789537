from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from retrieval.encoders.starter_inputs import resize
from retrieval.encoders.towers import ImageTower
from retrieval.training.class_photos import ClassPainter


@pytest.mark.slow
def test_painted_photos_are_taken_for_their_class(photos: dict[str, Path]) -> None:
    tower = ImageTower()
    plain = tower(np.stack([resize(Image.open(path)) for path in photos.values()]))
    painter = ClassPainter(tower, plain.map.mean((0, 1)))
    classes = torch.arange(0, 1000, 10)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        painted = painter(plain.map[torch.arange(100) % len(photos)], classes)
    assert painted.map.shape == (100, 81, 352)
    assert painted.pooled.shape == (100, 1280)
    assert float((painted.pooled >= 0).float().mean()) == 1
    among_first = (painted.logits.topk(5).indices == classes[:, None]).any(1).float().mean()
    assert float(among_first) > 0.6

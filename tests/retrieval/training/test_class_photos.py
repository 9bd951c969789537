from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from retrieval.encoders.towers import ImageTower, resize
from retrieval.training.class_names import class_names, class_sentences
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


def test_class_names_are_in_the_order_of_the_classifier() -> None:
    names = class_names()
    assert len(names) == 1000
    assert names[0][0] == "tench"
    assert names[967][0] == "espresso"
    assert names[285][0] == "Egyptian cat"


def test_the_first_sentence_of_a_class_is_the_plainest() -> None:
    sentences = class_sentences()
    assert [of_class[0] for of_class in sentences[:2]] == [
        "a photo of a tench",
        "a photo of a goldfish",
    ]

"""The second edition of `starter` with heads of random weights, which are made in seconds."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@dataclass(frozen=True)
class ExportedStarter:
    """Heads, the folder of networks made of them, and photos as they read them."""

    heads: Path
    folder: Path
    pixels: np.ndarray


@pytest.fixture(scope="session")
def exported_starter(tmp_path_factory, photos) -> ExportedStarter:
    """Networks of random heads, and an image network calibrated on scikit-image's photos."""
    import torch

    from retrieval.encoders.heads import ImageHead, TextHead, save_heads
    from retrieval.encoders.starter_inputs import TOKEN_CHANNELS, resize
    from retrieval.training.starter_export import export_starter

    folder = tmp_path_factory.mktemp("starter")
    dataset = folder / "dataset"
    (dataset / "images").mkdir(parents=True)
    rows = [{"image": path.name, "split": "train", "en": [name]} for name, path in photos.items()]
    for path in photos.values():
        (dataset / "images" / path.name).write_bytes(path.read_bytes())
    (dataset / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_heads(folder / "heads", ImageHead(TOKEN_CHANNELS), TextHead(layers=2))
    export_starter(folder / "heads", folder / "networks", dataset=dataset)
    pixels = np.stack([resize(Image.open(path)) for path in photos.values()])
    return ExportedStarter(folder / "heads", folder / "networks", pixels)

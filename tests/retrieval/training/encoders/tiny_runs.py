"""Training runs of tiny encoders on photos whose captions say what they show.

    python tiny_runs.py CHECKPOINT PHOTOS OUTPUT SETTINGS [KILL_AFTER]

trains in a process of its own, or in those of `torchrun`; the process kills itself after a step.
"""

import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from retrieval.training.captions import CaptionedPhoto
from retrieval.training.encoders.distributed import joined_processes
from retrieval.training.encoders.fine_tuning import (
    EncoderResult,
    EncoderTraining,
    train_encoder,
)
from retrieval.training.encoders.models import load_trainable
from retrieval.training.encoders.pairs import PhotoPairs, PhotoSet

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 60, 230), "grey": (128,) * 3}
PLACES = {"left": (0, 0), "right": (0, 16), "above": (0, 0), "below": (16, 0)}


def coloured_photos(folder: Path) -> list[CaptionedPhoto]:
    """Paint sixteen photos of 32 pixels, a coloured half on dark noise, two captions each."""
    random = np.random.default_rng(0)
    photos = []
    for colour, paint in COLOURS.items():
        for place, (top, left) in PLACES.items():
            pixels = random.integers(0, 30, (32, 32, 3), np.uint8)
            high, wide = (32, 16) if place in {"left", "right"} else (16, 32)
            pixels[top : top + high, left : left + wide] = paint
            path = folder / f"{colour}-{place}.png"
            if not path.exists():
                Image.fromarray(pixels).save(path)
            captions = (f"{colour} {place}", f"the {place} half is {colour}")
            photos.append(CaptionedPhoto(path, captions))
    return photos


def run_tiny(
    checkpoint: Path,
    photos: Sequence[CaptionedPhoto],
    output: Path,
    *,
    stop_after: int | None = None,
    on_step: Callable[[], None] = lambda: None,
    on_note: Callable[[str], None] = lambda _: None,
    **settings: Any,
) -> EncoderResult:
    """Train on the photos and validate on them; stop_after: steps before it is stopped."""
    steps = 0

    def on_progress(stage: str, *_: Any) -> None:
        nonlocal steps
        if stage.startswith("epoch"):
            steps += 1
            on_step()

    given = {"epochs": 2, "batch_size": 8, "learning_rate": 1e-3} | settings
    config = EncoderTraining(encoder=f"local-dir:{checkpoint}", output=output, **given)
    with joined_processes("cpu") as processes:
        return train_encoder(
            config,
            load_trainable(config.encoder),
            PhotoPairs([PhotoSet(photos)], seed=config.seed),
            photos,
            processes=processes,
            on_progress=on_progress,
            on_note=on_note,
            should_stop=lambda: steps == stop_after,
        )


def main() -> None:
    """Train as the command line says."""
    checkpoint, folder, output = map(Path, sys.argv[1:4])
    kill_after = [int(each) for each in sys.argv[5:]]
    steps = 0

    def kill() -> None:
        nonlocal steps
        steps += 1
        if steps in kill_after:
            os.kill(os.getpid(), signal.SIGKILL)

    settings = json.loads(sys.argv[4])
    if "cache" in settings:
        settings["cache"] = Path(settings["cache"])
    run_tiny(checkpoint, coloured_photos(folder), output, on_step=kill, **settings)


if __name__ == "__main__":
    main()

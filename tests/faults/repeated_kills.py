"""Indexes a folder again and again, and kills that at random moments; a program of its own.

    python repeated_kills.py FOLDER LIBRARIES KILLS SEED

Makes LIBRARIES/uninterrupted first, then library after library, each killed and resumed until a run
comes to its end, until there were so many kills. Prints how long a run takes, and when in a run
they came. What is loaded is loaded once: each run is a fork.
"""

import json
import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path

import numpy as np
import xxhash
from PIL import Image

from indexer.pipeline import index_sources
from retrieval.encoders.base import Inputs, Pixels, Space, Vectors
from retrieval.library import create_library
from retrieval.media import Modality

DIMENSION = 32


class ProjectingEncoder:
    """Projects pixels at random, and draws texts from their hash: light enough to be forked."""

    space = Space("projection", "seed 0", "8 x 8 pixels, bilinear", DIMENSION)
    modalities = frozenset({Modality.IMAGE, Modality.TEXT})
    context_length = 100
    input_side = 8

    def __init__(self) -> None:
        self._weights = np.random.default_rng(0).standard_normal((8 * 8 * 3, DIMENSION))

    def preprocess(self, image: Image.Image) -> Pixels:
        return np.asarray(image.resize((8, 8), Image.Resampling.BILINEAR), np.float32).ravel()

    def encode(self, modality: Modality, inputs: Inputs) -> Vectors:
        if modality is Modality.IMAGE:
            return self._unit((np.asarray(inputs) / 127.5 - 1) @ self._weights)
        seeds = (xxhash.xxh3_64_intdigest(text.encode()) for text in inputs)
        return self._unit(
            [np.random.default_rng(seed).standard_normal(DIMENSION) for seed in seeds]
        )

    def token_count(self, text: str) -> int:
        return len(text.split())

    @staticmethod
    def _unit(vectors: object) -> Vectors:
        values = np.asarray(vectors, np.float32)
        return values / np.linalg.norm(values, axis=1, keepdims=True)


def start_run(folder: Path, where: Path) -> int:
    """Begin to index in a process of its own; gives its number."""
    if pid := os.fork():
        return pid
    code = 1
    try:
        encoder = ProjectingEncoder()
        library = create_library(where, encoder.space)
        index_sources(library, encoder, [folder], batch_size=16, workers=1)
        code = 0
    except BaseException:  # noqa: BLE001 - the fork must not go on with what its parent has to do
        traceback.print_exc()
    os._exit(code)


def is_killed_after(pid: int, seconds: float) -> bool:
    """Kill a run when its time is over, unless it came to its end; raise if it failed."""
    end = time.monotonic() + seconds
    ended, status = os.waitpid(pid, os.WNOHANG)
    while not ended and time.monotonic() < end:
        time.sleep(0.002)
        ended, status = os.waitpid(pid, os.WNOHANG)
    if not ended:
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if code not in {0, -signal.SIGKILL}:
        raise SystemExit(f"a run failed by itself: {code}")
    return code != 0


def main() -> None:
    folder, libraries, kills, seed = Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:])
    began = time.monotonic()
    is_killed_after(start_run(folder, libraries / "uninterrupted"), 120)
    duration = time.monotonic() - began
    generator = random.Random(seed)
    number, moments = 0, []
    while len(moments) < kills:
        number += 1
        seconds = generator.uniform(0, duration)
        while is_killed_after(start_run(folder, libraries / f"killed {number}"), seconds):
            moments.append(seconds)
            seconds = generator.uniform(0, duration) if len(moments) < kills else 120
    print(json.dumps({"duration": duration, "moments": moments}))


if __name__ == "__main__":
    main()

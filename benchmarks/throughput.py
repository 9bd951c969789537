"""Images a second of the encoder alone and of whole indexing runs, in turn in one process."""

import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from indexer.pipeline import DEFAULT_BATCH_SIZE, index_sources
from indexer.scan import FoundFile, walk
from retrieval.encoders.base import Encoder
from retrieval.errors import UsageError
from retrieval.images import read_image
from retrieval.library import create_library


@dataclass(frozen=True)
class Throughput:
    """Rates in images a second, one of each kind a round, and what came of them.

    `ratio` is the median over the rounds of whole run / encoder alone. `peak_memory_bytes` is the
    largest resident size of this process, the encoder and both kinds of run included.
    """

    images: int
    batch_size: int
    encoder_alone: list[float]
    whole_run: list[float]
    ratio: float
    peak_memory_bytes: int

    @property
    def median_encoder_alone(self) -> float:
        """Median rate of the encoder alone."""
        return statistics.median(self.encoder_alone)

    @property
    def median_whole_run(self) -> float:
        """Median rate of whole runs."""
        return statistics.median(self.whole_run)


def measure_throughput(
    photos: Path,
    encoder: Encoder,
    *,
    limit: int = 1000,
    rounds: int = 3,
    batch_size: int = DEFAULT_BATCH_SIZE,
    on_round: Callable[[int, float, float], None] = lambda *_: None,
) -> Throughput:
    """Compare encoding with indexing on the first `limit` photos below a folder.

    A round encodes all photos batch by batch, timing `encode_images` only, and then indexes the
    same photos into a new library in a temporary folder, timing everything: walk, decode, encode,
    commit. The two follow each other so that both meet the machine in the same state.
    """
    files = [found.path for found in walk(str(photos)) if isinstance(found, FoundFile)][:limit]
    if not files:
        raise UsageError(f"No images found in {photos}.")
    _time_encoder(encoder, files[:batch_size], batch_size)  # first calls allocate and plan
    alone, whole = [], []
    for number in range(rounds):
        alone.append(len(files) / _time_encoder(encoder, files, batch_size))
        with tempfile.TemporaryDirectory(prefix="mmsearch-bench-") as folder:
            chosen = Path(folder, "photos")
            chosen.mkdir()
            for place, file in enumerate(files):
                (chosen / f"{place:07}{Path(file).suffix}").symlink_to(Path(file).absolute())
            library = create_library(Path(folder, "library"), encoder.space)
            summary = index_sources(library, encoder, [chosen], batch_size=batch_size)
            library.close()
        if summary.failed:
            raise UsageError(f"{summary.failed:,} of the photos in {photos} cannot be read.")
        whole.append(summary.images_per_second)
        on_round(number + 1, alone[-1], whole[-1])
    return Throughput(
        images=len(files),
        batch_size=batch_size,
        encoder_alone=alone,
        whole_run=whole,
        ratio=statistics.median(w / a for w, a in zip(whole, alone, strict=True)),
        peak_memory_bytes=_peak_memory_bytes(),
    )


def _time_encoder(encoder: Encoder, files: Sequence[str], batch_size: int) -> float:
    """Seconds that `encode_images` takes over all files; decoding is not counted."""
    seconds = 0.0
    for start in range(0, len(files), batch_size):
        pixels = np.stack(
            [encoder.preprocess(read_image(file)) for file in files[start : start + batch_size]]
        )
        began = time.perf_counter()
        encoder.encode_images(pixels)
        seconds += time.perf_counter() - began
    return seconds


def _peak_memory_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024

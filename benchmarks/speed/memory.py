"""Peak memory of indexing few and many images, each run in a separate process."""

import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.speed.photo_maker import make_many
from benchmarks.speed.processes import peak_bytes, run_measured
from retrieval.errors import MMSearchError
from retrieval.media import Modality

_CHILD = """
import sys
from benchmarks.speed.memory import _index
_index(*sys.argv[1:])
"""


class MeasurementError(MMSearchError):
    """A measured program did not run to its end."""


@dataclass(frozen=True)
class MemoryUse:
    """Time and memory of an indexing run over `images` images.

    process_peak_bytes: peak resident size of the indexing process; exact. all_peak_bytes: with the
    decoder processes, sampled (see `processes.Finished`). second_run_*: of a second run without
    changes. ready_bytes: resident size after the encoder's first batch and before the first image;
    included in the peaks.
    """

    images: int
    seconds: float
    ready_bytes: int
    process_peak_bytes: int
    all_peak_bytes: int | None
    second_run_s: float
    second_run_peak_bytes: int


def measure_memory(
    counts: Sequence[int],
    encoder: str | None = None,
    *,
    device: str = "cpu",
    batch_size: int = 64,
    on_run: Callable[[MemoryUse], None] = lambda _: None,
) -> list[MemoryUse]:
    """Index generated images (160x120) into new libraries, one run per count.

    Args:
        counts: Numbers of images.
        encoder: Encoder of `mmsearch index`. (default: a small open_clip model of random weights,
            fast enough for many images, since only the memory of the pipeline grows with them)
        device: Device of the encoder.
        batch_size: Number of images encoded and committed at once.
        on_run: Called with the result of each run.

    Raises:
        MeasurementError: A run failed.
    """
    results = []
    with tempfile.TemporaryDirectory(prefix="mmsearch-bench-") as folder:
        name = encoder or f"local-dir:{write_tiny_model(Path(folder, 'model'))}"
        for count in counts:
            with tempfile.TemporaryDirectory(dir=folder) as place:
                photos = Path(place, "photos")
                photos.mkdir()
                make_many(photos, count)
                results.append(_measure(Path(place), count, name, device, batch_size))
            on_run(results[-1])
    return results


def write_tiny_model(directory: Path) -> Path:
    """Write a small open_clip model of random weights, for `local-dir:`; returns the directory."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    text = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
    config = {
        "embed_dim": 512,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8},
        "text_cfg": text,
    }
    directory.mkdir()
    (directory / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": config, "preprocess_cfg": {}})
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = open_clip.model.CLIP(**config)
    save_file(model.state_dict(), directory / "open_clip_model.safetensors")
    return directory


def _measure(place: Path, count: int, encoder: str, device: str, batch_size: int) -> MemoryUse:
    reports = []
    peaks = []
    for number in range(2):
        answer = place / f"run-{number}.json"
        finished = run_measured(
            [
                sys.executable,
                "-c",
                _CHILD,
                str(place),
                encoder,
                device,
                str(batch_size),
                str(answer),
            ],
            environment={"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        if finished.exit_code:
            raise MeasurementError(f"Indexing {count:,} images failed:\n{finished.output}")
        reports.append(json.loads(answer.read_text()))
        peaks.append(finished.peak_memory_bytes)
    first, second = reports
    if first["embedded"] != count or second["embedded"]:
        raise MeasurementError(
            f"{first['embedded']:,} and then {second['embedded']:,} images were embedded of {count}"
        )
    return MemoryUse(
        images=count,
        seconds=first["seconds"],
        ready_bytes=first["ready_bytes"],
        process_peak_bytes=first["peak_bytes"],
        all_peak_bytes=peaks[0],
        second_run_s=second["seconds"],
        second_run_peak_bytes=second["peak_bytes"],
    )


def _index(place: str, encoder_name: str, device: str, batch_size: str, answer: str) -> None:
    """Index in this process, and write time and memory to a file."""
    import numpy as np
    from PIL import Image

    from indexer.pipeline import index_sources
    from retrieval.encoders.registry import load_encoder
    from retrieval.library import create_library, library_exists, open_library

    encoder = load_encoder(encoder_name, device)
    pixels = encoder.preprocess(Image.new("RGB", (160, 120)))
    encoder.encode(Modality.IMAGE, np.stack([pixels] * int(batch_size)))
    ready = peak_bytes()
    path = Path(place, "library")
    library = open_library(path) if library_exists(path) else create_library(path, encoder.space)
    try:
        photos = Path(place, "photos")
        summary = index_sources(library, encoder, [photos], batch_size=int(batch_size))
    finally:
        library.close()
    report = {
        "seconds": summary.seconds,
        "embedded": summary.embedded,
        "ready_bytes": ready,
        "peak_bytes": peak_bytes(),
    }
    Path(answer).write_text(json.dumps(report))

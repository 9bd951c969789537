"""Indexing speed: images per second of each stage alone and of whole runs, in turn."""

import os
import resource
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.speed.photo_maker import found_files, make_photos
from benchmarks.speed.processes import peak_bytes
from indexer.decode import read_first
from indexer.decoder_pool import DecoderPool
from indexer.media.base import ReadOptions
from indexer.pipeline import DEFAULT_BATCH_SIZE, default_workers, index_sources
from indexer.scan import FoundFile
from retrieval.catalog import FileEntry, FileUpdate, ItemEntry
from retrieval.encoders.base import REDUCED_TO_SIDES, Encoder, Pixels
from retrieval.errors import UsageError
from retrieval.library import Library, create_library
from retrieval.media import Modality

STAGES = ("decode", "encode", "commit", "whole run")
_BATCHES_HELD = 4
"""Number of preprocessed batches that are reused to measure encoding alone."""


@dataclass
class StageRates:
    """One stage over all rounds: images per second, and CPU seconds per image."""

    rates: list[float] = field(default_factory=list)
    processor_s: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Median of the images per second."""
        return statistics.median(self.rates)


@dataclass(frozen=True)
class Throughput:
    """Result for photos of one size and one encoder. Stages are named as in `STAGES`.

    runtime: what ran the encoder, and in which precision. megapixels: None for the original size.
    workers: number of decoder processes. ratio: median over the rounds of whole run / the slower of
    decode and encode. cores_bound: images per second if no core were ever idle while decoding and
    encoding share them, from the CPU time of the two alone; if it is below both of them, no
    pipeline reaches a ratio of 1 on this machine. peak_memory_bytes: peak resident size of this
    process over all stages.
    """

    encoder: str
    runtime: str
    megapixels: float | None
    images: int
    batch_size: int
    workers: int
    file_bytes: float
    stages: dict[str, StageRates]
    ratio: float
    cores_bound: float
    peak_memory_bytes: int


def measure_throughput(
    photos: Path,
    encoders: Sequence[Encoder],
    *,
    megapixels: float | None = None,
    limit: int = 1000,
    rounds: int = 3,
    batch_size: int = DEFAULT_BATCH_SIZE,
    workers: int | None = None,
    on_stage: Callable[[int, str, float], None] = lambda *_: None,
) -> list[Throughput]:
    """Compare the stages of indexing with whole runs, on the first `limit` photos below a folder.

    A round takes four measurements of each encoder, one after the other, under the same load of the
    machine:

    - decode: the decoder processes read, hash and decode all files, and this process preprocesses
      the images; includes the start of the processes.
    - encode: `Encoder.encode` alone, on preprocessed batches in memory.
    - commit: write rows and catalog of as many images with random vectors, batch by batch.
    - whole run: `index_sources` into a new library, with scanning the folder.

    Args:
        photos: Folder of photos.
        encoders: The encoders, measured in turn in each round; a result each.
        megapixels: Resize the photos first (`photo_maker.make_photos`). (default: original size)
        limit: Maximum number of photos.
        rounds: Number of measurements of each stage.
        batch_size: Number of images encoded and committed at once.
        workers: Number of decoder processes. (default: as for indexing)
        on_stage: Called with round, stage and images per second.

    Raises:
        UsageError: No photos in the folder, or one that cannot be read.
    """
    found = found_files(photos)[:limit]
    if not found:
        raise UsageError(f"No images found in {photos}.")
    with tempfile.TemporaryDirectory(prefix="mmsearch-bench-") as folder:
        chosen = Path(folder, "photos")
        chosen.mkdir()
        if megapixels is None:
            for number, entry in enumerate(found):
                link = chosen / f"{number:07}{Path(entry.path).suffix}"
                link.symlink_to(Path(entry.path).absolute())
        else:
            make_photos([entry.path for entry in found], chosen, megapixels)
        files = found_files(chosen)
        workers = workers or default_workers()
        runs = [_Measurement(each, chosen, files, batch_size, workers) for each in encoders]
        for number in range(1, rounds + 1):
            for stage in STAGES:
                for run in runs:
                    on_stage(number, stage, run.run(stage))
    return [
        Throughput(
            encoder=each.space.encoder,
            runtime=getattr(each, "runtime", ""),
            megapixels=megapixels,
            images=len(files),
            batch_size=batch_size,
            workers=workers,
            file_bytes=statistics.mean(file.size for file in files),
            stages=run.stages,
            ratio=run.ratio,
            cores_bound=run.cores_bound,
            peak_memory_bytes=peak_bytes(),
        )
        for each, run in zip(encoders, runs, strict=True)
    ]


class _Measurement:
    """Files and an encoder, and the stages that are timed on them."""

    def __init__(
        self,
        encoder: Encoder,
        photos: Path,
        files: Sequence[FoundFile],
        batch_size: int,
        workers: int,
    ) -> None:
        self.workers = workers
        self.stages = {stage: StageRates() for stage in STAGES}
        self._encoder = encoder
        self._photos = photos
        self._files = files
        self._batch_size = batch_size
        self._held: list[Pixels] = []
        self._hold_batches()

    def run(self, stage: str) -> float:
        """Measure a stage once; returns images per second."""
        measure = {
            "decode": self._decode_all,
            "encode": self._encode_all,
            "commit": self._commit_all,
            "whole run": self._index,
        }[stage]
        used = _processor_s()
        seconds = measure()
        rates = self.stages[stage]
        rates.rates.append(len(self._files) / seconds)
        rates.processor_s.append((_processor_s() - used) / len(self._files))
        return rates.rates[-1]

    @property
    def ratio(self) -> float:
        """Median over the rounds of whole run / the slower of decode and encode."""
        decode, encode, whole = (
            self.stages[stage].rates for stage in ("decode", "encode", "whole run")
        )
        slower = map(min, decode, encode)
        return statistics.median(rate / least for rate, least in zip(whole, slower, strict=True))

    @property
    def cores_bound(self) -> float:
        """Images per second if no core were ever idle while decoding and encoding share them."""
        used = (self.stages[stage].processor_s for stage in ("decode", "encode"))
        return (os.cpu_count() or 1) / sum(map(statistics.median, used))

    def _hold_batches(self) -> None:
        """Preprocess some batches, and encode one as a warm-up."""
        some = self._files[: _BATCHES_HELD * self._batch_size]
        pixels = list(self._pictures(some))
        for start in range(0, len(pixels), self._batch_size):
            self._held.append(np.stack(pixels[start : start + self._batch_size]))
        self._encoder.encode(Modality.IMAGE, self._held[0])

    def _decode_all(self) -> float:
        began = time.perf_counter()
        for _ in self._pictures(self._files):
            pass
        return time.perf_counter() - began

    def _pictures(self, files: Sequence[FoundFile]) -> Iterator[Pixels]:
        """Yield preprocessed images, decoded in processes and awaited by threads, as in a run."""
        options = ReadOptions(least_side=REDUCED_TO_SIDES * self._encoder.input_side)
        window: deque[Future[Pixels]] = deque()

        def read(file: FoundFile) -> Pixels:
            _, reading = processes.submit(read_first, file.path, frozenset(), options).result()
            if reading is None or reading.pieces[0].modality is not Modality.IMAGE:
                raise UsageError(f"{file.path} is no image.")
            return self._encoder.preprocess(reading.pieces[0].payload)

        with (
            DecoderPool(self.workers) as processes,
            ThreadPoolExecutor(2 * self.workers) as threads,
        ):
            for file in files:
                window.append(threads.submit(read, file))
                if len(window) >= 2 * self._batch_size:
                    yield window.popleft().result()
            while window:
                yield window.popleft().result()

    def _encode_all(self) -> float:
        seconds, left = 0.0, len(self._files)
        for batch in cycle(self._held):
            began = time.perf_counter()
            self._encoder.encode(Modality.IMAGE, batch[:left])
            seconds += time.perf_counter() - began
            left -= len(batch)
            if left <= 0:
                return seconds
        raise AssertionError("there is a batch")

    def _commit_all(self) -> float:
        generator = np.random.default_rng(0)
        vectors = generator.normal(size=(self._batch_size, self._encoder.space.dimension))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        with self._new_library() as library:
            began = time.perf_counter()
            with library.writer():
                for start in range(0, len(self._files), self._batch_size):
                    files = self._files[start : start + self._batch_size]
                    _commit(library, self._encoder, files, vectors[: len(files)], start)
            return time.perf_counter() - began

    def _index(self) -> float:
        with self._new_library() as library:
            began = time.perf_counter()
            summary = index_sources(
                library,
                self._encoder,
                [self._photos],
                batch_size=self._batch_size,
                workers=self.workers,
            )
            seconds = time.perf_counter() - began
        if summary.failed:
            raise UsageError(f"{summary.failed:,} of the photos cannot be read.")
        return seconds

    @contextmanager
    def _new_library(self) -> Iterator[Library]:
        with tempfile.TemporaryDirectory(prefix="mmsearch-bench-") as folder:
            library = create_library(Path(folder, "library"), self._encoder.space)
            try:
                yield library
            finally:
                library.close()


def _commit(
    library: Library,
    encoder: Encoder,
    files: Sequence[FoundFile],
    vectors: NDArray[np.floating],
    first_row: int,
) -> None:
    """Commit a batch in the order of a run: rows first, then the catalog."""
    space = encoder.space
    library.embeddings(space, Modality.IMAGE).write(vectors, first_row)
    updates = [
        FileUpdate(
            FileEntry(file.path, file.kind, file.size, file.mtime_ns, f"{row:032x}"),
            [ItemEntry(Modality.IMAGE, row, width=1, height=1)],
        )
        for row, file in enumerate(files, first_row)
    ]
    with library.catalog.transaction() as transaction:
        transaction.extend_rows(space.id, Modality.IMAGE, first_row, len(files))
        transaction.record_files(space.id, updates)


def _processor_s() -> float:
    """CPU seconds of this process and of its finished child processes."""
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in (
            resource.getrusage(resource.RUSAGE_SELF),
            resource.getrusage(resource.RUSAGE_CHILDREN),
        )
    )

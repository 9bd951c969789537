"""What runs on the machines of a cluster: files are read, and what they gave is encoded.

Steps through files travel as pickles, from and to processes of the same job only.
"""

import os
import pickle
import platform
import resource
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from indexer.decoder_pool import DecoderPool
from indexer.encode import EncodedStep, FileStep, encode_steps, read_steps, ready
from indexer.media.base import ReadOptions
from indexer.scan import FoundFile
from retrieval.encoders.base import Encoder, Space
from retrieval.encoders.trust import VARIABLE, path_of_encoder
from retrieval.errors import MMSearchError, SpaceMismatchError
from retrieval.machine import limit_threads
from retrieval.media import MediaKind
from retrieval.objects.trust import SOURCES

Rows = Mapping[str, Any]
"""Columns of a block: arrays, or lists."""

BATCH_SIZES_CPU = (16, 32)
BATCH_SIZES_GPU = (64, 128, 256, 512)
_AS_GOOD = 0.95
"""A smaller batch is as good from this share of the highest speed on."""
_MEASURED_S = 20.0
"""After which no more files are read for a measurement."""
_WARM_UP = 4
"""Steps that are encoded before the measurement: the first call loads what is loaded late."""


@dataclass(frozen=True)
class FileToRead:
    """A file, the source that it was found in, and the content hashes that spare its reading."""

    found: FoundFile
    source: str
    known: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Task:
    """What all machines are told: how files are read, and in which space they are encoded.

    options: of each source. device: where it is encoded, as torch names it. threads: of an encoder
    on a CPU. trusted: addresses of sources that the user of the job has named. version: of mmsearch
    where the job was started.
    """

    space: Space
    options: Mapping[str, ReadOptions]
    limit_s: float
    device: str = "cpu"
    threads: int = 1
    trusted: tuple[str, ...] = ()
    version: str = field(default_factory=lambda: version("mmsearch"))

    def require_same_version(self) -> None:
        """Raise MMSearchError on a machine with another version."""
        if (here := version("mmsearch")) != self.version:
            raise MMSearchError(
                f"A node of the cluster ({platform.node()}) has mmsearch {here}, and the job "
                f"was started with {self.version}. Install the same version everywhere."
            )


@dataclass(frozen=True)
class NumberedStep:
    """A step through a file, encoded, and its place among the steps of the file, from 0."""

    number: int
    step: EncodedStep


@dataclass(frozen=True)
class Measured:
    """What some files took on one machine, and what they gave.

    paths: of the files. read_s, encode_s: for one step through a file, one thread. batch_size:
    steps that are best encoded at once. memory_bytes: of a process that encodes.
    """

    paths: tuple[str, ...]
    steps: tuple[NumberedStep, ...]
    read_s: float
    encode_s: float
    batch_size: int
    memory_bytes: int


def pack_files(files: Sequence[FileToRead]) -> list[dict[str, bytes]]:
    """Make rows for `read_files`."""
    return [{"file": pickle.dumps(file)} for file in files]


def read_files(rows: Rows, task: Task) -> Iterator[dict[str, list[Any]]]:
    """Read files to their ends, and give a row for each step; a file that fails gives one, too.

    A codec that crashes or hangs costs only its file: a process of its own reads it.
    """
    task.require_same_version()
    pool = _decoders(task)
    for packed in rows["file"]:
        file: FileToRead = pickle.loads(packed)
        steps = read_steps(pool, file.found, task.options[file.source], file.known)
        for number, step in enumerate(steps):
            yield {"number": [number], "step": [pickle.dumps(step, pickle.HIGHEST_PROTOCOL)]}


class Encoding:
    """Encodes steps; one on each GPU, or with some CPUs of its own."""

    def __init__(self, task: Task) -> None:
        task.require_same_version()
        self._encoder = _load(task)

    def __call__(self, rows: Rows) -> dict[str, list[bytes]]:
        """Encode a batch of what `read_files` gives."""
        steps = [ready(pickle.loads(step), self._encoder) for step in rows["step"]]
        encoded = encode_steps(self._encoder, steps)
        numbers = [int(number) for number in rows["number"]]
        return {
            "encoded": [
                pickle.dumps(NumberedStep(*pair), pickle.HIGHEST_PROTOCOL)
                for pair in zip(numbers, encoded, strict=True)
            ]
        }


def unpack_steps(rows: Rows) -> list[NumberedStep]:
    """Read what `Encoding` gave."""
    return [pickle.loads(encoded) for encoded in rows["encoded"]]


def measure(files: Sequence[FileToRead], task: Task, batch_size: int | None) -> Measured:
    """Read and encode the first files, and say how long both take; batch_size None: find it."""
    task.require_same_version()
    encoder = _load(task)
    pool = _decoders(task)
    steps: list[FileStep] = []
    numbers: list[int] = []
    paths: list[str] = []
    began = time.perf_counter()
    warm_s = 0.0
    for file in files:
        of_file = list(read_steps(pool, file.found, task.options[file.source], file.known))
        steps += of_file
        numbers += range(len(of_file))
        paths.append(file.found.path)
        # The first one waits for its process to start.
        warm_s = warm_s or time.perf_counter() - began
        if time.perf_counter() - began > _MEASURED_S:
            break
    read_s = time.perf_counter() - began - warm_s
    sizes = BATCH_SIZES_CPU if task.device == "cpu" else BATCH_SIZES_GPU
    encoded, best, encode_s = _encode_timed(
        encoder, steps, [batch_size] if batch_size else list(sizes)
    )
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Measured(
        tuple(paths),
        tuple(map(NumberedStep, numbers, encoded)),
        read_s / max(1, len(steps) - 1),
        encode_s,
        best,
        memory * (1 if sys.platform == "darwin" else 1024),
    )


def weight_of(file: FoundFile) -> int:
    """Return how many images a file counts as, when files are shared out to tasks."""
    return 1 if file.kind is MediaKind.IMAGE else 8


def _encode_timed(
    encoder: Encoder, steps: Sequence[FileStep], sizes: list[int]
) -> tuple[list[EncodedStep], int, float]:
    """Encode steps by batches of growing sizes: what they give, the best size, seconds for one.

    A size that does not fit into memory, and those above, are left out.
    """
    encoded: list[EncodedStep] = []
    seconds: dict[int, float] = {}
    left = list(sizes)
    size = _WARM_UP
    while len(encoded) < len(steps):
        batch = [ready(step, encoder) for step in steps[len(encoded) : len(encoded) + size]]
        began = time.perf_counter()
        try:
            encoded += encode_steps(encoder, batch)
        except (MemoryError, RuntimeError):  # of the GPU
            if size <= sizes[0]:
                raise
            left, size = [], sizes[0]
            continue
        if len(batch) == size and size in sizes:
            seconds[size] = (time.perf_counter() - began) / size
        size = left.pop(0) if left else min(size, len(steps))
    if not seconds:
        return encoded, sizes[0], 0.0
    fastest = min(seconds.values())
    best = next(size for size, each in seconds.items() if each <= fastest / _AS_GOOD)
    return encoded, best, seconds[best]


def _load(task: Task) -> Encoder:
    """Load the encoder of the space, whose folder the user of the job trusts."""
    from retrieval.encoders.registry import load_encoder

    path = path_of_encoder(task.space.encoder)
    if path is not None:
        trusted = os.environ.get(VARIABLE, "")
        os.environ[VARIABLE] = os.pathsep.join(filter(None, (trusted, str(path))))
    if task.device == "cpu":
        limit_threads(task.threads)
    encoder = load_encoder(task.space.encoder, task.device, task.space.weights)
    if encoder.space != task.space:
        raise SpaceMismatchError(
            f"The encoder {task.space.encoder} of {platform.node()} makes vectors of another "
            f"space, {encoder.space.id}, than the library has, {task.space.id}."
        )
    return encoder


_pools: dict[float, DecoderPool] = {}


def _decoders(task: Task) -> DecoderPool:
    """Return the process that reads files for this one; started once, it ends with this one."""
    pool = _pools.get(task.limit_s)
    if pool is None:
        for uri in task.trusted:
            SOURCES.add_to_process(uri)
        pool = _pools[task.limit_s] = DecoderPool(1, limit_s=task.limit_s)
    return pool

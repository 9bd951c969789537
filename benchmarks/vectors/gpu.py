"""GPU against CPU: the same index trained and searched on both, on the same machine."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.vectors.measurement import BATCH_WORDS, measure_search
from benchmarks.vectors.workload import MODALITIES, Workload
from retrieval.errors import MMSearchError
from retrieval.indices.base import Effort, VectorIndex
from retrieval.indices.choice import BYTES_PER_ROW, choose
from retrieval.indices.faiss.gpu import gpus
from retrieval.indices.faiss.ivf import FactoryIndex
from retrieval.indices.refine import search_refined
from retrieval.media import Modality

MOST_RECALL_DIFFERENCE = 0.005

_PROBES = (8, 32, 128)
_OVERFETCH = 10
_K = 10


@dataclass(frozen=True)
class Build:
    """Seconds to train an index somewhere and to add all rows, which the CPU does."""

    factory: str
    trained_on: str
    train_s: float
    add_s: float


@dataclass(frozen=True)
class Comparison:
    """One setting on both: recall@10 after refine, and queries a second. batch: at a time."""

    modality: str
    batch: int
    nprobe: int
    cpu_recall: float
    gpu_recall: float
    cpu_speed: float
    gpu_speed: float

    @property
    def ratio(self) -> float:
        """Divide the GPU's speed by the CPU's."""
        return self.gpu_speed / self.cpu_speed


@dataclass(frozen=True)
class GpuResult:
    """All comparisons. cpu_trained: recall of the same index trained on the CPU, by modality."""

    workload: str
    rows: int
    dimension: int
    gpus: int
    builds: tuple[Build, ...]
    comparisons: tuple[Comparison, ...]
    cpu_trained: dict[Modality, float]
    gpu_trained: dict[Modality, float]

    @property
    def largest_difference(self) -> float:
        """Return the largest difference of recall between CPU and GPU, in search or training."""
        searched = [abs(one.cpu_recall - one.gpu_recall) for one in self.comparisons]
        trained = [abs(self.cpu_trained[kind] - self.gpu_trained[kind]) for kind in MODALITIES]
        return max(searched + trained)


def require_gpus(device: str) -> tuple[int, ...]:
    """Numbers of the GPUs that are compared; raises MMSearchError where FAISS sees none."""
    if numbers := gpus(device):
        return numbers
    raise MMSearchError(
        f"FAISS sees no GPU for {device!r} here: there is nothing to compare with the CPU."
    )


def compare_gpu(
    workload: Workload,
    device: str = "cuda",
    *,
    factory: str | None = None,
    seed: int = 0,
    on_step: Callable[[str], None] = lambda _: None,
) -> GpuResult:
    """Train, fill and search the index that a library of this size gets on a GPU, on both.

    Args:
        workload: rows, queries and their true neighbours.
        device: the GPU, as torch names it.
        factory: a FAISS index string; None: the one that a library of this size gets.
        seed: of training.
        on_step: called with a line of text before each step.

    Raises:
        MMSearchError: FAISS sees no such GPU, the GPU failed, or so few rows get no index.
    """
    numbers = require_gpus(device)
    rows = workload.rows
    factory = factory or choose(len(rows), rows.shape[1], BYTES_PER_ROW * len(rows), "cuda").factory
    if factory is None:
        raise MMSearchError(f"{len(rows):,} rows get no index: they are searched exactly.")
    builds, indices = [], {}
    for place in ("cpu", device):
        on_step(f"Building {factory}, trained on {place}")
        began = time.perf_counter()
        index = FactoryIndex(factory, rows, seed=seed, device=place)
        trained = time.perf_counter()
        if index.gpu_problem:
            raise MMSearchError(f"The GPU could not train {factory}: {index.gpu_problem}.")
        index.add(rows)
        builds.append(Build(factory, place, trained - began, time.perf_counter() - trained))
        indices[place] = index
    master = indices[device]
    copy = master.on_device(device)
    queries, truth = workload.queries(), workload.truth()

    def measure(index: VectorIndex, kind: Modality, nprobe: int) -> list[tuple[int, float, float]]:
        effort = Effort(nprobe, _OVERFETCH)
        return measure_search(
            lambda some: search_refined(index, rows, some, _K, effort)[1],
            queries[kind],
            truth[kind],
            _K,
        )

    comparisons = []
    for kind in MODALITIES:
        for nprobe in (n for n in _PROBES if n <= (master.lists or n)):
            on_step(f"Searching, {kind} queries, {nprobe} probes")
            cpu, gpu = (measure(index, kind, nprobe) for index in (master, copy))
            if copy.problem:
                raise MMSearchError(copy.problem)
            comparisons += [
                Comparison(kind, batch, nprobe, cpu_recall, gpu_recall, cpu_speed, gpu_speed)
                for (batch, cpu_recall, cpu_speed), (_, gpu_recall, gpu_speed) in zip(
                    cpu, gpu, strict=True
                )
            ]
    most = max(one.nprobe for one in comparisons)
    recalls = [
        {kind: measure(index, kind, most)[0][1] for kind in MODALITIES}
        for index in (indices["cpu"], master)
    ]
    return GpuResult(
        workload=workload.name,
        rows=len(rows),
        dimension=rows.shape[1],
        gpus=len(numbers),
        builds=tuple(builds),
        comparisons=tuple(comparisons),
        cpu_trained=recalls[0],
        gpu_trained=recalls[1],
    )


def gpu_markdown(result: GpuResult) -> str:
    """Format the comparison as Markdown, with the verdict."""
    lines = [
        f"{result.workload}: {result.rows:,} x {result.dimension}, {result.gpus} GPU"
        f"{'s' if result.gpus > 1 else ''}",
        "",
        "| index | trained on | training, s | adding on the CPU, s |",
        "| --- | --- | ---: | ---: |",
    ]
    lines += [
        f"| {one.factory} | {one.trained_on} | {one.train_s:.1f} | {one.add_s:.1f} |"
        for one in result.builds
    ]
    lines += [
        "",
        "| queries | at a time | probes | recall@10, CPU | GPU | queries a second, CPU | GPU "
        "| GPU / CPU |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {one.modality} | {BATCH_WORDS[one.batch]} | {one.nprobe} | {one.cpu_recall:.4f} | "
        f"{one.gpu_recall:.4f} | {one.cpu_speed:,.0f} | {one.gpu_speed:,.0f} | {one.ratio:.2f} |"
        for one in result.comparisons
    ]
    trained = ", ".join(
        f"{kind} {result.cpu_trained[kind]:.4f} and {result.gpu_trained[kind]:.4f}"
        for kind in MODALITIES
    )
    is_equal = result.largest_difference <= MOST_RECALL_DIFFERENCE
    lines += [
        "",
        f"- Searched on the CPU, trained on the CPU and on the GPU: recall@10 {trained}.",
        f"- The largest difference of recall is {result.largest_difference:.4f}, "
        f"{'within' if is_equal else 'MORE THAN'} {MOST_RECALL_DIFFERENCE:g}.",
    ]
    return "\n".join(lines) + "\n"

"""The Ray Data job: how many read and how many encode, and what comes out of it."""

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

from indexer.cluster.connection import ClusterError, Resources, ray
from indexer.cluster.stages import (
    Encoding,
    FileToRead,
    Measured,
    NumberedStep,
    Task,
    measure,
    pack_files,
    read_files,
    unpack_steps,
    weight_of,
)
from retrieval.errors import MMSearchError

MEASURED_FILES_CPU, MEASURED_FILES_GPU = 56, 1100
"""Files of the measurement: enough for each batch size once."""

_WEIGHT_OF_TASK = 32
"""Images that one task reads, at most; other files count as several."""
_FILES_OF_JOB = 200_000
"""Files of one Ray Data job; more are worked through one job after the other."""
_LEAST_BATCHES = 4
"""That an encoder is started for."""
_SHARE_OF_MEMORY = 0.7
"""Of a node's memory that encoders may take."""
_TELL_AFTER_S = 15.0
_ENCODER_SHARE, _READER_CPUS = 0.93, 0.01
"""What Ray is asked for, of the CPUs that an encoder and a reader use.

Encoders that were on a lost node start again on the others, as many as there is room for. With
whole CPUs they would hold all of them, and wait for ever for files that nobody reads.
"""


@dataclass(frozen=True)
class Plan:
    """How a job uses a cluster, with the reasons in sentences.

    encoders: number of actors, each with some CPUs and, if uses_gpu, a GPU. readers: tasks that
    read files at once, with one CPU each. memory_bytes: of an encoder.
    """

    encoders: int
    cpus_an_encoder: int
    uses_gpu: bool
    readers: int
    batch_size: int
    memory_bytes: int
    reasons: tuple[str, ...]


def plan_job(
    resources: Resources,
    measured: Measured,
    *,
    uses_gpu: bool,
    left: int,
    encoders: int | None = None,
    readers: int | None = None,
) -> Plan:
    """Share out a cluster between reading and encoding, so that neither waits for the other.

    Args:
        resources: of the cluster.
        measured: what the first files took.
        uses_gpu: whether encoders have a GPU each.
        left: number of files that are to be read.
        encoders: number of them; None: by the measurement, or one a GPU.
        readers: files read at once; None: as many as there is room for.

    Raises:
        ClusterError: so many do not fit into the cluster.
    """
    resources.require_enough()
    rates = (
        f"A file is read in {measured.read_s * 1e3:.0f} ms and encoded in "
        f"{measured.encode_s * 1e3:.0f} ms (measured, batches of {measured.batch_size})."
    )
    # One that encodes only few batches would take longer to start than to work.
    useful = max(1, left // (_LEAST_BATCHES * measured.batch_size))
    if uses_gpu:
        wanted = encoders or min(resources.gpus, resources.cpus - 1, useful)
        why = f"One encoder a GPU: {wanted}."
    else:
        share = measured.encode_s / max(1e-9, measured.encode_s + measured.read_s)
        most = max(1, int(resources.memory_bytes * _SHARE_OF_MEMORY) // measured.memory_bytes)
        by_rate = min(resources.cpus - 1, max(1, round(resources.cpus * share)))
        by_rate = min(by_rate, useful)
        wanted = encoders or min(by_rate, most)
        why = f"Of {resources.cpus} CPUs, {wanted} encode; up to {resources.cpus - wanted} read."
    # A cluster whose encoders hold all CPUs waits for ever for files.
    threads = 1
    if not encoders and not uses_gpu and wanted < by_rate:
        threads = max(1, by_rate // wanted)
        why = (
            f"{wanted} encoders of {threads} CPUs each: more do not fit into the memory "
            f"({measured.memory_bytes / 1e6:,.0f} MB each)."
        )
    room = resources.cpus - wanted * threads
    if room < 1 or (uses_gpu and wanted > resources.gpus):
        raise ClusterError(
            f"{wanted} encoders and a process that reads do not fit into a cluster of {resources}: "
            "the job would wait for ever. Ask for fewer with `--encoders`, or add nodes."
        )
    return Plan(
        wanted,
        threads,
        uses_gpu,
        min(readers or room, room),
        measured.batch_size,
        measured.memory_bytes,
        (rates, why),
    )


def measure_first(
    files: Sequence[FileToRead],
    task: Task,
    *,
    uses_gpu: bool,
    batch_size: int | None,
    on_note: Callable[[str], None],
    should_stop: Callable[[], bool],
) -> Measured | None:
    """Read and encode the first files on one node, and measure both; None: it was stopped.

    Raises as the node does.
    """
    module = ray()
    remote = module.remote(num_cpus=1, num_gpus=1 if uses_gpu else 0, max_retries=3)(measure)
    count = MEASURED_FILES_GPU if uses_gpu else MEASURED_FILES_CPU
    reference = remote.remote(list(files[:count]), task, batch_size)
    began = time.monotonic()
    is_told = False
    while not module.wait([reference], timeout=0.5)[0]:
        if should_stop():
            module.cancel(reference, force=True)
            return None
        if not is_told and time.monotonic() - began > _TELL_AFTER_S and _has_no_room(uses_gpu):
            is_told = True
            on_note(
                "The cluster has no free processor for this job at present: others use all of "
                "them. It goes on when one is free; Ctrl-C ends it."
            )
    with errors_explained():
        measured: Measured = module.get(reference)
    return measured


def run(files: Sequence[FileToRead], task: Task, plan: Plan) -> Iterator[list[NumberedStep]]:
    """Read and encode files on the cluster, and give their steps as they are done, in any order.

    Each step is given once, also when nodes are lost: Ray repeats what they had not given.
    """
    for begin in range(0, len(files), _FILES_OF_JOB):
        yield from _run(files[begin : begin + _FILES_OF_JOB], task, plan)


def _run(files: Sequence[FileToRead], task: Task, plan: Plan) -> Iterator[list[NumberedStep]]:
    data: Any = import_module("ray.data")
    context = data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.issue_detectors_config.detectors = []
    total = sum(weight_of(file.found) for file in files)
    tasks = min(len(files), max(plan.readers, -(-total // _WEIGHT_OF_TASK)))
    encoding = replace(task, threads=plan.cpus_an_encoder)
    rows = data.from_items(pack_files(files), override_num_blocks=max(1, tasks))
    steps = rows.map_batches(
        read_files,
        batch_size=None,
        batch_format="numpy",
        fn_kwargs={"task": task},
        num_cpus=_READER_CPUS,
        compute=data.TaskPoolStrategy(size=plan.readers),
    )
    encoded = steps.map_batches(
        Encoding,
        batch_size=plan.batch_size,
        batch_format="numpy",
        fn_constructor_kwargs={"task": encoding},
        num_cpus=plan.cpus_an_encoder * _ENCODER_SHARE,
        num_gpus=1 if plan.uses_gpu else None,
        # Asking for memory also keeps Ray from joining this stage with the one before.
        memory=plan.memory_bytes,
        compute=data.ActorPoolStrategy(size=plan.encoders),
    )
    with errors_explained(), warnings.catch_warnings(action="ignore"):
        for batch in encoded.iter_batches(batch_size=None, batch_format="numpy"):
            yield unpack_steps(batch)


@contextmanager
def errors_explained() -> Iterator[None]:
    """Raise what nodes raised: errors of this project as themselves, others as ClusterError."""
    exceptions = ray().exceptions
    try:
        yield
    except exceptions.RayTaskError as error:
        cause = error.cause if isinstance(error.cause, Exception) else None
        if isinstance(cause, MMSearchError):
            raise cause from error
        if isinstance(cause, ModuleNotFoundError):
            raise ClusterError(
                f"A node of the cluster lacks the module {cause.name}. Install "
                "'mmsearch[cluster]' there, in the version that is used here."
            ) from error
        raise ClusterError(f"A node of the cluster failed: {cause or error}") from error
    except exceptions.RayError as error:
        reason = str(error).strip().splitlines()[0]
        raise ClusterError(
            f"The cluster failed: {reason} What was recorded before is kept; run the same command "
            "again to go on."
        ) from error


def _has_no_room(uses_gpu: bool) -> bool:
    free: dict[str, Any] = ray().available_resources()
    return free.get("CPU", 0) < 1 or (uses_gpu and free.get("GPU", 0) < 1)

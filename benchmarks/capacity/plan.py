"""What a library of a size takes: pure functions from what is wanted to time, bytes and money."""

import math

from benchmarks.capacity.constants import value
from benchmarks.capacity.encoding import (
    dimension_of,
    encoding_of,
    query_core_s,
    text_encoding_of,
)
from benchmarks.capacity.index_cost import build_core_s, faiss_bytes, search_core_s
from benchmarks.capacity.limits import limits_of
from benchmarks.capacity.measurements import Decoding, Encoding, Measurements, decoding_of
from benchmarks.capacity.records import (
    STORED,
    Bytes,
    Cost,
    Fleet,
    Machine,
    Plan,
    Prices,
    Serving,
    Wanted,
    Work,
)
from benchmarks.capacity.storage import (
    VECTOR_VALUE_BYTES,
    array_bytes_per_row,
    bytes_of,
    catalog_bytes,
)
from retrieval.errors import UsageError


def make_plan(
    wanted: Wanted,
    measured: Measurements,
    machine: Machine | None = None,
    prices: Prices | None = None,
) -> Plan:
    """Compute what a library takes.

    Args:
        wanted: the library, and how fast it is to be made and searched.
        measured: rates.
        machine: what one machine has.
        prices: of hours and bytes.

    Raises:
        UsageError: an encoder of unknown cost, or a recall that was not measured.
    """
    machine, prices = machine or Machine(), prices or Prices()
    check_wanted(wanted)
    dimension = wanted.dimension or dimension_of(wanted.encoder)
    image = decoding_of(wanted.megapixels, measured.decoding)
    encoding = encoding_of(wanted.encoder, measured)
    text = text_encoding_of(wanted.encoder, encoding)
    work = _work(wanted, image, encoding, text, measured.commit_core_s)
    fleet = fleet_for(work, wanted, machine)
    ends = limits_of(wanted, dimension, work, machine, measured)
    is_one_machine = not any(limit.is_passed for limit in ends)
    serving = _serving(wanted, dimension, machine, measured, 1 if is_one_machine else 2)
    places = bytes_of(
        wanted, dimension, image, serving, half_of(machine), is_one_machine=is_one_machine
    )
    build = serving.nodes * serving.build_hours * machine.cores
    return Plan(
        wanted=wanted,
        dimension=dimension,
        image=image,
        encoding=encoding,
        work=work,
        fleet=fleet,
        bytes=places,
        serving=serving,
        costs=_costs(
            wanted, work, build, places, serving, machine, prices, has_objects=not is_one_machine
        ),
        limits=ends,
        is_one_machine=is_one_machine,
        build_core_hours=build,
        machine=machine,
        prices=prices,
    )


def check_wanted(wanted: Wanted) -> None:
    """Raise UsageError for a library that cannot be meant."""
    if wanted.rows < 1:
        raise UsageError("Nothing to plan for: give `--images` or `--texts` of at least 1.")
    if wanted.gpus is not None and wanted.machines is None:
        raise UsageError("--gpus needs --machines: both together are what embeds.")


def _work(
    wanted: Wanted, image: Decoding, encoding: Encoding, text: Encoding, commit_core_s: float
) -> tuple[Work, ...]:
    def encoded(name: str, count: int, one: Encoding) -> Work:
        hours = count * one.seconds / 3600
        if one.resource == "gpu":
            return Work(name, gpu_hours=hours)
        return Work(name, core_hours=hours)

    jobs = (
        Work("read and decode images", wanted.images * image.core_s / 3600),
        encoded("encode images", wanted.images, encoding),
        encoded("encode texts", wanted.texts, text),
        Work("record", wanted.rows * commit_core_s / 3600),
    )
    return tuple(job for job in jobs if job.core_hours or job.gpu_hours)


def fleet_for(work: tuple[Work, ...], wanted: Wanted, machine: Machine) -> Fleet:
    """Return the machines that do work in time, or the time that the wanted machines take."""
    core_hours = sum(job.core_hours for job in work)
    gpu_hours = sum(job.gpu_hours for job in work)
    if wanted.machines is None:
        machines = max(1, math.ceil(core_hours / machine.cores / wanted.hours))
        gpus = math.ceil(gpu_hours / wanted.hours)
    else:
        machines = wanted.machines
        gpus = (wanted.gpus or machines) if gpu_hours else 0
    hours = max(core_hours / machine.cores / machines, gpu_hours / gpus if gpus else 0.0)
    return Fleet(machines, gpus, hours)


def half_of(machine: Machine) -> int:
    """Return the bytes of memory that an index may take, and the pages of the vectors."""
    return int(value("index_memory_share") * machine.memory_bytes)


def shards_for(rows: int, dimension: int, machine: Machine, node_bytes: float) -> int:
    """Return the number of machines that hold an index of whole codes, and the files, together."""
    memory = half_of(machine)
    index = faiss_bytes(rows, dimension, memory)
    return max(1, math.ceil(index / memory), math.ceil(node_bytes / machine.disk_bytes))


def _serving(
    wanted: Wanted, dimension: int, machine: Machine, measured: Measurements, fewest: int
) -> Serving:
    vectors = wanted.rows * dimension * VECTOR_VALUE_BYTES
    copy = vectors + catalog_bytes(wanted) + faiss_bytes(wanted.rows, dimension, half_of(machine))
    shards = shards_for(wanted.rows, dimension, machine, copy)
    rows = math.ceil(wanted.rows / shards)
    index = faiss_bytes(rows, dimension, half_of(machine))
    memory = value("process_bytes") + index + rows * array_bytes_per_row()
    cached = min(1.0, max(0.0, machine.memory_bytes - memory) / (vectors / shards))
    reads = value("candidates") * (1 - cached)
    core_s = query_core_s(wanted.encoder) + shards * search_core_s(
        rows, dimension, wanted.recall, measured.vectors
    )
    of_replica = shards * machine.cores * value("utilisation") / core_s
    if reads:
        of_replica = min(of_replica, shards * value("nvme_reads_per_second") / reads)
    replicas = max(fewest, math.ceil(wanted.queries_per_second / of_replica))
    return Serving(
        shards=shards,
        replicas=replicas,
        memory_bytes=memory,
        disk_bytes=copy / shards,
        core_s=core_s,
        reads=reads,
        queries_per_second=replicas * of_replica,
        build_hours=build_core_s(rows, dimension, measured.vectors) / 3600 / machine.cores,
    )


def _costs(
    wanted: Wanted,
    work: tuple[Work, ...],
    build_core_hours: float,
    places: tuple[Bytes, ...],
    serving: Serving,
    machine: Machine,
    prices: Prices,
    *,
    has_objects: bool,
) -> tuple[Cost, ...]:
    once = [
        Cost(
            job.name,
            job.core_hours * prices.core_hour + job.gpu_hours * prices.gpu_hour,
            monthly=False,
        )
        for job in work
    ]
    once.append(Cost("build the indices", build_core_hours * prices.core_hour, monthly=False))
    if has_objects:
        millions = wanted.images / 1e6
        once.append(Cost("requests for originals", millions * prices.million_gets, monthly=False))
        if wanted.thumbnails:
            puts = millions * prices.million_puts
            once.append(Cost("requests that write thumbnails", puts, monthly=False))
    stored = [
        Cost(f"store {one.name}", one.bytes / 1e12 * prices.tb_month, monthly=True)
        for one in places
        if one.place == STORED and one.bytes
    ]
    nodes = serving.nodes * machine.cores * value("hours_per_month") * prices.core_hour
    return (*once, *stored, Cost("query nodes", nodes, monthly=True))

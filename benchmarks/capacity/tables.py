"""Plans as text."""

from collections.abc import Collection, Iterable, Sequence

from benchmarks.capacity.commands import commands_of
from benchmarks.capacity.constants import constants
from benchmarks.capacity.measurements import Measurements
from benchmarks.capacity.records import CACHE, DISK, MEMORY, READ, STORED, Plan, Work
from benchmarks.capacity.storage import index_kinds
from retrieval.indices.choice import EXACT_UP_TO_ROWS

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")


def size_text(count: float) -> str:
    """Format bytes with three digits, in powers of 1,000."""
    unit = 0
    while count >= 999.5 and unit < len(_UNITS) - 1:
        count, unit = count / 1000, unit + 1
    digits = 0 if count >= 99.95 or not unit else 1 if count >= 9.995 else 2
    return f"{count:,.{digits}f} {_UNITS[unit]}"


def number_text(number: float) -> str:
    """Format a number with at least two digits: 13,711, 2.4, 0.0031."""
    if number == 0 or number >= 100:
        return f"{number:,.0f}"
    return f"{number:.1f}" if number >= 10 else f"{number:.2g}"


def plan_text(plan: Plan) -> str:
    """Describe one plan."""
    wanted, fleet, serving, machine = plan.wanted, plan.fleet, plan.serving, plan.machine
    texts = f" and {wanted.texts:,} chunks of text" if wanted.texts else ""
    gpus = f" and {_count(fleet.gpus, 'GPU')}" if fleet.gpus else ""
    lines = [
        f"{wanted.images:,} images of {wanted.megapixels:g} megapixels{texts}, {wanted.encoder}, "
        f"{plan.dimension} dimensions",
        "",
        f"Embedding: {_count(fleet.machines, 'machine')} of {machine.cores} cores{gpus}, "
        f"{number_text(fleet.hours)} hours",
        *_aligned(
            (
                (job.name, number_text(job.gpu_hours or job.core_hours), _unit(job.gpu_hours))
                for job in (
                    *plan.work,
                    Work("build the indices of query nodes", plan.build_core_hours),
                )
            ),
            right={1},
        ),
        "",
        "Bytes",
    ]
    rows = []
    for place in (READ, STORED, MEMORY, DISK, CACHE):
        of_place = [one for one in plan.bytes if one.place == place and one.bytes]
        rows += [
            (place if one is of_place[0] else "", one.name, size_text(one.bytes), one.kind)
            for one in of_place
        ]
        if len(of_place) > 1:
            rows.append(("", "together", size_text(plan.bytes_at(place)), ""))
    lines += _aligned(rows, right={2})
    kinds = ", ".join(f"{kind} {size_text(count)}" for kind, count in index_kinds(plan).items())
    lines += [
        f"  An index of all vectors: {kinds}",
        "",
        f"Searching: {_count(serving.nodes, 'query node')} ({_count(serving.shards, 'shard')}, "
        f"{_count(serving.replicas, 'replica')}) for up to "
        f"{number_text(serving.queries_per_second)} queries a second, recall@10 {wanted.recall:g}",
        f"  a node: {size_text(serving.memory_bytes)} of memory, {size_text(serving.disk_bytes)} "
        f"of disk; a query: {serving.core_s * 1000:,.1f} ms of a core, "
        f"{number_text(serving.reads)} reads of the disk",
        f"  a node builds its index in {number_text(serving.build_hours)} hours"
        if serving.build_hours
        else f"  a node needs no index: up to {EXACT_UP_TO_ROWS:,} vectors are compared one by one",
        "",
        "Money, in the currency of the prices",
        *_aligned(
            [
                *(
                    (cost.name, number_text(cost.amount), "a month" if cost.monthly else "once")
                    for cost in plan.costs
                ),
                ("together", number_text(plan.total(monthly=False)), "once"),
                ("together", number_text(plan.total(monthly=True)), "a month"),
            ],
            right={1},
        ),
        "",
        "One machine ends at (what grows first, first)",
        *_aligned(
            (
                (
                    limit.part,
                    f"{limit.items:,} items",
                    "passed" if limit.is_passed else "enough",
                    limit.reason,
                )
                for limit in plan.limits
            ),
            right={1},
        ),
        "",
        "Commands",
        *(f"  {command}" for command in commands_of(plan)),
    ]
    return "\n".join(lines)


def plans_markdown(plans: Sequence[Plan]) -> str:
    """Compare plans of several sizes, a column each."""
    head = [f"{plan.wanted.images:,} images" for plan in plans]
    names = list(dict.fromkeys((b.place, b.name) for plan in plans for b in plan.bytes if b.bytes))
    rows = [
        ("read and decode, core-hours", [_of_work(plan, "read", gpu=False) for plan in plans]),
        ("encode, GPU-hours", [_of_work(plan, "encode", gpu=True) for plan in plans]),
        ("encode, core-hours", [_of_work(plan, "encode", gpu=False) for plan in plans]),
        ("build the indices, core-hours", [number_text(plan.build_core_hours) for plan in plans]),
        (
            f"to embed in {plans[0].wanted.hours:g} hours",
            [
                f"{_count(plan.fleet.machines, 'machine')}"
                + (f", {_count(plan.fleet.gpus, 'GPU')}" if plan.fleet.gpus else "")
                for plan in plans
            ],
        ),
        *(
            (
                f"{name} ({place})",
                [
                    size_text(
                        sum(b.bytes for b in plan.bytes if (b.place, b.name) == (place, name))
                    )
                    for plan in plans
                ],
            )
            for place, name in names
        ),
        (
            "query nodes",
            [f"{p.serving.nodes} ({p.serving.shards} x {p.serving.replicas})" for p in plans],
        ),
        ("money, once", [number_text(plan.total(monthly=False)) for plan in plans]),
        ("money, a month", [number_text(plan.total(monthly=True)) for plan in plans]),
        (
            "one machine has ended for",
            [", ".join(x.part for x in p.limits if x.is_passed) or "nothing" for p in plans],
        ),
    ]
    lines = [f"| | {' | '.join(head)} |", f"| --- |{' ---: |' * len(plans)}"]
    lines += [f"| {name} | {' | '.join(cells)} |" for name, cells in rows if set(cells) != {"0"}]
    return "\n".join(lines)


def explanation(plan: Plan, measured: Measurements) -> str:
    """Say what a plan rests on: the rates and constants, each with its source."""
    image = plan.image
    lines = [
        "",
        "Rates",
        f"  decoding: {image.core_s * 1000:.1f} ms of a core and {size_text(image.file_bytes)} an "
        f"image of {image.megapixels:g} megapixels",
        f"    {measured.sources['decoding']}",
        f"  encoding: {plan.encoding.seconds * 1000:.2f} ms of a {plan.encoding.resource} an image",
        f"    {plan.encoding.source}",
    ]
    for name, what in (("vectors", "index and search"), ("filtering", "filters")):
        lines += [f"  {what}:", f"    {measured.sources[name]}"]
    lines += ["", "Constants"]
    for constant in constants().values():
        by = "measured" if constant.measured else "not measured by us"
        lines += [
            f"  {constant.name} = {constant.value:g} {constant.unit}",
            f"    {by}: {constant.source}",
        ]
    return "\n".join(lines)


def _of_work(plan: Plan, beginning: str, *, gpu: bool) -> str:
    jobs = [job for job in plan.work if job.name.startswith(beginning)]
    return number_text(sum(job.gpu_hours if gpu else job.core_hours for job in jobs))


def _unit(gpu_hours: float) -> str:
    return "GPU-hours" if gpu_hours else "core-hours"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _aligned(rows: Iterable[Sequence[str]], right: Collection[int] = ()) -> list[str]:
    """Align columns under each other; right: those that end at one place."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  "
        + "  ".join(
            cell.rjust(width) if at in right else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]

"""Results of `bench vectors` as Markdown."""

from collections.abc import Sequence

from benchmarks.vectors.growth import Growth
from benchmarks.vectors.measurement import BATCH, BATCH_WORDS, SINGLE
from benchmarks.vectors.search import MethodResult, VectorResult
from benchmarks.vectors.workload import MODALITIES


def methods_markdown(result: VectorResult, threads: Sequence[int], target: float) -> str:
    """Format what each method takes, and its speed where it reaches a recall."""
    lines = [
        f"{result.workload}: {result.rows:,} x {result.dimension}",
        "",
        "| method | index | build, s | of a core, s | peak, MB | disk, bytes a vector "
        "| memory, bytes a vector | and mapped |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {one.name} | {one.parameters} | {one.build_s:.1f} | {one.build_core_s:.1f} | "
        f"{one.build_peak_bytes / 1e6:.0f} | {one.disk_bytes / one.rows:.0f} | "
        f"{_a_vector(one, one.memory_bytes)} | {_a_vector(one, one.mapped_bytes)} |"
        for one in result.methods
    ]
    for k in sorted({point.k for one in result.methods for point in one.points}):
        columns = [
            (modality, batch, count)
            for count in threads
            for batch in (SINGLE, BATCH)
            for modality in MODALITIES
        ]
        heads = [f"{kind}, {BATCH_WORDS[batch]}, {n} thr." for kind, batch, n in columns]
        lines += [
            "",
            f"Queries a second at recall@{k} of at least {target:g}; in brackets the most recall, "
            "where that is less:",
            "",
            f"| method | {' | '.join(heads)} |",
            f"| --- |{' ---: |' * len(columns)}",
        ]
        for one in result.methods:
            cells = []
            for modality, batch, count in columns:
                point = one.fastest(modality, k, batch, count, target)
                short = "" if point.recall >= target else f" ({point.recall:.3f})"
                cells.append(f"{point.queries_per_second:,.0f}{short}")
            lines.append(f"| {one.name} | {' | '.join(cells)} |")
    if result.skipped:
        told = {name: reason.splitlines()[-1] for name, reason in result.skipped.items()}
        lines += ["", *(f"- Left out: {name}: {reason}." for name, reason in told.items())]
    return "\n".join(lines) + "\n"


def _a_vector(one: MethodResult, size: int | None) -> str:
    return "?" if size is None else f"{size / one.rows:.0f}"


def growth_markdown(growth: Growth) -> str:
    """Measured and predicted costs, and what the prediction assumes."""
    lines = [
        "| rows | build, s | memory, MB | mapped, MB | a single text query, ms | by 100, ms |",
        "| ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {one.rows:,}{' (predicted)' if one.predicted else ''} | {one.build_s:,.1f} | "
        f"{one.memory_bytes / 1e6:,.1f} | {one.mapped_bytes / 1e6:,.1f} | "
        f"{one.milliseconds:.2f} | {one.batch_milliseconds:.2f} |"
        for one in growth.costs
    ]
    powers = ", ".join(f"{name} {power:.2f}" for name, power in growth.exponents.items())
    notes = [f"Powers of the number of rows: {powers}.", *growth.assumptions]
    return "\n".join([*lines, "", *(f"- {note}" for note in notes)]) + "\n"

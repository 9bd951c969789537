"""Curves of recall against speed, one a method."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.vectors.measurement import BATCH, SINGLE, Point
from benchmarks.vectors.search import MethodResult, VectorResult
from benchmarks.vectors.workload import MODALITIES

_BATCH_WORDS = {SINGLE: "single queries", BATCH: f"batches of {BATCH}"}
_LEAST_RECALL = 0.5


def draw_curves(result: VectorResult, folder: Path) -> list[Path]:
    """Write a PNG and an SVG for each k and number of threads; returns the files.

    Up and to the right is better. A curve holds the settings that no other of its method beats in
    both; points under a recall of 0.5 are left out.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    folder.mkdir(parents=True, exist_ok=True)
    points = [point for method in result.methods for point in method.points]
    files = []
    for k in sorted({point.k for point in points}):
        for threads in sorted({point.threads for point in points}):
            figure, panels = pyplot.subplots(2, 2, figsize=(10, 7.5), sharex=True, sharey="col")
            for row, modality in enumerate(MODALITIES):
                for column, batch in enumerate((SINGLE, BATCH)):
                    axes = panels[row][column]
                    for number, method in enumerate(result.methods):
                        curve = frontier(curve_of(method, modality, k, batch, threads))
                        curve = [point for point in curve if point.recall >= _LEAST_RECALL]
                        axes.plot(
                            [point.recall for point in curve],
                            [point.queries_per_second for point in curve],
                            marker="os^vDPX*<>"[number % 10],
                            markersize=4,
                            linewidth=1.2,
                            color=f"C{number % 10}",
                            label=method.name,
                        )
                    axes.set_yscale("log")
                    axes.grid(alpha=0.3, which="both", linewidth=0.5)
                    axes.set_title(f"{modality} queries, {_BATCH_WORDS[batch]}", fontsize=9)
                panels[row][0].set_ylabel("queries a second")
            for axes in panels[-1]:
                axes.set_xlabel(f"recall@{k}")
            handles, labels = panels[0][0].get_legend_handles_labels()
            figure.legend(handles, labels, loc="lower center", ncols=5, frameon=False, fontsize=9)
            figure.tight_layout(rect=(0, 0.07, 1, 1))
            for ending in ("png", "svg"):
                word = "thread" if threads == 1 else "threads"
                file = folder / f"recall-{k}-{threads}-{word}.{ending}"
                figure.savefig(file, dpi=110)
                files.append(file)
            pyplot.close(figure)
    return files


def curve_of(method: MethodResult, modality: str, k: int, batch: int, threads: int) -> list[Point]:
    """Select the points of one curve, by recall.

    Args:
        method: the measurements of one method.
        modality: of the queries.
        k: length of the result lists.
        batch: number of queries at a time.
        threads: number of search threads.
    """
    wanted = (modality, k, batch, threads)
    curve = [p for p in method.points if (p.modality, p.k, p.batch, p.threads) == wanted]
    return sorted(curve, key=lambda point: point.recall)


def frontier(curve: Sequence[Point]) -> list[Point]:
    """Select the points that no other beats in recall and in speed, by recall."""
    kept: list[Point] = []
    for point in sorted(curve, key=lambda p: (p.recall, p.queries_per_second), reverse=True):
        if not kept or point.queries_per_second > kept[-1].queries_per_second:
            kept.append(point)
    return kept[::-1]

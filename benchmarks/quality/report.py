"""Write a report of a result: one self-contained HTML file, and its tables in Markdown."""

import base64
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.datasets import RetrievalDataset
from benchmarks.metrics import Judgments
from benchmarks.metrics.hit_recall import hit_recall
from benchmarks.quality.results import QualityRecord
from benchmarks.quality.retrieval import RankedList
from retrieval.errors import UnreadableFileError, UsageError, import_errors_as
from retrieval.media.images import read_image

LANGUAGES_METRICS = ("hit_recall@1", "hit_recall@5", "hit_recall@10", "median_rank")
FAILURES_SHOWN = 24
FOUND_SHOWN = 5
_THUMBNAIL_PIXELS = 160
_CURVE_DEPTH = 100
_NEEDS = "The report needs jinja2 and matplotlib: pip install 'mmsearch[bench]'."

DIRECTION_NAMES = {
    "t2i": "text to image",
    "i2t": "image to text",
    "i2i": "image to image",
    "t2t": "text to text",
}


@dataclass(frozen=True)
class Shown:
    """An item in the report: an image as data URI, or a text."""

    text: str | None = None
    picture: str | None = None
    name: str = ""
    relevant: bool = False


@dataclass(frozen=True)
class Failure:
    """A query whose relevant items have low ranks, with the found and the relevant items."""

    rank: float
    query: Shown
    found: tuple[Shown, ...]
    wanted: tuple[Shown, ...]

    @property
    def shown_rank(self) -> str:
        """Format the rank."""
        return f"rank {self.rank:,.0f}" if math.isfinite(self.rank) else "not found"


def write_report(
    folder: Path,
    record: QualityRecord,
    dataset: RetrievalDataset,
    ranked: Mapping[str, Mapping[str, RankedList]],
) -> Path:
    """Write report.html and report.md into a folder; returns the path of the page.

    Args:
        folder: for both files.
        record: the measurements.
        dataset: what was measured.
        ranked: by direction and query, at least the first items of each ranked list.

    Raises:
        UsageError: the packages for plots and pages are not installed.
    """
    failures = {
        direction: find_failures(record, dataset, direction, ranked[direction])
        for direction in record.directions
    }
    page = render_page(
        "report.html.jinja",
        record=record,
        names=DIRECTION_NAMES,
        figure=format_figure,
        problems=problems(record),
        reranking=reranking(record),
        published=published_beside(record),
        failures=failures,
        curves=draw_curves({d: r.judgments for d, r in record.directions.items()}),
        histograms=draw_histograms({d: r.judgments for d, r in record.directions.items()}),
    )
    folder.mkdir(parents=True, exist_ok=True)
    html = folder / "report.html"
    html.write_text(page, encoding="utf-8")
    (folder / "report.md").write_text(markdown(record), encoding="utf-8")
    return html


def render_page(template: str, **values: Any) -> str:
    """Fill in a template of this package, every text escaped.

    Raises UsageError where the package for pages is not installed.
    """
    with import_errors_as(UsageError(_NEEDS)):
        from jinja2 import Environment, FunctionLoader

    def source(name: str) -> str:
        return files(__package__).joinpath(name).read_text(encoding="utf-8")

    environment = Environment(loader=FunctionLoader(source), autoescape=True, trim_blocks=True)
    return environment.get_template(template).render(values)


def markdown(record: QualityRecord) -> str:
    """Format the tables of a result in Markdown."""
    dataset, space, measured = record.dataset, record.space, record.directions
    indices = ", ".join(sorted({direction.index for direction in measured.values()}))
    lines = [
        f"# {dataset['name']}"
        + "".join(f", {dataset[key]}" for key in ("split", "language") if dataset[key]),
        "",
        f"Encoder {space['encoder']} (weights {space['weights'][:23]}...), "
        f"index {indices}, {dataset['images']:,} images, {dataset['texts']:,} texts.",
        *reranking(record),
        "",
        "| metric | " + " | ".join(f"{DIRECTION_NAMES[d]} | 95% interval" for d in measured) + " |",
        "| --- |" + " --- | --- |" * len(measured),
    ]
    for metric in next(iter(measured.values())).metrics:
        cells: list[str] = []
        for direction in measured.values():
            figure = direction.metrics[metric]
            low, high = (format_figure(metric, bound) for bound in (figure.low, figure.high))
            cells += [format_figure(metric, figure.value), f"{low} to {high}"]
        lines.append(f"| {metric} | {' | '.join(cells)} |")
    if record.rsum is not None:
        lines += ["", f"rsum: {record.rsum:.1f}"]
    if found := problems(record):
        lines += ["", f"In the data: {found}."]
    beside = published_beside(record)
    if beside:
        lines += [
            "",
            "Published by others on this data set, not measured here:",
            "",
            "| model | protocol | direction | R@1 | R@5 | R@10 | source |",
            "| --- | --- | --- | --- | --- | --- | --- |",
        ]
        for row in beside:
            recalls = " | ".join(str(row["recall"].get(k, "")) for k in ("1", "5", "10"))
            lines.append(
                f"| {row['model']} | {row['protocol']} | {DIRECTION_NAMES[row['direction']]} | "
                f"{recalls} | {row['source']} |"
            )
    return "\n".join([*lines, ""])


def languages_markdown(records: Sequence[QualityRecord], metrics: Sequence[str]) -> str:
    """Format results of one dataset in several languages as one table in Markdown.

    A row is a language and a direction, a cell a figure and its 95% interval.
    """
    first = records[0]
    dataset, space = first.dataset, first.space
    split = f", {dataset['split']}" if dataset["split"] else ""
    lines = [
        f"# {dataset['name']}{split}",
        "",
        f"Encoder {space['encoder']} (weights {space['weights'][:23]}...), "
        f"{dataset['images']:,} images; 95% intervals in brackets.",
        *reranking(first),
        "",
        f"| language | direction | queries | {' | '.join(metrics)} |",
        f"| --- | --- | ---: |{' ---: |' * len(metrics)}",
    ]
    for record in records:
        for name, direction in record.directions.items():
            cells = [record.dataset["language"], DIRECTION_NAMES[name]]
            cells.append(f"{len(direction.judgments):,}")
            for metric in metrics:
                figure = direction.metrics[metric]
                value, low, high = (
                    format_figure(metric, number)
                    for number in (figure.value, figure.low, figure.high)
                )
                cells.append(f"{value} ({low} to {high})")
            lines.append(f"| {' | '.join(cells)} |")
    for record in records:
        if found := problems(record):
            lines += ["", f"In the data, {record.dataset['language']}: {found}."]
    return "\n".join([*lines, ""])


def reranking(record: QualityRecord) -> list[str]:
    """Describe which directions were reranked; empty without a reranker."""
    if not record.reranker:
        return []
    parts = []
    for name, direction in record.directions.items():
        if direction.reranked:
            parts.append(f"{DIRECTION_NAMES[name]}: the first {direction.reranked:,}")
        else:
            parts.append(f"{DIRECTION_NAMES[name]}: not, a reranker needs a text and an image")
    name, weight = record.reranker["name"], record.reranker["match_weight"]
    return [f"Reranked by {name} (match weight {weight:g}). {'; '.join(parts).capitalize()}."]


def problems(record: QualityRecord) -> str:
    """Summarise the problems of a dataset; empty if it has none."""
    truncated = max(direction.truncated_texts for direction in record.directions.values())
    counted = {**record.dataset["problems"], "text cut at the encoder's context": truncated}
    return ", ".join(f"{count:,} x {kind}" for kind, count in counted.items() if count)


def format_figure(metric: str, value: float) -> str:
    """Format a metric: ranks as they are, everything else in percent."""
    return f"{value:,.1f}" if metric.endswith("_rank") else f"{100 * value:.1f}"


def published_beside(record: QualityRecord) -> list[dict[str, Any]]:
    """Return published results on the dataset and split of a result, if there are any."""
    name = record.dataset["name"].lower()
    known = next((known for known in ("flickr30k", "coco") if known in name), None)
    if known is None or record.dataset["split"] not in {"test", None}:
        return []
    published = json.loads(files(__package__).joinpath("published.json").read_text("utf-8"))
    return [
        {**row, "direction": direction, "recall": row[known][direction]}
        for row in published["results"]
        if known in row
        for direction in record.directions
        if direction in row[known]
    ]


def find_failures(
    record: QualityRecord,
    dataset: RetrievalDataset,
    direction: str,
    ranked: Mapping[str, RankedList],
) -> list[Failure]:
    """Find the queries whose first relevant item has the lowest rank, worst first.

    Args:
        record: the measurements.
        dataset: what was measured.
        direction: such as `t2i`.
        ranked: the ranked list of each query.
    """
    judgments = record.directions[direction].judgments
    qrels, queries, items = (
        dataset.qrels(direction),
        dataset.queries(direction),
        dataset.items(direction),
    )
    worst = np.argsort(-judgments.first_ranks, kind="stable")[:FAILURES_SHOWN]
    failures = []
    for index in worst:
        rank, query = float(judgments.first_ranks[index]), judgments.query_ids[index]
        if rank <= 1:
            break
        wanted = [item for item, gain in qrels[query].items() if gain > 0][:FOUND_SHOWN]
        found = ranked[query].item_ids[:FOUND_SHOWN] if query in ranked else ()
        failures.append(
            Failure(
                rank=rank,
                query=show_item(query, queries[query]),
                found=tuple(show_item(item, items[item], item in qrels[query]) for item in found),
                wanted=tuple(show_item(item, items[item]) for item in wanted if item in items),
            )
        )
    return failures


def draw_curves(judgments: Mapping[str, Judgments]) -> str:
    """Plot hit recall at k = 1..100, one line per direction, as SVG."""
    figure, axes = _figure()
    cutoffs = np.arange(1, _CURVE_DEPTH + 1)
    for direction, judged in judgments.items():
        recalls = [100 * hit_recall(judged, int(k)).mean() for k in cutoffs]
        axes.plot(cutoffs, recalls, label=DIRECTION_NAMES[direction], linewidth=2)
    axes.set(xlabel="k", ylabel="hit recall at k, %", xscale="log", ylim=(0, 100))
    axes.set_xticks([1, 2, 5, 10, 20, 50, 100], [1, 2, 5, 10, 20, 50, 100])
    axes.legend(frameon=False)
    return _svg(figure)


def draw_histograms(judgments: Mapping[str, Judgments]) -> str:
    """Plot a histogram of the rank of the first relevant item, in powers of two, as SVG."""
    figure, axes = _figure()
    longest = max(int(judged.ranked.max(initial=1)) for judged in judgments.values())
    edges = [1, *(2**n + 1 for n in range(max(1, longest - 1).bit_length() + 1))]
    labels = ["1", *(str(b - 1) if b - a == 1 else f"{a}-{b - 1}" for a, b in pairwise(edges[1:]))]
    width = 0.8 / len(judgments)
    for number, (direction, judged) in enumerate(judgments.items()):
        finite = judged.first_ranks[np.isfinite(judged.first_ranks)]
        counts, _ = np.histogram(finite, bins=edges)
        shares = 100 * counts / len(judged)
        axes.bar(
            np.arange(len(shares)) + number * width,
            shares,
            width,
            label=DIRECTION_NAMES[direction],
        )
    axes.set(xlabel="rank of the first relevant item", ylabel="queries, %")
    axes.set_xticks(
        np.arange(len(labels)) + 0.4 - width / 2, labels, rotation=35, ha="right", fontsize=8
    )
    axes.legend(frameon=False)
    return _svg(figure)


def _figure() -> tuple[Any, Any]:
    with import_errors_as(UsageError(_NEEDS)):
        from matplotlib.figure import Figure
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    return figure, axes


def _svg(figure: Any) -> str:
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None})
    text = stream.getvalue()
    return text[text.index("<svg") :]


def show_item(name: str, value: str | Path, relevant: bool = False) -> Shown:
    """Make a text, or the thumbnail of an image file, part of a report.

    Args:
        name: id of the item.
        value: a text or an image file.
        relevant: whether it is marked as right.
    """
    if isinstance(value, str):
        return Shown(text=value, name=name, relevant=relevant)
    try:
        image = read_image(value)
    except (OSError, UnreadableFileError):
        return Shown(text="(cannot be read any more)", name=name, relevant=relevant)
    image.thumbnail((_THUMBNAIL_PIXELS, _THUMBNAIL_PIXELS), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=80)
    uri = "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
    return Shown(picture=uri, name=name, relevant=relevant)

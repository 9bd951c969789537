"""Measure the calibration of relevance: reliability curve, and effect of thresholds.

The reliability curve comes from simulated searches in libraries of all sizes, like those of
training (`retrieval.training.simulated_libraries`), with photos and texts that were not trained on.
What the cut of each query shows, and what unwanted words leave out, is measured on all photos at
once, by what captions say of them. The effect of a threshold is measured on one library at a time:
for queries whose photo is in it, whose photo was removed, and for texts about things that it does
not show.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.datasets import RetrievalDataset
from benchmarks.quality.queries import Judged, calibration_error
from retrieval.encoders.base import Encoder
from retrieval.errors import UsageError, import_errors_as
from retrieval.media import Modality
from retrieval.search.cut import Outlook
from retrieval.search.encode import UNWANTED_TEXT, join_parts
from retrieval.search.relevance import AnyCalibration, sample_rows
from retrieval.training.captions import CaptionedPhoto
from retrieval.training.fitting import Floats, Gallery
from retrieval.training.relevance import Quality, ask_texts, build_gallery, measure
from retrieval.training.simulated_libraries import (
    HITS,
    SimulatedQuery,
    image_queries,
    outside_queries,
    simulate_searches,
)

FEW = 3
PLOT_ENDINGS = (".png", ".svg")
_QUERIES = 1000
_FIRST = 10
_UNWANTED_SHARE = 0.2
_RIGHT, _WRONG = 0.5, 0.15
_NOTHING = np.empty(0, np.float32)
_GROUPS = ((0, 0), (1, 2), (3, 4), (5, 9), (10, 19), (20, 10**9))
"""Numbers of right photos that results are told apart by."""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class ThresholdResult:
    """Effect of a minimum relevance in libraries of one size.

    present_kept: share of captions whose own photo stays. present_none: share of them without a
    hit. present_hits: median number of hits of a caption. removed_none: share of captions without a
    hit if their photo is not in the library; other photos may be relevant. absent_none, absent_few:
    share of absent texts without a hit, and with at most three; None without such texts.
    """

    rows: int
    threshold: float
    present_kept: float
    present_none: float
    present_hits: float
    removed_none: float
    absent_none: float | None
    absent_few: float | None


@dataclass(frozen=True)
class CutResult:
    """What the cut of each query of a kind shows.

    right: the least and the greatest number of right photos of these queries. f1: mean F1 of what
    is shown; best_f1: of the best cut of each query. none: share of queries without a hit. hits:
    median number of hits. ece: expected calibration error of the first 20 hits.
    """

    kind: str
    right: tuple[int, int]
    queries: int
    f1: float
    best_f1: float
    none: float
    hits: float
    ece: float


@dataclass(frozen=True)
class SignedResult:
    """What an unwanted word does to the first 10 hits of a wanted one, as means over pairs.

    unwanted: share of hits that show it: without it in the query, with it as it is searched for,
    and with the whole of its vector subtracted. precision: share of hits that show the wanted word,
    likewise.
    """

    pairs: int
    unwanted: tuple[float, float, float]
    precision: tuple[float, float, float]


@dataclass(frozen=True)
class RelevanceResult:
    """Calibration of relevance, and effect of thresholds.

    photos: number of photos in the gallery. queries: number of captions. absent_texts: number of
    texts about things that the dataset does not show. quality: reliability curve of each kind of
    query. cuts: of each kind of text query. signed: None without enough pairs of words.
    """

    photos: int
    queries: int
    absent_texts: int
    quality: dict[str, Quality]
    thresholds: tuple[ThresholdResult, ...]
    cuts: tuple[CutResult, ...] = ()
    signed: SignedResult | None = None


def captioned(dataset: RetrievalDataset) -> list[CaptionedPhoto]:
    """List the photos of a dataset that have captions, with their captions."""
    captions: dict[str, list[str]] = {}
    for text, image in dataset.captions:
        captions.setdefault(image, []).append(dataset.texts[text])
    return [
        CaptionedPhoto(path, tuple(captions[image]))
        for image, path in dataset.images.items()
        if image in captions
    ]


def measure_relevance(
    asked: Sequence[CaptionedPhoto],
    others: Sequence[CaptionedPhoto],
    encoder: Encoder,
    calibrations: Mapping[Modality, AnyCalibration],
    cache: Path,
    *,
    thresholds: Sequence[float],
    sizes: Sequence[int] = (),
    absent: Sequence[str] = (),
    outside: Sequence[str] = (),
    searches: int = 6000,
    seed: int = 0,
    is_asked: Callable[[str], bool] = lambda _: True,
    on_progress: Progress = lambda *_: None,
) -> RelevanceResult:
    """Measure the calibrations of text and image queries.

    If photos have only one caption each, relevance of other photos is unknown: only the photo of a
    caption is relevant to it, and there are no image queries.

    Args:
        asked: Photos whose captions, and which themselves, are queries.
        others: Photos that are only distractors in the libraries.
        encoder: The encoder.
        calibrations: Calibration of text and of image queries.
        cache: Directory of the embedding cache.
        thresholds: Minimum relevances.
        sizes: Library sizes for the thresholds, besides all photos.
        absent: Texts about things that no photo shows, for the thresholds.
        outside: Texts about other things, for the reliability curve.
        searches: Number of simulated searches of each kind of query.
        seed: Random seed.
        is_asked: Whether a word or a phrase is one of the queries.
        on_progress: Called with stage, done and total.

    Raises:
        UsageError: Fewer than two photos with captions, or one that cannot be decoded.
    """
    if len(asked) < 2:
        raise UsageError("At least two photos with captions are needed.")
    gallery = build_gallery([*asked, *others], encoder, cache, on_progress)
    captions = np.arange(sum(len(photo.captions) for photo in asked))
    texts = ask_texts(gallery, captions, outside, encoder, cache, on_progress, is_asked=is_asked)
    quality = {
        "text": measure(
            calibrations[Modality.TEXT], simulate_searches(gallery, texts, searches, seed=seed)
        )
    }
    if gallery.tells_what_fits:
        images = image_queries(gallery, np.arange(len(asked)))
        found = simulate_searches(gallery, images, searches, seed=seed)
        quality["image"] = measure(calibrations[Modality.IMAGE], found)
    random = np.random.default_rng(seed)
    own = [query for query in texts if query.kind == "caption"]
    picked = random.permutation(len(own))[:_QUERIES]
    own = [own[place] for place in sorted(picked.tolist())]
    vectors = encoder.encode(Modality.TEXT, absent)
    nothing = outside_queries(absent, vectors, len(gallery.photos))
    results = [
        _at_thresholds(gallery, own, nothing, calibrations[Modality.TEXT], size, thresholds, random)
        for size in [*(size for size in sizes if size < len(gallery.photos)), len(gallery.photos)]
    ]
    return RelevanceResult(
        photos=len(gallery.photos),
        queries=len(own),
        absent_texts=len(absent),
        quality=quality,
        thresholds=tuple(result for of_size in results for result in of_size),
        cuts=tuple(measure_cuts(gallery, [*texts, *nothing], calibrations[Modality.TEXT])),
        signed=measure_signed(gallery, texts),
    )


def measure_cuts(
    gallery: Gallery, queries: Sequence[SimulatedQuery], calibration: AnyCalibration
) -> list[CutResult]:
    """Measure what is shown of all photos of a gallery by the cut of each query.

    Right is what two captions or more name; what one names counts neither way. Photos similar to
    a caption are right where that is likely, and do not count where it may be.
    """
    rows: dict[tuple[str, tuple[int, int]], list[tuple[float, ...]]] = {}
    judged: dict[tuple[str, tuple[int, int]], list[tuple[Judged, Floats]]] = {}
    every = np.arange(len(gallery.photos))
    for query in queries:
        relevance = _relevances(gallery, query, every, calibration)
        order = np.argsort(-relevance, kind="stable")
        relevance, fits = relevance[order], query.fits[order]
        right, told = fits > _RIGHT, (fits > _RIGHT) | (fits < _WRONG)
        cut = Outlook.of(relevance, _NOTHING, 0).best(known=calibration.known(query.text))
        shown = int((relevance >= cut.least).sum())
        hits, total = np.cumsum(right), right.sum()
        f1 = np.concatenate([[0], 2 * hits / np.maximum(np.cumsum(told) + total, 1)])
        group = next(group for group in _GROUPS if group[0] <= total <= group[1])
        key = (query.kind if total or query.kind == "outside" else "absent word", group)
        rows.setdefault(key, []).append((f1[shown], f1.max(), shown == 0, shown))
        first = np.flatnonzero(told)[:HITS]
        judged.setdefault(key, []).append((right[first].astype(np.int64), relevance[first]))
    results = []
    for kind, group in sorted(rows):
        table = np.array(rows[kind, group])
        mean_f1, best_f1, none, _ = table.mean(0).tolist()
        shown_hits = float(np.median(table[:, 3]))
        ece = calibration_error(judged[kind, group]) or 0.0
        results.append(CutResult(kind, group, len(table), mean_f1, best_f1, none, shown_hits, ece))
    return results


def measure_signed(gallery: Gallery, queries: Sequence[SimulatedQuery]) -> SignedResult | None:
    """Ask for words that many photos show without other words that many of these show, too."""
    words = [query for query in queries if query.kind == "word" and (query.fits == 1).sum() >= 20]
    found = []
    for wanted in words:
        similarity = gallery.vectors @ wanted.vector
        first = np.argsort(-similarity, kind="stable")[:_FIRST]
        for other in words:
            if other is wanted or (other.fits[first] == 1).mean() < _UNWANTED_SHARE:
                continue
            lists = [first]
            for weight in (UNWANTED_TEXT, 1):
                both = join_parts([1, -weight], [wanted.vector, other.vector])
                scores = gallery.vectors @ both
                lists.append(np.argsort(-scores, kind="stable")[:_FIRST])
            found.append([[(q.fits[rows] == 1).mean() for rows in lists] for q in (other, wanted)])
    if not found:
        return None
    unwanted_shares, precisions = np.mean(found, axis=0).tolist()
    return SignedResult(len(found), tuple(unwanted_shares), tuple(precisions))


def _at_thresholds(
    gallery: Gallery,
    own: Sequence[SimulatedQuery],
    nothing: Sequence[SimulatedQuery],
    calibration: AnyCalibration,
    size: int,
    thresholds: Sequence[float],
    random: np.random.Generator,
) -> list[ThresholdResult]:
    """Ask each query of a library of this size; the own photo is its first row."""
    present, removed, absent = [], [], []
    for query in own:
        rows = _library(len(gallery.photos), size, random, query.source_photo)
        present.append(_relevances(gallery, query, rows, calibration))
        removed.append(_relevances(gallery, query, rows[1:], calibration))
    for query in nothing:
        rows = _library(len(gallery.photos), size, random)
        absent.append(_relevances(gallery, query, rows, calibration))
    results = []
    for threshold in thresholds:
        hits = np.array([(each >= threshold).sum() for each in present])
        none_there = np.array([(each >= threshold).sum() for each in absent])
        results.append(
            ThresholdResult(
                rows=size,
                threshold=threshold,
                present_kept=float(np.mean([each[0] >= threshold for each in present])),
                present_none=float(np.mean(hits == 0)),
                present_hits=float(np.median(hits)),
                removed_none=float(np.mean([not (each >= threshold).any() for each in removed])),
                absent_none=float(np.mean(none_there == 0)) if absent else None,
                absent_few=float(np.mean(none_there <= FEW)) if absent else None,
            )
        )
    return results


def _library(
    total: int, size: int, random: np.random.Generator, own: int | None = None
) -> NDArray[np.int64]:
    """Choose `size` photos at random, with the source photo of the query first."""
    chosen = random.permutation(total)[:size]
    if own is None:
        return chosen
    return np.concatenate([[own], chosen[chosen != own]])[:size]


def _relevances(
    gallery: Gallery, query: SimulatedQuery, rows: NDArray[np.int64], calibration: AnyCalibration
) -> NDArray[np.float32]:
    similarity = gallery.vectors[rows] @ query.vector
    return calibration.curve(similarity[sample_rows(len(rows))], query.text_asked)(similarity)


def draw_reliability(quality: dict[str, Quality], file: Path) -> None:
    """Plot observed against predicted relevance, and a histogram, as PNG or SVG by the ending.

    Raises UsageError when matplotlib is not installed.
    """
    needs = UsageError("The plot needs matplotlib: pip install 'mmsearch[bench]'.")
    with import_errors_as(needs):
        from matplotlib.figure import Figure
    figure = Figure(figsize=(4.2 * len(quality), 5.4), layout="constrained")
    panels = figure.subplots(
        2, len(quality), sharex=True, squeeze=False, height_ratios=(3, 1), sharey="row"
    )
    for column, (kind, measured) in enumerate(quality.items()):
        curve, bars = panels[:, column]
        curve.plot((0, 1), (0, 1), color="0.6", linewidth=1, linestyle="--")
        curve.plot(measured.predicted, measured.observed, marker="o", color="C0")
        curve.set_title(
            f"{kind} queries: error {measured.ece:.3f}, Brier {measured.brier:.3f}", fontsize=10
        )
        curve.grid(alpha=0.3)
        centres = (np.arange(len(measured.counts)) + 0.5) / len(measured.counts)
        bars.bar(centres, measured.counts, width=0.09, color="C0")
        bars.set_yscale("log")
        bars.set_xlabel("relevance")
    panels[0][0].set_ylabel("share of relevant hits")
    panels[1][0].set_ylabel("hits")
    figure.savefig(file, dpi=120)

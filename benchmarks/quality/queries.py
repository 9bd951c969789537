"""What users get for queries as people type them: ranking, the default cut, and relevances.

The queries of `benchmarks.quality.graded_queries` are asked of a real library through the engine,
twice: with the least relevance that searches show by default, and without. The engine's own answer
decides what is shown; the whole ranking tells what the best cut would have been.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xxhash
from numpy.typing import NDArray

from benchmarks.metrics import judge, per_query
from benchmarks.quality.graded_queries import GradedQuery, QuerySet, SignedPair
from benchmarks.quality.query_words import WORD_KINDS, Kind
from benchmarks.quality.retrieval import FOUND_KEPT
from indexer.pipeline import index_sources
from indexer.sources import absolute
from retrieval.encoders.base import Encoder
from retrieval.errors import MMSearchError, UsageError
from retrieval.library import Library, create_library
from retrieval.media import Modality
from retrieval.search.cut import AUTO
from retrieval.search.engine import Engine
from retrieval.search.query import MAX_K, Query, Reranking, TextPart
from retrieval.training.captions import CaptionedPhoto
from retrieval.training.relevance import BINS

TOP = 10
FIRST = 20
"""Hits of the first calibration error."""

BANDS = ((1, 2), (3, 9), (10, 29), (30, None))
"""Numbers of right photos, both ends included: a cut over few is a matter of luck."""

WORDS, ALL = "words", "all"
_DRAWS = 200
_BATCH = 32

Progress = Callable[[str, int, int], None]
MinRelevance = float | Literal["auto"]
"""What `Query.min_relevance` takes."""

Judged = NDArray[np.int64]


@dataclass(frozen=True)
class FoundPhoto:
    """A photo of an answer. gain: above 0 is right, 0 wrong, -1 unsure."""

    path: str
    gain: int


@dataclass(frozen=True)
class AbsentFigures:
    """A query that no photo is right for. shown: number of hits that are shown all the same."""

    text: str
    shown: int


@dataclass(frozen=True)
class QueryFigures:
    """Figures of one query with right photos; see `KindFigures`.

    ap: average precision. first_rank: rank of the first right photo among the judged ones; None if
    none was found. found: the first of the ranking. wanted: paths of some right photos.
    """

    text: str
    kind: str
    right: int
    unsure: int
    precision_at_10: float
    ap: float
    ndcg: float
    shown: int
    shown_precision: float | None
    shown_recall: float
    shown_f1: float
    best_f1: float
    first_rank: int | None
    found: tuple[FoundPhoto, ...]
    wanted: tuple[str, ...]


@dataclass(frozen=True)
class KindFigures:
    """Means over the queries of a kind, or over those of a band of numbers of right photos.

    kind: one of `Kind`; `words`: nouns, adjectives, scenes and activities; `all`: all but absent
    ones. right: median number of right photos. precision_at_10, map, ndcg: of the whole ranking.
    shown_precision: of queries for which judged photos are shown. shown_recall, shown_f1: of what
    is shown; 0 where nothing is. best_f1: of the best cut of the same ranking, by query. f1_ratio:
    mean shown_f1 / mean best_f1. nothing_shown: share of queries without a hit. something_shown:
    its complement. ece_first, ece: expected calibration error of the first 20 hits, and of all.
    ece_first_by_chance: what to expect of the first 20 if relevances were exact. None: undefined.
    """

    kind: str
    band: str | None
    queries: int
    right: float
    precision_at_10: float | None
    map: float | None
    ndcg: float | None
    shown_precision: float | None
    shown_recall: float | None
    shown_f1: float | None
    best_f1: float | None
    f1_ratio: float | None
    nothing_shown: float
    something_shown: float
    ece_first: float | None
    ece_first_by_chance: float | None
    ece: float | None


@dataclass(frozen=True)
class SignedFigures:
    """Means over pairs of words, of which one is wanted; with the other as minus, and without.

    minus_first, minus_shown: share of photos with the unwanted word among the first 10, and among
    those shown. precision_at_10: for the wanted word. nothing_shown: share of pairs without a hit.
    ece_first, ece: as for `KindFigures`; right is the wanted word without the other.
    """

    with_minus: bool
    pairs: int
    minus_first: float
    minus_shown: float | None
    precision_at_10: float
    nothing_shown: float
    ece_first: float | None
    ece: float | None


@dataclass(frozen=True)
class RunFigures:
    """All figures with one reranker, or with none ("none")."""

    reranker: str
    kinds: tuple[KindFigures, ...]
    signed: tuple[SignedFigures, ...]
    queries: tuple[QueryFigures, ...]
    absent: tuple[AbsentFigures, ...]


@dataclass(frozen=True)
class QueriesResult:
    """Figures of all runs.

    photos: judged ones in the library. items: all that it holds. min_relevance: of what is shown.
    dropped: absent queries that were not asked, since captions say them.
    """

    photos: int
    items: int
    min_relevance: MinRelevance
    dropped: tuple[str, ...]
    runs: tuple[RunFigures, ...]


@dataclass(frozen=True, eq=False)
class Ranking:
    """An answer: numbers of photos, (h,) int64, -1 for other items; relevances, (h,), or NaN."""

    photos: NDArray[np.int64]
    relevance: NDArray[np.float64]

    def judged(self, gains: Judged) -> tuple[Judged, NDArray[np.float64]]:
        """Return the gains and relevances of those hits whose gain is known, best first."""
        return self._known(gains, slice(None))

    def first_judged(self, gains: Judged, count: int) -> tuple[Judged, NDArray[np.float64]]:
        """Return the same of those among the first hits."""
        return self._known(gains, slice(count))

    def _known(self, gains: Judged, hits: slice) -> tuple[Judged, NDArray[np.float64]]:
        photos, relevance = self.photos[hits], self.relevance[hits]
        found = np.where(photos >= 0, gains[photos], -1)
        return found[found >= 0], relevance[found >= 0]


@dataclass(frozen=True, eq=False)
class _Asked:
    """A query with both answers."""

    gains: Judged
    whole: Ranking
    shown: Ranking


def build_library(
    photos: Sequence[CaptionedPhoto],
    encoder: Encoder,
    cache: Path,
    on_progress: Progress = lambda *_: None,
) -> Library:
    """Index photos into a library in the cache; if it is there, only what has changed.

    Raises UsageError if no photo can be read.
    """
    paths = [absolute(photo.path) for photo in photos]
    names = "\0".join([encoder.space.id, *sorted(paths)])
    digest = xxhash.xxh3_64_hexdigest(names.encode(errors="surrogatepass"))
    library = create_library(cache / f"library-{digest}", encoder.space)
    summary = index_sources(
        library,
        encoder,
        paths,
        on_progress=lambda event: on_progress("index", event.done, event.total or len(paths)),
    )
    if summary.failed >= len(paths):
        raise UsageError(f"None of the {len(paths):,} photos can be read.")
    return library


def measure_queries(
    engine: Engine,
    asked: QuerySet,
    rerankers: Sequence[str],
    *,
    min_relevance: MinRelevance = AUTO,
    on_progress: Progress = lambda *_: None,
) -> QueriesResult:
    """Ask all queries with each reranker, and compare the answers with the judgements.

    Photos that the library lacks are in no judgement; items that are no photo of the dataset are in
    no figure. Of a library of more than 10,000 items the ranking ends there.

    Args:
        engine: Engine of the library.
        asked: Queries with judgements.
        rerankers: Names as of `--rerank`.
        min_relevance: Least relevance of what is shown.
        on_progress: Called with stage, done and total.

    Raises:
        UsageError: The library holds none of the photos, or no query has a right one.
    """
    searcher = _Searcher(engine, asked.photos, min_relevance, on_progress)
    if not len(searcher.present):
        raise UsageError(
            f"The library at {engine.library.path} holds none of the {len(asked.photos):,} photos "
            "of the dataset."
        )
    queries = [replace(query, gains=searcher.held(query.gains)) for query in asked.queries]
    queries = [query for query in queries if query.right or query.kind is Kind.ABSENT]
    if not any(query.right for query in queries):
        raise UsageError("No query has a right photo: give more photos, or a smaller --least.")
    runs = []
    for name in rerankers:
        texts = [(TextPart(query.text),) for query in queries]
        answered = searcher.ask("queries", texts, [query.gains for query in queries], name)
        figures = _query_figures(queries, answered, asked.photos)
        absent = [
            AbsentFigures(query.text, len(answer.shown.photos))
            for query, answer in zip(queries, answered, strict=True)
            if query.kind is Kind.ABSENT
        ]
        kinds = _kind_figures(queries, answered, figures)
        signed = [
            _signed_figures(asked.pairs, searcher.ask_pairs(asked.pairs, name, minus), minus)
            for minus in ((False, True) if asked.pairs else ())
        ]
        runs.append(RunFigures(name, tuple(kinds), tuple(signed), tuple(figures), tuple(absent)))
    return QueriesResult(
        len(searcher.present), searcher.items, min_relevance, asked.dropped, tuple(runs)
    )


class _Searcher:
    """Asks an engine, and tells the dataset's photos among the hits.

    present: numbers of the photos that the library holds. items: number of all images there.
    """

    def __init__(
        self,
        engine: Engine,
        photos: Sequence[CaptionedPhoto],
        min_relevance: MinRelevance,
        on_progress: Progress,
    ) -> None:
        self._engine = engine
        self._min_relevance = min_relevance
        self._on_progress = on_progress
        self._number_of = {absolute(photo.path): n for n, photo in enumerate(photos)}
        space = engine.space.id
        with engine.library.catalog.snapshot() as snapshot:
            rows = range(snapshot.row_count(space, Modality.IMAGE))
            at = snapshot.items_at(space, Modality.IMAGE, rows)
        paths = [item.path for items in at.values() for item in items]
        self.items = len(paths)
        found = {self._number_of[path] for path in paths if path in self._number_of}
        self.present: NDArray[np.int64] = np.array(sorted(found), dtype=np.int64)

    def held(self, gains: Judged) -> Judged:
        """Make judgements of photos that the library lacks unsure."""
        left = np.full_like(gains, -1)
        left[self.present] = gains[self.present]
        return left

    def ask_pairs(
        self, pairs: Sequence[SignedPair], reranker: str, with_minus: bool
    ) -> list[_Asked]:
        """Ask for the wanted word of each pair, with the other as minus or without."""
        texts = [
            (TextPart(pair.plus.text), *((TextPart(pair.minus.text, -1.0),) * with_minus))
            for pair in pairs
        ]
        gains = [self.held(pair.gains if with_minus else pair.plus.gains) for pair in pairs]
        return self.ask("with minus" if with_minus else "without minus", texts, gains, reranker)

    def ask(
        self,
        stage: str,
        texts: Sequence[tuple[TextPart, ...]],
        gains: Sequence[Judged],
        reranker: str,
    ) -> list[_Asked]:
        """Ask each query twice: for all that there is, and for what is shown."""
        stage = f"{stage}, rerank {reranker}"
        whole = self._rankings(stage, texts, reranker, 0.0)
        shown = self._rankings(f"{stage}, cut", texts, reranker, self._min_relevance)
        return [_Asked(*each) for each in zip(gains, whole, shown, strict=True)]

    def _rankings(
        self,
        stage: str,
        texts: Sequence[tuple[TextPart, ...]],
        reranker: str,
        min_relevance: MinRelevance,
    ) -> list[Ranking]:
        reranking = Reranking(reranker, budget_ms=None)  # a budget would depend on the machine
        k = max(1, min(self.items, MAX_K))
        rankings: list[Ranking] = []
        for start in range(0, len(texts), _BATCH):
            requests = [
                (Query(parts, k=k, min_relevance=min_relevance), reranking)
                for parts in texts[start : start + _BATCH]
            ]
            for answer in self._engine.search_many(requests):
                if isinstance(answer, MMSearchError):
                    raise answer
                photos = [self._number_of.get(hit.path, -1) for hit in answer]
                relevance = [np.nan if h.relevance is None else h.relevance for h in answer]
                rankings.append(
                    Ranking(np.array(photos, np.int64), np.array(relevance, np.float64))
                )
            self._on_progress(stage, len(rankings), len(texts))
        return rankings


def _query_figures(
    queries: Sequence[GradedQuery], answered: Sequence[_Asked], photos: Sequence[CaptionedPhoto]
) -> list[QueryFigures]:
    """Compute the figures of each query that has right photos."""
    there = [(q, a) for q, a in zip(queries, answered, strict=True) if q.right]
    qrels, run = {}, {}
    for number, (query, answer) in enumerate(there):
        places = np.flatnonzero(query.gains > 0).tolist()
        qrels[str(number)] = {str(place): int(query.gains[place]) for place in places}
        judged = answer.whole.photos
        judged = judged[(judged >= 0) & (query.gains[judged] >= 0)]
        run[str(number)] = {str(place): -float(n) for n, place in enumerate(judged.tolist())}
    judgments = judge(qrels, run)
    ranked = (per_query(judgments, name) for name in (f"precision@{TOP}", "map", "ndcg"))
    figures = []
    for (query, answer), precision, ap, ndcg in zip(there, *ranked, strict=True):
        shown, _ = answer.shown.judged(query.gains)
        whole, _ = answer.whole.judged(query.gains)
        right = np.flatnonzero(whole > 0)
        found = answer.whole.photos[answer.whole.photos >= 0][:FOUND_KEPT].tolist()
        wanted = np.argsort(-query.gains, kind="stable")[: min(query.right, FOUND_KEPT)]
        figures.append(
            QueryFigures(
                text=query.text,
                kind=query.kind,
                right=query.right,
                unsure=query.unsure,
                precision_at_10=float(precision),
                ap=float(ap),
                ndcg=float(ndcg),
                shown=len(answer.shown.photos),
                shown_precision=float(np.mean(shown > 0)) if len(shown) else None,
                shown_recall=float((shown > 0).sum() / query.right),
                shown_f1=f1(shown, query.right),
                best_f1=best_f1(whole, query.right),
                first_rank=int(right[0]) + 1 if len(right) else None,
                found=tuple(FoundPhoto(str(photos[n].path), int(query.gains[n])) for n in found),
                wanted=tuple(str(photos[n].path) for n in wanted.tolist()),
            )
        )
    return figures


def f1(shown: Judged, right: int) -> float:
    """Compute F1 of the judged hits that are shown. right: number of right photos, at least 1."""
    return float(2 * (shown > 0).sum() / (len(shown) + right))


def best_f1(ranked: Judged, right: int) -> float:
    """Compute the F1 of the best cut of a ranking: the maximum over all its lengths."""
    lengths = np.arange(1, len(ranked) + 1)
    return float(np.max(2 * np.cumsum(ranked > 0) / (lengths + right), initial=0.0))


def calibration_error(
    answers: Sequence[tuple[Judged, NDArray[np.floating[Any]]]],
) -> float | None:
    """Compute the expected calibration error (Guo et al. 2017) in ten bins of equal width.

    answers: gains (above 0: right) and relevances of judged hits; those without relevance do not
    count. None if there are none.
    """
    relevance, is_right = _judged_relevances(answers)
    return _binned_gap(relevance, is_right) if len(relevance) else None


def chance_error(answers: Sequence[tuple[Judged, NDArray[np.floating[Any]]]]) -> float | None:
    """Compute the calibration error to expect if each hit were right with its relevance.

    So much is chance however well calibrated they are, and more where the hits of a query are right
    or wrong together, for here each is on its own. answers: as for `calibration_error`.
    """
    relevance, _ = _judged_relevances(answers)
    if not len(relevance):
        return None
    random = np.random.default_rng(0)
    draws = (random.random(len(relevance)) < relevance for _ in range(_DRAWS))
    return float(np.mean([_binned_gap(relevance, is_right) for is_right in draws]))


def _judged_relevances(
    answers: Sequence[tuple[Judged, NDArray[np.floating[Any]]]],
) -> tuple[NDArray[np.floating[Any]], NDArray[np.bool_]]:
    """Join the relevances of hits that have one, and whether these are right."""
    gains = np.concatenate([gains for gains, _ in answers]) if answers else np.zeros(0)
    relevance = np.concatenate([relevance for _, relevance in answers]) if answers else gains
    known = ~np.isnan(relevance)
    return relevance[known], gains[known] > 0


def _binned_gap(relevance: NDArray[np.floating[Any]], is_right: NDArray[np.bool_]) -> float:
    bins = np.minimum((relevance * BINS).astype(np.int64), BINS - 1)
    return float(np.abs(np.bincount(bins, relevance - is_right)).sum() / len(relevance))


def _kind_figures(
    queries: Sequence[GradedQuery], answered: Sequence[_Asked], figures: Sequence[QueryFigures]
) -> list[KindFigures]:
    """Compute the means by kind, and by kind and number of right photos."""
    of_query = iter(figures)
    each = [
        (query, answer, next(of_query) if query.right else None)
        for query, answer in zip(queries, answered, strict=True)
    ]
    groups: list[tuple[str, tuple[Kind, ...]]] = [
        *((kind.value, (kind,)) for kind in WORD_KINDS),
        (WORDS, WORD_KINDS),
        (Kind.PHRASE.value, (Kind.PHRASE,)),
        (Kind.CAPTION.value, (Kind.CAPTION,)),
        (ALL, (*WORD_KINDS, Kind.PHRASE, Kind.CAPTION)),
        (Kind.ABSENT.value, (Kind.ABSENT,)),
    ]
    rows = []
    for name, kinds in groups:
        of_kind = [one for one in each if one[0].kind in kinds]
        if of_kind:
            rows.append(_means(name, None, of_kind))
        bands = [
            (f"{low}-{high}" if high else f"{low}+", low, high or np.inf) for low, high in BANDS
        ]
        in_bands = [
            (label, [one for one in of_kind if low <= one[0].right <= high])
            for label, low, high in bands
        ]
        filled = [(label, chosen) for label, chosen in in_bands if chosen]
        if len(filled) > 1 and name not in {ALL, Kind.CAPTION}:
            rows += [_means(name, label, chosen) for label, chosen in filled]
    return rows


def _means(
    kind: str, band: str | None, each: Sequence[tuple[GradedQuery, _Asked, QueryFigures | None]]
) -> KindFigures:
    found = [figures for _, _, figures in each if figures]

    def mean(name: str) -> float | None:
        values = [getattr(figures, name) for figures in found]
        known = [value for value in values if value is not None]
        return float(np.mean(known)) if known else None

    shown_f1, best = mean("shown_f1"), mean("best_f1")
    nothing = float(np.mean([len(answer.shown.photos) == 0 for _, answer, _ in each]))
    answers = [answer for _, answer, _ in each]
    first = [answer.whole.first_judged(answer.gains, FIRST) for answer in answers]
    return KindFigures(
        kind=kind,
        band=band,
        queries=len(each),
        right=float(np.median([query.right for query, _, _ in each])),
        precision_at_10=mean("precision_at_10"),
        map=mean("ap"),
        ndcg=mean("ndcg"),
        shown_precision=mean("shown_precision"),
        shown_recall=mean("shown_recall"),
        shown_f1=shown_f1,
        best_f1=best,
        f1_ratio=shown_f1 / best if shown_f1 is not None and best else None,
        nothing_shown=nothing,
        something_shown=1 - nothing,
        ece_first=calibration_error(first),
        ece_first_by_chance=chance_error(first),
        ece=calibration_error([a.whole.judged(a.gains) for a in answers]),
    )


def _signed_figures(
    pairs: Sequence[SignedPair], answers: Sequence[_Asked], with_minus: bool
) -> SignedFigures:
    first, shown, precision = [], [], []
    for pair, answer in zip(pairs, answers, strict=True):
        unwanted = answer.whole.judged(pair.minus.gains)[0][:TOP]
        first.append((unwanted > 0).sum() / TOP)
        seen, _ = answer.shown.judged(pair.minus.gains)
        if len(seen):
            shown.append((seen > 0).mean())
        wanted = answer.whole.judged(pair.plus.gains)[0][:TOP]
        precision.append((wanted > 0).sum() / TOP)
    return SignedFigures(
        with_minus=with_minus,
        pairs=len(pairs),
        minus_first=float(np.mean(first)),
        minus_shown=float(np.mean(shown)) if shown else None,
        precision_at_10=float(np.mean(precision)),
        nothing_shown=float(np.mean([len(answer.shown.photos) == 0 for answer in answers])),
        ece_first=calibration_error([a.whole.first_judged(a.gains, FIRST) for a in answers]),
        ece=calibration_error([a.whole.judged(a.gains) for a in answers]),
    )


def queries_markdown(result: QueriesResult) -> str:
    """Format a result as Markdown: two tables for each run."""
    lines = [
        f"{result.photos:,} photos of {result.items:,} items; minimum relevance of what is shown: "
        f"{result.min_relevance}."
    ]
    for run in result.runs:
        reranked = "Not reranked" if run.reranker == "none" else f"Reranked (`{run.reranker}`)"
        lines += [
            "",
            f"{reranked}:",
            "",
            "| query | right photos | queries | P@10 | mAP | nDCG | shown: precision | recall | F1 "
            "| best cut's F1 | share of it | nothing shown | ECE, first 20 | by chance "
            "| ECE, all |",
            "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | "
            "---: | ---: | ---: |",
        ]
        lines += [_kind_line(row) for row in run.kinds]
        if run.signed:
            lines += [
                "",
                "| signed query | pairs | minus word in the first 10 | in what is shown | P@10, "
                "plus word | nothing shown | ECE, first 20 | ECE, all |",
                "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
            ]
            lines += [_signed_line(row) for row in run.signed]
    return "\n".join([*lines, ""])


def _kind_line(row: KindFigures) -> str:
    name = f"**{row.kind}**" if row.kind in {WORDS, ALL} and row.band is None else row.kind
    right = row.band or ("0" if row.kind == Kind.ABSENT else "")
    cells = [
        name if row.band is None else "",
        right,
        f"{row.queries:,}",
        *map(_two, (row.precision_at_10, row.map, row.ndcg)),
        *map(_two, (row.shown_precision, row.shown_recall, row.shown_f1, row.best_f1)),
        _percent(row.f1_ratio),
        _percent(row.nothing_shown),
        *map(_three, (row.ece_first, row.ece_first_by_chance, row.ece)),
    ]
    return f"| {' | '.join(cells)} |"


def _signed_line(row: SignedFigures) -> str:
    cells = [
        "with minus" if row.with_minus else "plus word alone",
        f"{row.pairs:,}",
        _percent(row.minus_first),
        _percent(row.minus_shown),
        _two(row.precision_at_10),
        _percent(row.nothing_shown),
        *map(_three, (row.ece_first, row.ece)),
    ]
    return f"| {' | '.join(cells)} |"


def _two(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _three(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"

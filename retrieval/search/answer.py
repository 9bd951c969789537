"""What comes back for a query: hits with named scores, and how they were found."""

from collections.abc import Iterator
from dataclasses import dataclass

from retrieval.catalog import Item
from retrieval.errors import UsageError
from retrieval.rerankers.registry import AUTO
from retrieval.search.query import MAX_RERANK_BUDGET_MS, MAX_RERANK_DEPTH, Mode

DEFAULT_BUDGET_MS = 2000.0


@dataclass(frozen=True)
class Hit:
    """An item in the answer. Scores that do not exist are None.

    similarity: cosine, -1..1; match: the reranker's logit, 0 at even odds, or, for a query of
    images alone, its image similarity, -1..1; relevance: calibrated, 0..1; words: how well the
    words of the query fit what is known of the file (BM25), where the text search found it. group:
    other items of the same file among the candidates, by their ids, the best first.
    """

    rank: int
    item: Item
    similarity: float
    match: float | None = None
    relevance: float | None = None
    words: float | None = None
    group: tuple[int, ...] = ()

    @property
    def path(self) -> str:
        """The file of the item."""
        return self.item.path


@dataclass(frozen=True)
class Reranking:
    """How the best candidates are scored again.

    name: `auto`, `none` or another name that `load_reranker` knows. depth: how many candidates;
    None: as many as the reranker says. budget_ms: wall time that it may take; None: all it needs.
    """

    name: str = AUTO
    depth: int | None = None
    budget_ms: float | None = DEFAULT_BUDGET_MS

    def __post_init__(self) -> None:
        if self.depth is not None and not 1 <= self.depth <= MAX_RERANK_DEPTH:
            raise UsageError(
                f"The rerank depth must be between 1 and {MAX_RERANK_DEPTH:,}, not {self.depth}."
            )
        if self.budget_ms is not None and not 0 <= self.budget_ms <= MAX_RERANK_BUDGET_MS:
            raise UsageError(
                f"The rerank budget must be between 0 and {MAX_RERANK_BUDGET_MS:,.0f} ms, not "
                f"{self.budget_ms}."
            )


@dataclass(frozen=True)
class Answer:
    """Hits, best first; the wall time of each stage in milliseconds; what the user should know.

    It is a sequence of its hits. timings_ms: of all queries that were answered together. reranker:
    whose match is in the hits, if any. reranked: how many candidates it scored; in the order by
    meaning they stand before all others. mode: how the hits were found, never `auto`. next_cursor:
    for the hits that follow; None: there are no more, or as many as MAX_K were given.
    """

    hits: tuple[Hit, ...]
    timings_ms: dict[str, float]
    warnings: tuple[str, ...] = ()
    reranker: str | None = None
    reranked: int = 0
    mode: Mode = Mode.VECTOR
    next_cursor: str | None = None

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)

    def __len__(self) -> int:
        return len(self.hits)

    def __getitem__(self, place: int) -> Hit:
        return self.hits[place]

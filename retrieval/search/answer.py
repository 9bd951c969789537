"""What comes back for a query: hits with named scores, and the wall time of each stage."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from retrieval.catalog import Item
from retrieval.errors import UsageError, import_errors_as
from retrieval.recognition.base import Task
from retrieval.search.query import Mode, UnderstoodPart

if TYPE_CHECKING:  # so that clients and `--help` do without the indices
    import pandas as pd

    from retrieval.search.candidates import Candidates
    from retrieval.search.ordering import Groups


@dataclass(frozen=True)
class Hit:
    """An item in the answer. Scores that do not exist are None.

    similarity: cosine, -1..1; match: the reranker's logit, 0 at even odds, or, for a query of
    images alone, its image similarity, -1..1; relevance: calibrated, 0..1; words: lexical score,
    how well the words of the query fit what is known of the file, where the text search found it
    (BM25 in the mode `text`, else the summed inverse document frequencies). group: other items of
    the same file among the candidates, by their ids, the best first. found_by: the task whose text
    it was found by: that of a passage, or of a picture with the text of one. Where words were found
    that are said in it, `item.start_s` is when that line begins.
    """

    rank: int
    item: Item
    similarity: float
    match: float | None = None
    relevance: float | None = None
    words: float | None = None
    group: tuple[int, ...] = ()
    found_by: Task | None = None

    @property
    def path(self) -> str:
        """Return the file of the item."""
        return self.item.path

    def __repr__(self) -> str:
        scores = [
            f"{name}={value:.3g}"
            for name in ("similarity", "match", "relevance", "words")
            if (value := getattr(self, name)) is not None
        ]
        return f"Hit({self.rank}, {self.item!r}, {', '.join(scores)})"


@dataclass(frozen=True)
class Answer:
    """Hits, best first; the wall time of each stage in milliseconds; what the user should know.

    It is a sequence of its hits. timings_ms: of all queries that were answered together. reranker:
    whose match is in the hits, if any. reranked: how many candidates it scored; in the order by
    vector they stand before all others. mode: how the hits were found, never `auto`. next_cursor:
    for the hits that follow; None: there are no more, or as many as MAX_K were given. understood:
    words of the query that became filters. expected: how many of the items that pass the filter are
    right, by the relevances of the nearest and of a sample of the library; None where meaning was
    not asked for. left_out: how many of them are not relevant enough to be shown, estimated in the
    same way where more hits follow. unknown_language: the language or script of the query, if the
    encoder does not know it. technical: those of the warnings that only tell how the
    search ran, which is no news to who only looks for something.
    """

    hits: tuple[Hit, ...]
    timings_ms: dict[str, float]
    warnings: tuple[str, ...] = ()
    reranker: str | None = None
    reranked: int = 0
    mode: Mode = Mode.VECTOR
    next_cursor: str | None = None
    understood: tuple[UnderstoodPart, ...] = ()
    expected: float | None = None
    left_out: int = 0
    unknown_language: str | None = None
    technical: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)

    def __len__(self) -> int:
        return len(self.hits)

    def __getitem__(self, place: int) -> Hit:
        return self.hits[place]

    def __repr__(self) -> str:
        more = ", more follow" if self.next_cursor else ""
        first = f", first {self.hits[0]!r}" if self.hits else ""
        return f"<Answer: {len(self.hits)} hits by {self.mode}{more}{first}>"

    def to_pandas(self) -> "pd.DataFrame":
        """Return the hits as a pandas DataFrame, a row a hit with its scores and its item's fields.

        Raises UsageError where pandas is not installed.
        """
        records = []
        for hit in self.hits:
            told = {name: value for name, value in vars(hit).items() if name != "item"}
            item = {each.name: getattr(hit.item, each.name) for each in fields(Item)}
            records.append({"rank": told.pop("rank"), "path": item.pop("path"), **told, **item})
        return data_frame(records)


def data_frame(records: Sequence[Mapping[str, Any]]) -> "pd.DataFrame":
    """Return records as a pandas DataFrame; raises UsageError where pandas is not installed."""
    with import_errors_as(UsageError("DataFrames need pandas: pip install pandas")):
        import pandas as pd
    return pd.DataFrame.from_records(records)


def make_hits(
    page: "Candidates", items: Mapping[int, Item], groups: "Groups", first_rank: int
) -> tuple[Hit, ...]:
    """Make the hits of a page from its candidates. items: by id."""
    known = (
        [None if math.isnan(score) else score for score in scores.tolist()]
        for scores in (page.match, page.relevance, page.text_score)
    )
    columns = zip(page.ids.tolist(), page.similarity.tolist(), *known, strict=True)
    return tuple(
        Hit(
            rank,
            items[item_id],
            similarity,
            match,
            relevance,
            words,
            groups.get(item_id, ()),
            items[item_id].found_by,
        )
        for rank, (item_id, similarity, match, relevance, words) in enumerate(columns, first_rank)
    )


@dataclass
class StageTimer:
    """Adds up the wall time of named stages, in milliseconds."""

    timings_ms: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Time the block as (a part of) a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            elapsed = (time.perf_counter() - start) * 1000
            self.timings_ms[stage] = self.timings_ms.get(stage, 0.0) + elapsed

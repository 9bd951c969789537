"""The engine of a library in Lance: candidates by its vector search, facets by aggregation.

A query is planned, judged and ordered as any other. Filters go to the table as predicates, before
its search; nothing here is as long as the library. The row of an item is that of the table, and
every answer is of one version.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from retrieval.catalog import Item, Snapshot
from retrieval.catalog.column_condition import folded, writable
from retrieval.catalog.facets import (
    LONGEST_VALUE,
    MOST_COLUMNS,
    MOST_VALUES,
    ColumnFacet,
    Counts,
    FileFacets,
    Labels,
    month_name,
    months_of,
)
from retrieval.filters import ColumnValue, Filter
from retrieval.indices.base import AllowedRows
from retrieval.indices.searcher import FEW_ROWS, Searcher
from retrieval.lance.predicates import all_of, cell_in
from retrieval.lance.records import items_of, row_id_of, vectors_of
from retrieval.lance.snapshot import OF_ITEMS, LanceSnapshot, rows_in
from retrieval.lance.table import ROW_ID
from retrieval.lance.vectors import vectors_at
from retrieval.library import Library
from retrieval.media import Modality, clock_seconds
from retrieval.search.answer import StageTimer
from retrieval.search.candidates import (
    Candidates,
    TextMatches,
    best_text_matches,
    with_spare,
)
from retrieval.search.cursor import Cursor
from retrieval.search.engine import Counted, Engine, QueryPlan
from retrieval.search.facet_values import FacetQuestion
from retrieval.search.item_order import Order, Place
from retrieval.search.query import MAX_K
from retrieval.search.relevance import SAMPLE_ROWS, sample_rows

_MOST_LISTED = 1_000_000
"""Rows of a modality up to which a sample is drawn as from a library of this machine."""
_SECONDS_A_DAY = 86_400

_At = dict[int, tuple[Item, ...]]


@dataclass(frozen=True, eq=False)
class PassingRows(AllowedRows):
    """The rows that pass a filter, of which only the number is known."""

    passing: int = 0

    @property
    def count(self) -> int:
        """Return the number of rows allowed."""
        return self.passing


class LanceEngine(Engine):
    """Answers queries over a library in Lance; newer versions are seen at the next query."""

    def __init__(
        self, library: Library, *, space_id: str | None = None, device: str = "auto"
    ) -> None:
        super().__init__(library, space_id=space_id, device=device)
        self._snapshot_used: LanceSnapshot | None = None

    def _allowed(
        self, modality: Modality, where: Filter | None, cursor: Cursor | None, snapshot: Snapshot
    ) -> tuple[int, AllowedRows | None, bool]:
        table = _of(snapshot)
        row_count = self._cache.row_count(snapshot, modality)
        row_limit = min(cursor.row_limit, row_count) if cursor else row_count
        nothing = np.empty(0, np.bool_)
        return row_limit, PassingRows(nothing, where, table.count(where, modality)), True

    def _has_any(self, modality: Modality, where: Filter, snapshot: Snapshot) -> bool:
        return _of(snapshot).count(where, modality) > 0

    def _searcher(self, modality: Modality, snapshot: Snapshot) -> Searcher:
        """Return what stands for a searcher: it tells what was wrong, and nothing ever is."""
        self._snapshot_used = _of(snapshot)
        return cast("Searcher", _TableSearcher())

    def _troubles(self, modality: Modality) -> tuple[str, ...]:
        return ()

    def _vectors_at(self, modality: Modality, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        return self._fetch(rows).astype(np.float32)

    def _fetch(self, rows: NDArray[np.int64]) -> NDArray[np.float16]:
        """Return the vectors of rows, (n, d), in their order; of those that are gone, zeros."""
        assert self._snapshot_used is not None
        return vectors_at(self._snapshot_used.table, rows.tolist())[0]

    def _sample_ids(self, modality: Modality, row_limit: int) -> NDArray[np.int64]:
        """Choose the rows of the sample, (m,), ascending: always the same of a version."""
        snapshot = self._snapshot_used
        assert snapshot is not None

        def choose() -> NDArray[np.int64]:
            passing = all_of([snapshot.predicate(_ALL, modality), f"{ROW_ID} < {row_limit}"])
            if row_limit > _MOST_LISTED:
                drawn = np.random.default_rng(0).integers(0, row_limit, 8 * SAMPLE_ROWS)
                passing = all_of([passing, rows_in(np.unique(drawn).tolist())])
            # Copies of a file have the same vector, which counts once.
            rows = snapshot.query(
                f"SELECT min({ROW_ID}) AS first", passing, "GROUP BY content_hash, part"
            )
            ids = np.sort(np.array([row["first"] for row in rows], np.int64))
            return ids[sample_rows(len(ids))]

        return snapshot.once(("sample", modality, row_limit), choose)

    def _sample(self, modality: Modality, row_limit: int) -> NDArray[np.float32]:
        snapshot = self._snapshot_used
        assert snapshot is not None
        ids = self._sample_ids(modality, row_limit)
        return snapshot.once(
            ("vectors", modality, row_limit), lambda: self._fetch(ids).astype(np.float32)
        )

    def _sample_passes(self, plan: QueryPlan) -> NDArray[np.bool_] | None:
        snapshot = self._snapshot_used
        assert snapshot is not None
        modality = plan.query.modality
        ids = self._sample_ids(modality, plan.row_limit)

        def read() -> NDArray[np.bool_]:
            passing = all_of([snapshot.predicate(plan.where, modality), rows_in(ids.tolist())])
            if not len(ids):
                return np.empty(0, np.bool_)
            return np.isin(ids, snapshot.table.read((ROW_ID,), passing).column(ROW_ID).to_numpy())

        return snapshot.once(("passes", plan.where, modality, plan.row_limit), read)

    def _best_by_text(
        self, plan: QueryPlan, searcher: Searcher
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        rows = np.array(sorted(plan.text.scores), np.int64)
        numbered = {place: plan.text.scores[row] for place, row in enumerate(rows.tolist())}
        places, similarity = best_text_matches(
            plan.vector, TextMatches(numbered, {}), self._fetch(rows), plan.count
        )
        return rows[places], similarity

    def _nearest(
        self,
        searcher: Searcher,
        plans: Mapping[int, QueryPlan],
        snapshot: Snapshot,
        timer: StageTimer,
    ) -> dict[int, tuple[Candidates, bool, _At]]:
        found = {}
        with timer("candidates"):
            for place, plan in plans.items():
                found[place] = self._nearest_to(plan, _of(snapshot))
        return found

    def _nearest_to(self, plan: QueryPlan, snapshot: LanceSnapshot) -> tuple[Candidates, bool, _At]:
        """Find the items nearest to a vector, whether there are no others, and items by row."""
        assert plan.allowed is not None
        wanted = with_spare(plan.count)
        if not plan.allowed.count:
            return Candidates.none(), True, {}
        passing = all_of(
            [snapshot.predicate(plan.where, plan.query.modality), f"{ROW_ID} < {plan.row_limit}"]
        )
        rows = snapshot.nearest(
            plan.vector,
            wanted,
            passing,
            kind=plan.kind,
            is_exact=plan.allowed.count <= FEW_ROWS,
        )
        ids = rows.column(ROW_ID).to_numpy().astype(np.int64)
        similarity = vectors_of(rows).astype(np.float32) @ plan.vector
        # Of equals the older row first, as everywhere.
        order = np.lexsort((ids, -similarity))[: plan.count]
        of_items = rows.select(snapshot.table.known_columns(OF_ITEMS))
        at: _At = {row_id_of(item.id): (item,) for item in items_of(of_items)}
        candidates = Candidates.of(ids[order] + 1, ids[order], similarity[order])
        is_all = bool(rows.num_rows < wanted and len(order) == rows.num_rows)
        return candidates, is_all, at

    @contextmanager
    def _selected(
        self,
        modality: Modality,
        where: Filter | None,
        item_ids: NDArray[np.int64] | None,
        asked: FacetQuestion | None = None,
    ) -> Iterator[Counted]:
        column, part = (asked.column, asked.contains) if asked else (None, "")
        with self._cache.snapshot() as snapshot:
            table = _of(snapshot)
            table.require_collections(where)
            counted = table.predicate(where, modality)
            if item_ids is not None:
                rows = list(map(row_id_of, item_ids.tolist()))
                counted = all_of([counted, rows_in(rows)]) if rows else "false"
            total = table.table.count(counted)
            columns, left_out = _column_facets(table, counted, column, part)
            ids = np.broadcast_to(np.int64(0), total)
            yield Counted(
                ids,
                ids,
                _file_facets(table, counted),
                columns,
                _counts_of(table.collected(counted)),
                is_partial=item_ids is not None and len(item_ids) == MAX_K,
                left_out=left_out,
            )

    def skip_items(
        self,
        count: int,
        *,
        order: Order,
        modality: Modality | None = None,
        where: Filter | None = None,
        after: Place | None = None,
    ) -> Place | None:
        """Find where a list of items goes on after a number of them; see `Engine.skip_items`."""
        with self._lists_lock, self._lists.snapshot() as snapshot:
            item = _of(snapshot).skip(
                count,
                where,
                modality,
                by_date=order.is_by_date,
                descending=order in {Order.NEWEST, Order.DATE},
                after=None if after is None else (after.date, after.item_id),
            )
            if item is None:
                return after
            return Place(item.id, _second(item) if order.is_by_date else None)


class _TableSearcher:
    """What stands for the searcher of a table, which keeps no rows of it."""

    problem: str | None = None
    damage: str | None = None
    generation: None = None

    def are_whole(self, numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell that all rows are whole: the store checks what it holds."""
        return np.ones(len(numbers), np.bool_)


def _second(item: Item) -> int | None:
    return None if item.taken_local is None else clock_seconds(item.taken_local)


_ALL = Filter(hidden="any")


def _of(snapshot: Snapshot) -> LanceSnapshot:
    assert isinstance(snapshot, LanceSnapshot)
    return snapshot


@dataclass(frozen=True, eq=False)
class _Counted(Labels):
    """Values that the table has counted."""

    counts: Counts

    def count(self, file_ids: NDArray[np.int64]) -> Counts:
        """Return the counts; file_ids: not looked at."""
        return self.counts


@dataclass(frozen=True, eq=False)
class _CountedColumn(ColumnFacet):
    """Values of a column that the table has counted."""

    counts: Sequence[tuple[ColumnValue, int]]

    def count(
        self, file_ids: NDArray[np.int64], item_ids: NDArray[np.int64]
    ) -> list[tuple[ColumnValue, int]]:
        """Return the counts; file_ids, item_ids: not looked at."""
        return list(self.counts)


def _labels(counts: Counts) -> Labels:
    return _Counted(str, np.empty(0, np.int32), sorted(counts))


def _counts_of(counts: Mapping[Any, int]) -> ColumnFacet:
    nothing = np.empty((0, 2), np.int64)
    return _CountedColumn(list(counts), nothing, nothing, list(counts.items()))


def _file_facets(table: LanceSnapshot, predicate: str) -> FileFacets:
    def group(value: str) -> Counts:
        rows = table.query(f"SELECT {value} AS value, count(*) AS n", predicate, "GROUP BY value")
        return [(row["value"], int(row["n"])) for row in rows if row["value"] not in {None, ""}]

    day = f"CAST(floor(taken_local / {float(_SECONDS_A_DAY)}) AS BIGINT)"
    months: dict[str, int] = {}
    days = [(int(value), count) for value, count in group(day)]
    codes = months_of([value * _SECONDS_A_DAY for value, _ in days]).tolist()
    for code, (_, count) in zip(codes, days, strict=True):
        if code:
            name = month_name(code)
            months[name] = months.get(name, 0) + count
    labels = {name: _labels(group(name)) for name in ("camera", "kind", "place")}
    sources = [source.rstrip("/") for source in table.sources()]
    return FileFacets(_labels(list(months.items())), _labels(group("folder")), labels, sources)


def _column_facets(
    table: LanceSnapshot, predicate: str, name: str | None, part: str
) -> tuple[dict[str, ColumnFacet], int]:
    """Count the values of columns that have few, and of one that is asked for, with those left out.

    name: of that column. part: what its values contain, in any case.
    """
    rows = table.query(
        "SELECT cell, count(*) AS n FROM (SELECT unnest(cells) AS cell",
        all_of([predicate, "cells IS NOT NULL"]),
        ") GROUP BY cell",
    )
    counted: dict[str, dict[ColumnValue, int]] = {}
    for row in rows:
        if (cell := cell_in(row["cell"])) is not None and _is_shown(cell[1]):
            counted.setdefault(cell[0], {})[cell[1]] = int(row["n"])
    sizes: dict[str, int] = {}
    for known, _ in table.cells():
        sizes[known] = sizes.get(known, 0) + 1
    few = [known for known in sorted(sizes) if sizes[known] <= MOST_VALUES][:MOST_COLUMNS]
    found = {known: _counts_of(counted[known]) for known in few if known in counted}
    if name is None or name in found:
        return found, 0
    wanted = writable(folded(part))
    values = {
        value: count
        for value, count in counted.get(name, {}).items()
        if wanted in writable(folded(str(value)))
    }
    if not part and len(values) > MOST_VALUES:
        return {name: _counts_of({})}, len(values)
    best = sorted(values.items(), key=lambda one: -one[1])
    return {name: _counts_of(dict(best[:MOST_VALUES]))}, len(best[MOST_VALUES:])


def _is_shown(value: ColumnValue) -> bool:
    if isinstance(value, str):
        return 0 < len(value) <= LONGEST_VALUE
    return bool(np.isfinite(value))

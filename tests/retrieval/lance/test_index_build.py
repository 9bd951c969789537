"""Indices over a real table, against exact search."""

import numpy as np
import pytest

from benchmarks.vectors.synthetic_vectors import SyntheticVectors
from retrieval.catalog import FileEntry, ItemEntry
from retrieval.catalog.whole import StoredItem
from retrieval.encoders.base import Space, Vectors
from retrieval.indices.exact import nearest
from retrieval.lance import index_build
from retrieval.lance.index_build import (
    SearchedTable,
    TableIndexOptions,
    build_table_index,
    exact_neighbours,
)
from retrieval.lance.index_settings import IVF_PQ, IVF_RQ, settings_of
from retrieval.lance.records import stored_file, table_of
from retrieval.lance.table import ROW_ID, LanceTable
from retrieval.media import MediaKind, Modality

pytestmark = pytest.mark.slow

_ROWS = 1500
_VECTORS = SyntheticVectors(dimension=64)


@pytest.fixture(autouse=True)
def few_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tune with few queries: the machine of tests need not find the fastest effort."""
    monkeypatch.setattr(index_build, "_QUERIES", 60)
    monkeypatch.setattr(index_build, "TIMED_QUERIES", 2)


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    return _VECTORS.images(_ROWS).astype(np.float16)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory, rows: np.ndarray) -> LanceTable:
    """A table of three fragments, with a file that failed."""
    space = Space("vectors:toy", "none", "none", 64)
    table = LanceTable.create(f"lance:{tmp_path_factory.mktemp('lance') / 'table'}", space)
    failed = stored_file(FileEntry("/bad.jpg", MediaKind.IMAGE, 1, 1, ""), (), failure="damaged")
    table.append(table_of([failed], space))
    for begin in range(0, _ROWS, _ROWS // 3):
        files = [
            stored_file(
                FileEntry(f"/{row:05}.jpg", MediaKind.IMAGE, 1, 1, f"{row:032x}"),
                [StoredItem(ItemEntry(Modality.IMAGE, -1), rows[row])],
            )
            for row in range(begin, begin + _ROWS // 3)
        ]
        table.append(table_of(files, space))
    return table


def _texts(texts: list[str]) -> Vectors:
    return _VECTORS.texts(len(texts))


def test_exact_neighbours(table: LanceTable, rows: np.ndarray) -> None:
    queries = _VECTORS.texts(20)
    stored = table.read([ROW_ID, "path"], "modality IS NOT NULL").to_pydict()
    row_of = {
        row_id: int(path[1:6]) for row_id, path in zip(stored[ROW_ID], stored["path"], strict=True)
    }
    ids = exact_neighbours(table, queries, 10)
    found = [[row_of[one] for one in of_query] for of_query in ids.tolist()]
    assert found == nearest(queries, rows, 10)[1].tolist()


@pytest.mark.parametrize("kind", [IVF_PQ, IVF_RQ])
def test_built_tuned_and_kept(table: LanceTable, kind: str) -> None:
    version = table.version
    built = build_table_index(table, _texts, TableIndexOptions(kind, None, 0.9))
    assert built is not None
    assert table.version > version
    assert settings_of(LanceTable.open(table.location)) == built
    assert built.efforts.keys() == {Modality.TEXT, Modality.IMAGE}
    [index] = [one for one in table.dataset.describe_indices() if one.field_names == ["vector"]]
    assert index.index_type == kind
    # Queries that it was not tuned with.
    queries = _VECTORS.texts(160)[60:]
    exact = exact_neighbours(table, queries, 10)
    searched = SearchedTable(table, built.partitions, built.rows)
    effort = built.effort(Modality.TEXT)
    recall = np.mean(
        [
            np.isin(want, searched.refined(query[None], 10, effort)).mean()
            for want, query in zip(exact, queries, strict=True)
        ]
    )
    assert recall >= 0.8


def test_few_vectors_need_none(table: LanceTable) -> None:
    version = table.version
    assert build_table_index(table, _texts) is None
    assert table.version == version


def test_target_stays(table: LanceTable) -> None:
    build_table_index(table, None, TableIndexOptions(IVF_RQ, 3, 0.8))
    again = build_table_index(table, None, TableIndexOptions(IVF_RQ, 3))
    assert again is not None
    assert (again.target_recall, again.partitions) == (0.8, 3)
    assert again.efforts.keys() == {Modality.IMAGE}

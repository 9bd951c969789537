import numpy as np
import pytest

from retrieval.catalog import FileEntry, ItemEntry
from retrieval.indices.base import Effort
from retrieval.lance.index_settings import TableIndexSettings, keep_settings
from retrieval.lance.records import StoredItem, stored_file, table_of
from retrieval.lance.table import LanceTable
from retrieval.lance.vector_index import (
    REFINE,
    TableIndex,
    facts_of,
    indices_of,
    vector_index_of,
)
from retrieval.media import MediaKind, Modality

pytest.importorskip("lance", reason="needs Lance: pip install 'mmsearch[cluster]'")


def test_more_lists_are_searched_for_more_hits_but_never_more_than_there_are():
    index = TableIndex("i", "vector", "IVF_PQ", 10, "cosine", 1000)
    text = Modality.TEXT
    assert index.effort(10, text) == index.effort(1, text) == Effort(125, REFINE)
    assert 125 < index.effort(100, text).breadth < 1000
    assert index.effort(10**9, text).breadth == 1000
    assert TableIndex("i", "vector", "IVF_PQ", 10, "cosine", 8).effort(10, text).breadth == 8


@pytest.mark.parametrize(
    "settings", ["", "[]", "{", '{"efforts": {"x": 1}}', '{"efforts": {"text": {"nprobes": -1}}}']
)
def test_an_index_is_searched_as_it_was_tuned(tmp_path, space, make_file, settings):
    table = LanceTable.create(f"lance:{tmp_path}/table", space)
    files = [make_file(f"/{number}.jpg") for number in range(300)]
    table.append(table_of(files, space))
    table.dataset.create_index("vector", "IVF_PQ", num_partitions=1, num_sub_vectors=4)
    table = LanceTable.open(table.location)
    table.dataset.update_schema_metadata({"mmsearch.index": settings})
    index = vector_index_of(LanceTable.open(table.location))
    assert index is not None
    assert index.tuned == {}
    tuned = {Modality.TEXT: Effort(7, 3, 0.99)}
    keep_settings(table, TableIndexSettings("IVF_PQ", 1, 4, 300, 0.98, (), tuned))
    index = vector_index_of(LanceTable.open(table.location))
    assert index is not None
    assert index.tuned == tuned


@pytest.mark.slow
def test_the_indices_of_a_table_are_described(tmp_path, space):
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(700, 8)).astype(np.float16)
    files = [
        stored_file(
            FileEntry(f"/{number}", MediaKind.IMAGE, 1, 1, f"{number}"),
            [StoredItem(ItemEntry(Modality.IMAGE, -1), vector)],
        )
        for number, vector in enumerate(vectors)
    ]
    table = LanceTable.create(f"lance:{tmp_path}/table", space)
    table.append(table_of(files[:600], space))
    assert vector_index_of(table) is None
    facts = facts_of(table, Modality.IMAGE)
    assert (facts["kind"], facts["rows"], facts["rows_past"]) == ("exact", 600, 600)
    table.create_indices()
    table.dataset.create_index(
        "vector", "IVF_PQ", metric="cosine", num_partitions=2, num_sub_vectors=4
    )
    table = LanceTable.open(table.location)
    index = vector_index_of(table)
    assert index is not None
    assert (index.kind, index.metric, index.partitions, index.rows) == ("IVF_PQ", "cosine", 2, 600)
    assert {"path", "cells", "words"} <= {one.column for one in indices_of(table)}
    table.append(table_of(files[600:], space))
    facts = facts_of(table, Modality.IMAGE)
    assert (facts["kind"], facts["rows"], facts["rows_covered"]) == ("IVF_PQ", 700, 600)
    assert "2 lists" in facts["reasons"][0]
    assert facts_of(table, Modality.TEXT)["rows_covered"] == 0

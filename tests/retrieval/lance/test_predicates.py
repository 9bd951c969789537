import os
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.catalog import Catalog, FileEntry, ItemEntry
from retrieval.catalog.path_glob import matches
from retrieval.encoders.base import Space
from retrieval.errors import UsageError
from retrieval.filters import ColumnTest, Filter
from retrieval.lance.predicates import glob_expression, literal, predicate_of, shown
from retrieval.lance.records import StoredItem, stored_file, table_of
from retrieval.lance.snapshot import LanceSnapshot, Memory
from retrieval.lance.table import ROW_ID, LanceTable
from retrieval.media import Metadata, Modality
from tests.retrieval.catalog.test_filtering import PIECES, filters, make, matching_rows

lance = pytest.importorskip("lance", reason="needs Lance: pip install 'mmsearch[cluster]'")

SIGNS = ["'", '"', "\\", "\0", "\n", "%", "_", "{}", "--", "/*", "é", "e\u0301", "𝄞", "\u202e", "x"]


@pytest.fixture(scope="module", params=range(3))
def twins(request, tmp_path_factory):
    """A catalog that was made at random, and a table of the same files."""
    folder = tmp_path_factory.mktemp("twins")
    catalog = Catalog(folder / "catalog.sqlite")
    catalog.migrate()
    truth = make(catalog, request.param)
    space = Space("toy", "sha256:0", "none", 2)
    files = []
    for number, fact in enumerate(truth):
        if not fact["is_live"]:
            continue
        latitude, longitude = fact["place"]
        metadata = Metadata(
            fact["taken_at"],
            fact["camera"],
            latitude,
            longitude,
            place=fact["names"],
            columns=fact["own"],
        )
        if fact["taken_at"] is not None and fact["ahead"] is not None:
            local = fact["taken_at"] + fact["ahead"]
            metadata = Metadata(**vars_of(metadata) | {"taken_local": local})
        file = FileEntry(
            fact["path"], fact["kind"], 10, fact["mtime_ns"], f"content {number}", metadata
        )
        size = {"width": fact["width"], "height": fact["height"], "page": number}
        entry = ItemEntry(Modality.IMAGE, number, columns=fact["columns"], **size)
        said = [("/table.csv", columns) for columns in fact["annotations"]]
        item = StoredItem(entry, np.array([1, 0], np.float16))
        files.append(stored_file(file, [item], said=said))
    table = LanceTable.create(f"lance:{folder}/table", space)
    table.append(table_of(files, space))
    yield catalog, truth, LanceSnapshot(table, Memory())
    catalog.close()


def vars_of(metadata: Metadata) -> dict:
    return {name: getattr(metadata, name) for name in Metadata.__dataclass_fields__}


def passing(snapshot: LanceSnapshot, where: Filter) -> set[int]:
    """Return the rows of the catalog that pass, which stand as pages in the table."""
    found = snapshot.table.read(("page",), predicate_of(where, snapshot))
    return set(found.column("page").to_pylist())


@pytest.mark.slow
@given(where=filters)
def test_a_predicate_lets_pass_what_a_catalog_lets_pass(twins, where):
    catalog, truth, table = twins
    with catalog.snapshot() as snapshot:
        wanted = set(np.flatnonzero(matching_rows(snapshot, where)).tolist())
    assert passing(table, where) == wanted
    live = {number for number, fact in enumerate(truth) if fact["is_live"]}
    assert passing(table, Filter(none_of=where)) == live - wanted


@pytest.mark.slow
@given(st.lists(st.sampled_from([*PIECES, "[!/]", "[]]", "**/", "e\u0301"]), max_size=6))
def test_a_glob_matches_the_same_paths(twins, pieces):
    _, truth, table = twins
    where = Filter(path="".join(pieces) or "*")
    assert passing(table, where) == {
        number
        for number, fact in enumerate(truth)
        if fact["is_live"] and matches(where.path, os.fsencode(fact["path"]))
    }


@pytest.fixture(scope="module")
def odd_table(tmp_path_factory):
    """A table whose texts try to end a literal."""
    draw = random.Random(0)
    texts = ["/" + "".join(draw.choices(SIGNS, k=draw.randint(1, 5))) for _ in range(300)]
    texts = sorted(set(texts))
    pa = pytest.importorskip("pyarrow")
    columns = {"path": texts, "path_bytes": pa.nulls(len(texts), pa.binary()), "camera": texts}
    cells = [[f'["name", {text!r}]'] for text in texts]
    rows = pa.table({**columns, "cells": cells, "collections": cells})
    place = tmp_path_factory.mktemp("odd")
    return lance.write_dataset(rows, str(place / "table"), enable_stable_row_ids=True), texts


class Texts:
    """Stands for a table: its columns have the same texts."""

    def __init__(self, texts):
        self.texts = texts

    def distinct(self, column, predicate=None):
        assert column != "path" or predicate
        return self.texts if column != "path" else []

    def escaped_paths(self):
        return {}


def test_no_text_ends_its_literal(odd_table):
    dataset, texts = odd_table
    for text in texts:
        for column in ("path", "camera"):
            found = dataset.to_table(columns=["path"], filter=f"{column} = {literal(text)}")
            assert found.column("path").to_pylist() == [text]
        where = Filter(camera_name=text)
        found = dataset.to_table(columns=["path"], filter=predicate_of(where, Texts(texts)))
        assert found.column("path").to_pylist() == [text]


@pytest.mark.parametrize("field", ["source", "path", "camera", "place", "label", "collection"])
def test_what_a_stranger_asks_for_is_only_a_text(odd_table, field):
    dataset, _ = odd_table
    for attack in ("' OR true --", "') OR (true", "x' OR path = '/x", "\0' OR true", "\\' OR true"):
        predicate = predicate_of(Filter(**{field: attack}), Texts([]))
        assert dataset.count_rows(predicate) == 0
    predicate = predicate_of(Filter(columns={"' OR true --": ColumnTest(equals="x")}), Texts([]))
    assert dataset.count_rows(predicate) == 0


def test_an_expression_for_a_glob_looks_nowhere_ahead():
    for pattern in ("/a/**/b", "**/**/x*", "[!a]/*", "/[/]", "**", "*.jpg", "/a[]b]?"):
        assert "(?!" not in glob_expression(pattern)
        assert "(?=" not in glob_expression(pattern)


def test_hidden_items_pass_only_where_a_filter_speaks_of_them(tmp_path, space, make_file):
    table = LanceTable.create(f"lance:{tmp_path}/table", space)
    table.append(table_of([make_file("/a"), make_file("/b")], space))
    table.dataset.update({"hidden": "true"}, where="path = '/b'")
    snapshot = LanceSnapshot(table, Memory())

    def paths(where: Filter | None) -> list[str]:
        return table.read(("path", ROW_ID), shown(where, snapshot)).column("path").to_pylist()

    assert paths(None) == paths(Filter(path="*")) == paths(Filter(hidden=False)) == ["/a"]
    assert paths(Filter(hidden=True)) == ["/b"]
    assert paths(Filter(hidden="any")) == ["/a", "/b"]
    assert paths(Filter(none_of=Filter(hidden=True))) == ["/a"]


@pytest.mark.parametrize("where", [{"has_text": True}, {"not": {"has_text": False}}])
def test_what_tables_do_not_know_is_refused(where):
    with pytest.raises(UsageError, match="do not know which pictures show text"):
        predicate_of(Filter.model_validate(where), None)

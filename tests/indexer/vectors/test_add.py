"""Vectors that were made elsewhere, in a library."""

import json
from datetime import date, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from indexer.pipeline import index_sources
from indexer.vectors.add import (
    GivenItem,
    add_vectors,
    annotate_files,
    clean_columns,
    unit_vectors,
)
from indexer.vectors.stored import stored_vectors
from retrieval.catalog import FileState
from retrieval.encoders.given import given_space
from retrieval.errors import UsageError
from retrieval.filters import Filter
from retrieval.integrity.backup import back_up, restore
from retrieval.integrity.check import check_library
from retrieval.library import create_library, open_library
from retrieval.search.joint import JointEngine
from retrieval.search.query import ItemPart, JointQuery, Query, Reranking, TextPart, VectorPart
from retrieval.spaces import list_spaces

SPACE = given_space("things", 8)


@pytest.fixture
def vectors():
    return np.random.default_rng(0).normal(size=(50, 8))


@pytest.fixture
def library(tmp_path, vectors):
    library = create_library(tmp_path / "library", SPACE)
    items = [
        GivenItem(f"item-{n}", columns={"price": n / 2, "name": f"thing {n}"}) for n in range(50)
    ]
    add_vectors(library, SPACE, [(items[:20], vectors[:20]), (items[20:], vectors[20:])])
    yield library
    library.close()


def found(library, *parts, k=3, space=None, **options):
    query = JointQuery(Query(parts, k=k, **options), space_ids=(space.id,) if space else ())
    return JointEngine(library).search(query)


def brute_force(vectors, query, k=3):
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return [f"vectors:things/item-{n}" for n in np.argsort(-(units @ query))[:k]]


def test_the_nearest_are_found_by_a_vector_and_by_an_item(library, vectors):
    for query in (vectors[7], np.random.default_rng(1).normal(size=8)):
        answer = found(library, VectorPart(query))
        assert [hit.path for hit in answer] == brute_force(vectors, query)
    [first, *_] = found(library, VectorPart(vectors[7] * 1e6))
    assert first.similarity == pytest.approx(1, abs=1e-3)
    assert first.item.columns == {"price": 3.5, "name": "thing 7"}
    near = found(library, ItemPart(first.item.id))
    assert [hit.path for hit in near] == brute_force(vectors, vectors[7], 4)[1:]


def test_payload_is_filtered_by(library, vectors):
    cheap = Filter.model_validate({"columns": {"price": {"max": 1}}})
    paths = [hit.path for hit in found(library, VectorPart(vectors[40]), k=50, where=cheap)]
    assert sorted(paths) == [f"vectors:things/item-{n}" for n in range(3)]


def test_texts_and_wrong_dimensions_are_refused_one_by_one(library, vectors):
    engine = JointEngine(library)
    text, wrong, right = engine.search_many(
        [
            (Query(parts), Reranking())
            for parts in (
                (TextPart("dog"),),
                (VectorPart(vectors[0][:4]),),
                (VectorPart(vectors[0]),),
            )
        ]
    )
    assert "no encoder for a new text" in str(text)
    assert "4 dimensions" in str(wrong)
    assert right[0].path == "vectors:things/item-0"


def test_what_is_added_again_has_its_new_vector_and_payload(library, vectors):
    [before] = found(library, VectorPart(vectors[3]), k=1)
    added = add_vectors(
        library, SPACE, [([GivenItem("item-3", columns={"price": 9})], -vectors[3:4])]
    )
    assert added.item_ids == [before.item.id]
    [after] = found(library, VectorPart(-vectors[3]), k=1)
    assert after.item.id == before.item.id
    assert after.item.columns == {"price": 9}
    assert sum(len(batch.items) for batch in stored_vectors(library, SPACE)) == 50


def test_vectors_that_are_none_are_named_and_left_out(library):
    bad = np.ones((4, 8))
    bad[1, 3], bad[2, 0], bad[3] = np.nan, np.inf, 0
    added = add_vectors(library, SPACE, [([GivenItem(f"b{n}") for n in range(4)], bad)])
    assert added.count == 1
    assert added.skipped == [("b1", "not finite"), ("b2", "not finite"), ("b3", "all values are 0")]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.ones((2, 9)), "have the shape"),
        (np.ones((1, 8)), "have the shape"),
        (np.array([["a"] * 8] * 2), "are numbers"),
    ],
)
def test_vectors_that_do_not_fit_are_refused(library, wrong, message):
    with pytest.raises(UsageError, match=message):
        add_vectors(library, SPACE, [([GivenItem("a"), GivenItem("b")], wrong)])


def test_they_survive_indexing_check_and_backup(tmp_path, tiny_encoder, picture_folder, vectors):
    library = create_library(tmp_path / "library", tiny_encoder.space)
    index_sources(library, tiny_encoder, [picture_folder])
    one, *_ = sorted(map(str, picture_folder.rglob("*.png")))
    items = [
        GivenItem("", path=one, columns={"price": 5}),
        GivenItem("", path="not/there.jpg", columns={"price": 6}),
        GivenItem("mine"),
    ]
    add_vectors(library, SPACE, [(items, vectors[:3])])
    index_sources(library, tiny_encoder)
    index_sources(library, tiny_encoder, [picture_folder], refresh_metadata=True)

    def is_all_there(library):
        paths = [found(library, VectorPart(v), k=1, space=SPACE)[0].path for v in vectors[:3]]
        assert paths == [one, "vectors:things/not/there.jpg", "vectors:things/mine"]
        dear = Filter.model_validate({"columns": {"price": {"min": 5}}})
        answer = found(library, VectorPart(vectors[0]), where=dear, space=SPACE)
        assert {hit.path for hit in answer} == {one, "vectors:things/not/there.jpg"}
        by_text = found(library, TextPart("anything"), k=20)
        assert len(by_text) == 6  # the pictures, in their own space

    is_all_there(library)
    assert [status.files_behind for status in list_spaces(library)] == [0, 0]
    report = check_library(library, files=True)
    assert (report.problems, report.notes) == ([], [])
    back_up(library, tmp_path / "backup")
    library.close()
    restore(tmp_path / "backup", tmp_path / "restored")
    restored = open_library(tmp_path / "restored")
    is_all_there(restored)
    restored.remove_space(SPACE.id)
    assert len(found(restored, TextPart("anything"), k=20)) == 6
    restored.close()


def test_a_file_that_the_library_does_not_know_is_recorded(tmp_path, library, vectors, photos):
    add_vectors(
        library,
        SPACE,
        [([GivenItem("", path=photos["cat"].name)], vectors[:1] + 1)],
        folder=photos["cat"].parent,
    )
    [hit] = found(library, VectorPart(vectors[0] + 1), k=1)
    assert hit.path == str(photos["cat"])
    assert hit.item.size == photos["cat"].stat().st_size
    with library.catalog.snapshot() as snapshot:
        [known] = snapshot.files_below([str(photos["cat"])], SPACE.id)
    assert known.state is FileState.INDEXED
    assert known.embedded  # so that the indexer need not


def test_what_was_said_of_files_is_replaced(library, picture_folder, tiny_encoder, vectors):
    one, *_ = sorted(map(str, picture_folder.rglob("*.png")))
    add_vectors(library, SPACE, [([GivenItem("", path=one, columns={"a": 1})], vectors[:1])])
    annotate_files(library, {one: {"b": 2}})
    with library.catalog.snapshot() as snapshot:
        assert snapshot.said_of([one]) == {one: {"b": 2}}


def test_payload_is_what_json_and_filters_know():
    clean = clean_columns(
        {
            "a": np.float32(0.5),
            "b": np.int64(3),
            "c": float("nan"),
            "d": date(2024, 5, 1),
            "e": datetime(2024, 5, 1, 12),
            "f": ("x", None, np.True_),
            "g": {"h": np.array([1, 2])},
            "i": None,
        }
    )
    assert json.loads(json.dumps(clean)) == {
        "a": 0.5,
        "b": 3,
        "d": "2024-05-01",
        "e": "2024-05-01T12:00:00",
        "f": ["x", True],
        "g": {"h": [1, 2]},
    }
    with pytest.raises(TypeError, match="what is known of an item is a text"):
        clean_columns({"a": object()})


@given(
    arrays(
        st.sampled_from([np.float16, np.float32, np.float64, np.int64]),
        st.tuples(st.integers(0, 4), st.just(3)),
    )
)
def test_all_that_can_be_scaled_has_unit_length(vectors):
    units, is_good = unit_vectors(vectors, 3, len(vectors))
    assert units.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(units[is_good], axis=1), 1, rtol=1e-5)
    expected = np.isfinite(vectors).all(axis=1) & (vectors != 0).any(axis=1)
    assert (is_good == expected).all()

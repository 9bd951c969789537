import numpy as np
import pytest

from indexer.pipeline import index_sources, remove_paths
from retrieval.catalog import Modality
from retrieval.library import open_library
from retrieval.search.live_rows import LiveRows


@pytest.fixture
def live_rows(indexed_library):
    return LiveRows(indexed_library.catalog, indexed_library.space().id)


def rows_of(library, paths):
    with library.catalog.snapshot() as snapshot:
        items = snapshot.items_at(library.space().id, Modality.IMAGE, range(100))
    return {row for row, found in items.items() for item in found if item.path in paths}


def test_rows_are_live_unless_their_files_are_removed_or_changed(
    indexed_library, live_rows, picture_folder, tiny_encoder
):
    files = sorted(map(str, picture_folder.rglob("*.png")))
    assert live_rows.of(Modality.IMAGE).tolist() == [True] * 6
    assert live_rows.of(Modality.TEXT).tolist() == []
    gone = rows_of(indexed_library, files[:2])
    remove_paths(indexed_library, files[:2])
    expected = np.array([row not in gone for row in range(6)])
    np.testing.assert_array_equal(live_rows.of(Modality.IMAGE), expected)
    changed = rows_of(indexed_library, files[2:3])
    (picture_folder / files[2]).write_bytes((picture_folder / files[3]).read_bytes())
    index_sources(indexed_library, tiny_encoder, [files[2]])
    expected[list(changed)] = False
    np.testing.assert_array_equal(live_rows.of(Modality.IMAGE), expected)


def test_they_are_read_again_only_after_a_commit(indexed_library, live_rows, picture_folder):
    first = live_rows.of(Modality.IMAGE)
    assert live_rows.of(Modality.IMAGE) is first
    other = open_library(indexed_library.path)
    remove_paths(other, [next(picture_folder.rglob("*.png"))])
    assert live_rows.of(Modality.IMAGE).sum() == 5
    remove_paths(indexed_library, [picture_folder])
    assert live_rows.of(Modality.IMAGE).sum() == 0


def test_files_that_come_back_are_live_again(
    indexed_library, live_rows, picture_folder, tiny_encoder
):
    remove_paths(indexed_library, [picture_folder])
    assert live_rows.of(Modality.IMAGE).sum() == 0
    index_sources(indexed_library, tiny_encoder, [picture_folder])
    assert live_rows.of(Modality.IMAGE).sum() == 6


def test_few_are_told_only_where_it_is_known(indexed_library, live_rows, picture_folder):
    assert live_rows.if_few(Modality.IMAGE) is None
    live_rows.of(Modality.IMAGE)
    assert live_rows.if_few(Modality.IMAGE) is None
    remove_paths(indexed_library, sorted(picture_folder.rglob("*.png"))[:4])
    assert live_rows.if_few(Modality.IMAGE) is None
    live_rows.of(Modality.IMAGE)
    assert live_rows.if_few(Modality.IMAGE).sum() == 2

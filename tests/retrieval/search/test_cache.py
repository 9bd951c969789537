import numpy as np
import pytest
from PIL import Image

from indexer.pipeline import index_sources, remove_paths
from retrieval.filters import Filter
from retrieval.library import open_library
from retrieval.media import Modality
from retrieval.search.cache import CatalogCache


@pytest.fixture
def cache(indexed_library):
    return CatalogCache(indexed_library.catalog, indexed_library.space().id)


def items_at(cache, rows, where=None):
    with cache.snapshot() as snapshot:
        return cache.items_at(snapshot, Modality.IMAGE, rows, where)


def rows_matching(cache, where):
    with cache.snapshot() as snapshot:
        return cache.rows_matching(snapshot, Modality.IMAGE, where)


def live_rows(cache, modality=Modality.IMAGE):
    with cache.snapshot() as snapshot:
        return cache.live_rows(snapshot, modality)


def live_rows_if_few(cache):
    with cache.snapshot():
        return cache.live_rows_if_few(Modality.IMAGE)


def rows_of(library, paths):
    with library.catalog.snapshot() as snapshot:
        items = snapshot.items_at(library.space().id, Modality.IMAGE, range(100))
    return {row for row, found in items.items() for item in found if item.path in paths}


def test_items_are_those_of_the_catalog_until_it_changes(indexed_library, cache):
    first = items_at(cache, [0, 1, 2])
    with indexed_library.catalog.snapshot() as snapshot:
        known = snapshot.items_at(indexed_library.space().id, Modality.IMAGE, range(10))
    assert items_at(cache, range(7)) == {row: tuple(known.get(row, ())) for row in range(7)}
    assert items_at(cache, [1])[1][0] is first[1][0]
    remove_paths(indexed_library, [first[1][0].path])
    assert items_at(cache, [0, 1]) == {0: first[0], 1: ()}


def test_items_of_different_filters_are_kept_apart(cache):
    everything = items_at(cache, range(6))
    some = items_at(cache, range(6), Filter(path="folder 1/*"))
    assert sum(map(len, everything.values())) == 6
    assert sum(map(len, some.values())) == 3
    assert items_at(cache, range(6)) == everything


def test_sets_of_rows_are_kept_until_the_catalog_changes(indexed_library, cache, picture_folder):
    where = Filter(path="folder 1/*")
    rows = rows_matching(cache, where)
    assert rows.sum() == 3
    assert rows_matching(cache, where) is rows
    remove_paths(indexed_library, [picture_folder / "folder 1" / "picture-1.png"])
    assert rows_matching(cache, where).sum() == 2


def test_rows_are_live_unless_their_files_are_removed_or_changed(
    indexed_library, cache, picture_folder, tiny_encoder
):
    files = sorted(map(str, picture_folder.rglob("*.png")))
    assert live_rows(cache).tolist() == [True] * 6
    assert live_rows(cache, Modality.TEXT).tolist() == []
    gone = rows_of(indexed_library, files[:2])
    remove_paths(indexed_library, files[:2])
    expected = np.array([row not in gone for row in range(6)])
    np.testing.assert_array_equal(live_rows(cache), expected)
    changed = rows_of(indexed_library, files[2:3])
    (picture_folder / files[2]).write_bytes((picture_folder / files[3]).read_bytes())
    index_sources(indexed_library, tiny_encoder, [files[2]])
    expected[list(changed)] = False
    np.testing.assert_array_equal(live_rows(cache), expected)


def test_live_rows_are_read_again_only_after_a_commit(indexed_library, cache, picture_folder):
    first = live_rows(cache)
    assert live_rows(cache) is first
    other = open_library(indexed_library.path)
    remove_paths(other, [next(picture_folder.rglob("*.png"))])
    assert live_rows(cache).sum() == 5
    remove_paths(indexed_library, [picture_folder])
    assert live_rows(cache).sum() == 0


def test_files_that_come_back_are_live_again(indexed_library, cache, picture_folder, tiny_encoder):
    remove_paths(indexed_library, [picture_folder])
    assert live_rows(cache).sum() == 0
    index_sources(indexed_library, tiny_encoder, [picture_folder])
    assert live_rows(cache).sum() == 6


def test_few_are_told_only_where_it_is_known(indexed_library, cache, picture_folder):
    assert live_rows_if_few(cache) is None
    live_rows(cache)
    assert live_rows_if_few(cache) is None
    remove_paths(indexed_library, sorted(picture_folder.rglob("*.png"))[:4])
    assert live_rows_if_few(cache) is None
    live_rows(cache)
    assert live_rows_if_few(cache).sum() == 2


def test_rows_are_counted_again_after_a_commit(
    indexed_library, cache, picture_folder, tiny_encoder
):
    def row_count():
        with cache.snapshot() as snapshot:
            return cache.row_count(snapshot, Modality.IMAGE)

    assert row_count() == row_count() == 6
    new = picture_folder / "new.png"
    Image.new("RGB", (9, 9)).save(new)
    index_sources(open_library(indexed_library.path), tiny_encoder, [new])
    assert row_count() == 7


def test_a_sample_is_drawn_once_for_so_many_rows(cache):
    rows = np.random.default_rng(0).normal(size=(3000, 4)).astype(np.float16)
    sample = cache.sample(Modality.IMAGE, rows)
    assert sample.shape == (1024, 4)
    assert sample.dtype == np.float32
    assert cache.sample(Modality.IMAGE, rows) is sample
    assert cache.sample(Modality.IMAGE, rows[:10]).shape == (10, 4)
    assert cache.sample(Modality.TEXT, rows) is not sample


def test_facets_are_read_once_a_version(indexed_library, cache, picture_folder):
    def facets():
        with cache.snapshot() as snapshot:
            return cache.facets(snapshot)

    first = facets()
    assert facets() is first
    remove_paths(indexed_library, [picture_folder / "folder 1"])
    assert facets() is not first

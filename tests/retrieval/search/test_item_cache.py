from indexer.pipeline import remove_paths
from retrieval.catalog import Modality
from retrieval.filters import Filter
from retrieval.search.item_cache import ItemCache
from retrieval.search.row_sets import RowSets, within


def read(library, cache, rows, where=None):
    version = library.catalog.version()
    with library.catalog.snapshot() as snapshot:
        return cache.items_at(snapshot, version, Modality.IMAGE, where, rows)


def test_items_are_those_of_the_catalog_until_it_changes(indexed_library, picture_folder):
    cache = ItemCache(indexed_library.space().id)
    first = read(indexed_library, cache, [0, 1, 2])
    with indexed_library.catalog.snapshot() as snapshot:
        known = snapshot.items_at(indexed_library.space().id, Modality.IMAGE, range(10))
    assert read(indexed_library, cache, range(7)) == {
        row: tuple(known.get(row, ())) for row in range(7)
    }
    assert read(indexed_library, cache, [1])[1][0] is first[1][0]
    remove_paths(indexed_library, [first[1][0].path])
    assert read(indexed_library, cache, [0, 1]) == {0: first[0], 1: ()}


def test_items_of_different_filters_are_kept_apart(indexed_library):
    cache = ItemCache(indexed_library.space().id)
    everything = read(indexed_library, cache, range(6))
    some = read(indexed_library, cache, range(6), Filter(path="folder 1/*"))
    assert sum(map(len, everything.values())) == 6
    assert sum(map(len, some.values())) == 3
    assert read(indexed_library, cache, range(6)) == everything


def test_sets_of_rows_are_kept_until_the_catalog_changes(indexed_library, picture_folder):
    sets = RowSets(indexed_library.space().id)
    where = Filter(path="folder 1/*")

    def matching():
        version = indexed_library.catalog.version()
        with indexed_library.catalog.snapshot() as snapshot:
            return sets.matching(snapshot, version, Modality.IMAGE, where)

    rows = matching()
    assert rows.sum() == 3
    assert matching() is rows
    remove_paths(indexed_library, [picture_folder / "folder 1" / "picture-1.png"])
    assert matching().sum() == 2
    assert within(None, 6, 6) is None
    assert within(None, 4, 6).tolist() == [True] * 4
    assert within(rows, 4, 6).tolist() == rows[:4].tolist()

import pytest

from indexer.pipeline import index_sources, remove_paths
from retrieval.catalog import Catalog
from retrieval.errors import NotFoundError, ReadOnlyLibraryError, UsageError
from retrieval.filters import Filter
from retrieval.integrity.backup import back_up, restore
from retrieval.integrity.check import check_library
from retrieval.library import open_library

pytestmark = pytest.mark.slow


def ids_of(library):
    return [hit.item.id for hit in library.search("anything", k=50, rerank="none")]


def test_a_collection_by_its_name(indexed_library):
    ids = ids_of(indexed_library)
    collections = indexed_library.collections
    made = collections.create("Summer")
    assert (made.name, made.items, collections.all()) == ("Summer", 0, [made])
    assert collections.add("SUMMER", [ids[2], ids[0]]) == 2
    assert [item.id for item in collections.items("summer")] == [ids[2], ids[0]]
    assert collections.remove("Summer", [ids[0]]) == 1
    assert collections.rename("Summer", "Winter").items == 1
    with pytest.raises(NotFoundError):
        collections.get("Summer")
    with pytest.raises(UsageError):
        collections.create("winter")
    collections.delete("Winter")
    assert collections.all() == []


def test_searches_and_facets_know_collections_and_hidden_items(indexed_library):
    ids = ids_of(indexed_library)
    assert len(ids) == 6
    indexed_library.collections.create("Some")
    indexed_library.collections.add("Some", ids[:3])
    assert indexed_library.hide(ids[1:3]) == 2
    assert ids_of(indexed_library) == [ids[0], *ids[3:]]

    def found(**where):
        answer = indexed_library.search("anything", k=50, rerank="none", where=Filter(**where))
        return [hit.item.id for hit in answer]

    assert found(collection="some") == ids[:1]
    assert found(collection="some", hidden="any") == ids[:3]
    assert found(hidden=True) == ids[1:3]
    by_words = indexed_library.search("png", mode="text", k=50)
    assert {hit.item.id for hit in by_words}.isdisjoint(ids[1:3])
    facets = indexed_library.facets()
    assert facets.total == 4
    assert [(v.value, v.count) for v in facets.collections] == [("Some", 1)]
    everything = indexed_library.facets(where=Filter(hidden="any"))
    assert [(v.value, v.count) for v in everything.collections] == [("Some", 3)]
    assert indexed_library.unhide(ids) == 2
    assert ids_of(indexed_library) == ids


def test_pages_of_a_search_are_full_though_the_first_hits_are_hidden(indexed_library):
    ids = ids_of(indexed_library)
    indexed_library.hide(ids[:4])
    answer = indexed_library.search("anything", k=1, rerank="none")
    assert [hit.item.id for hit in answer] == [ids[4]]
    last = indexed_library.search("anything", k=1, rerank="none", cursor=answer.next_cursor)
    assert [hit.item.id for hit in last] == [ids[5]]


def test_runs_of_the_indexer_keep_collections(indexed_library, picture_folder, tiny_encoder):
    ids = ids_of(indexed_library)
    collections = indexed_library.collections
    collections.create("Kept")
    collections.add("Kept", ids)
    paths = [item.path for item in collections.items("Kept")]
    first, second = (picture_folder / path for path in paths[:2])
    first.rename(picture_folder / "moved.png")
    (picture_folder / "copy.png").write_bytes(second.read_bytes())
    index_sources(indexed_library, tiny_encoder)
    second.unlink()
    index_sources(indexed_library, tiny_encoder)
    now = [str(picture_folder / "moved.png"), str(picture_folder / "copy.png"), *paths[2:]]
    assert [item.path for item in collections.items("Kept")] == now
    remove_paths(indexed_library, [now[0]])
    assert [item.path for item in collections.items("Kept")] == now[1:]
    assert check_library(indexed_library).is_whole


def test_writing_waits_for_no_run_of_the_indexer(indexed_library):
    with indexed_library.writer():
        assert indexed_library.hide(ids_of(indexed_library)[:1]) == 1


def test_a_backup_has_them(indexed_library, tmp_path):
    ids = ids_of(indexed_library)
    indexed_library.collections.create("Summer")
    indexed_library.collections.add("Summer", ids[:2])
    indexed_library.hide(ids[:1])
    indexed_library.saved_searches.save("Dogs", {"address": "q=dog"})
    back_up(indexed_library, tmp_path / "backup")
    restore(tmp_path / "backup", tmp_path / "restored")
    restored = open_library(tmp_path / "restored")
    assert [item.id for item in restored.collections.items("Summer")] == ids[1:2]
    [saved] = restored.saved_searches.all()
    assert saved.query == {"address": "q=dog"}
    restored.saved_searches.delete(saved.id)
    with pytest.raises(NotFoundError):
        restored.saved_searches.delete(saved.id)


def test_a_library_that_may_only_be_read_says_so(indexed_library, monkeypatch):
    indexed_library.close()
    monkeypatch.setattr("os.access", lambda *_: False)
    catalog = Catalog(indexed_library.path / "catalog.sqlite")
    with pytest.raises(ReadOnlyLibraryError, match="may only be read"), catalog.transaction() as t:
        t.create_collection("Summer")
    with catalog.snapshot() as snapshot:
        assert snapshot.collections() == []

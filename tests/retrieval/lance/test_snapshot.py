from dataclasses import replace
from datetime import datetime

import pytest

from retrieval.errors import NotFoundError, UsageError
from retrieval.filters import Filter, GeoBox
from retrieval.lance import snapshot
from retrieval.lance.library import as_table
from retrieval.media import Modality
from tests.opened_tables import FILTERS, name_of, names_of, rich_twins

pytest.importorskip("lance", reason="needs Lance: pip install 'mmsearch[cluster]'")
pytestmark = pytest.mark.slow

WHOLE = GeoBox(south=-90, north=90, west=-180, east=180)
EVERY = Filter(hidden="any")


@pytest.fixture(scope="module")
def twins(tmp_path_factory, tiny_encoder):
    return rich_twins(tmp_path_factory.mktemp("twins"), tiny_encoder)


@pytest.fixture(scope="module")
def space_id(twins):
    return twins.library.space().id


@pytest.fixture
def both(twins):
    with twins.library.catalog.snapshot() as one, twins.table.catalog.snapshot() as other:
        yield one, other


def test_numbers_and_names_are_those_of_the_catalog(both, space_id):
    one, other = both
    assert other.counts(space_id) == one.counts(space_id)
    for read in (
        *("kinds", "cameras", "folders", "days", "is_southern", "taken_between", "sources"),
        *("source_options", "failures", "notes", "saved_searches"),
    ):
        assert getattr(other, read)() == getattr(one, read)(), read
    assert sorted(other.places()) == sorted(one.places())
    assert other.columns().keys() == one.columns().keys()
    assert [(c.name, c.items) for c in other.collections()] == [
        (c.name, c.items) for c in one.collections()
    ]
    assert other.files_behind(space_id) == 0


@pytest.mark.parametrize("where", FILTERS)
@pytest.mark.parametrize("modality", [None, *Modality])
def test_lists_are_those_of_the_catalog_page_by_page(both, space_id, where, modality):
    one, other = both
    wanted = {"where": where, "modality": modality}
    names = names_of(one.items_by_name(space_id, limit=1000, **wanted))
    found, after = [], None
    while page := other.items_by_name(space_id, after=after, limit=7, **wanted):
        found += page
        after = page[-1].path, page[-1].id
    # Of one file, ids are in the order of either library.
    assert sorted(names_of(found)) == sorted(names)
    assert [name[0] for name in names_of(found)] == [name[0] for name in names]
    for newest_first in (False, True):
        listed, last = [], 0
        options = {**wanted, "limit": 5, "newest_first": newest_first}
        while page := other.items(space_id, after=last, **options):
            listed += page
            last = page[-1].id
        assert sorted(names_of(listed)) == sorted(names)
        ids = [item.id for item in listed]
        assert ids == sorted(ids, reverse=newest_first)
    for oldest_first in (False, True):
        dated, place = [], None
        options = {**wanted, "limit": 6, "oldest_first": oldest_first}
        while page := other.items_by_date(space_id, after=place, **options):
            dated += page
            place = page[-1].taken_local, page[-1].id
        expected = one.items_by_date(space_id, limit=1000, oldest_first=oldest_first, **wanted)
        assert [item.taken_local for item in dated] == [item.taken_local for item in expected]
        assert sorted(names_of(dated)) == sorted(names)


def test_items_are_those_of_the_catalog_but_for_their_ids(both, space_id):
    one, other = both
    expected = {name_of(item): item for item in one.items(space_id, where=EVERY, limit=1000)}
    found = {name_of(item): item for item in other.items(space_id, where=EVERY, limit=1000)}
    assert found.keys() == expected.keys()
    for name, item in found.items():
        assert replace(item, id=expected[name].id) == expected[name]
        assert other.item(item.id) == item
        assert other.item_rows(space_id, [item.id]) == {item.id: (item.modality, item.id - 1)}
        details, known = other.details(item), one.details(expected[name])
        assert replace(details, metadata=known.metadata) == known
        for ways in ({"before": 2}, {"after": 3}):
            assert names_of(other.neighbours(space_id, item, **ways)) == names_of(
                one.neighbours(space_id, expected[name], **ways)
            )
    paths = sorted({item.path for item in found.values()})
    assert other.said_of(paths) == one.said_of(paths)
    assert other.items_in(paths).keys() == one.items_in(paths).keys()
    ids = [item.id for item in found.values()]
    assert other.paths_of_items(ids) == set(paths)
    assert list(other.items_of_ids(ids[::-1])) == ids[::-1]
    pages = [(item.path, item.page) for item in found.values() if item.page]
    assert pages
    assert {place: name_of(item) for place, item in other.page_pictures(pages).items()} == {
        place: name_of(item) for place, item in one.page_pictures(pages).items()
    }


def test_files_of_the_same_content_are_those_of_the_catalog(both):
    one, other = both
    assert list(other.files_of_same_content()) == list(one.files_of_same_content())


@pytest.mark.parametrize("box", [WHOLE, GeoBox(south=40, north=60, west=20, east=14)])
def test_a_map_counts_the_files_that_the_catalog_counts(both, box):
    expected, found = (
        [(p.latitude, p.longitude, p.count) for p in snapshot.map_points(box, cells=8)]
        for snapshot in both
    )
    assert found == [pytest.approx(point) for point in expected]
    assert both[1].map_points(box, cells=8, where=Filter(path="/nowhere/*")) == []


def test_added_items_are_counted(both, space_id):
    _, other = both
    newest, added = other.added_after(space_id, 0, 1000)
    listed = other.items(space_id, limit=1000)
    assert newest == max(item.id for item in listed)
    assert sum(added.values()) == len(listed)
    assert other.added_after(space_id, newest, 1000)[1] == dict.fromkeys(Modality, 0)
    assert other.added_after(space_id, 0, 3)[1][Modality.IMAGE] == 3


def test_what_is_not_there_is_told(both, space_id):
    _, other = both
    assert other.item(10**12) is None
    assert other.item(0) is None
    with pytest.raises(NotFoundError, match="no collection 'x'"):
        other.id_of_collection("x")
    other.require_collections(Filter(collection="HOLIDAYS"))
    [(_, item), *_] = other.items_of_collection(
        space_id, other.id_of_collection("Holidays"), limit=9
    )
    assert item.modality is Modality.IMAGE
    with pytest.raises(UsageError, match="--copy"):
        other.rows_in_use(space_id, Modality.IMAGE)


def test_a_snapshot_stays_at_its_version(twins, space_id):
    opened = as_table(twins.table)
    with opened.catalog.snapshot() as before:
        count = before.counts(space_id)
        path = before.items(space_id, limit=1)[0].path
        other = type(opened)(opened.location, opened.table)
        other.remove([path])
        opened.refresh()
        with opened.catalog.snapshot() as after:
            assert after.counts(space_id).indexed == count.indexed - 1
        assert before.items(space_id, limit=1)[0].path == path
    twins.follow()
    with opened.catalog.snapshot() as again:
        assert again.counts(space_id).indexed == count.indexed


def test_a_place_in_a_list_is_found_without_the_items_before(both, space_id):
    _, other = both
    listed = other.items_by_date(space_id, limit=1000)
    for place in (1, 5, len(listed), 10_000):
        found = other.skip(place, None, None, by_date=True, descending=True, after=None)
        assert found == listed[min(place, len(listed)) - 1]
    third = listed[2]
    after: tuple[datetime | None, int] = (third.taken_local, third.id)
    assert other.skip(2, None, None, by_date=True, descending=True, after=after) == listed[4]
    assert other.skip(0, None, None, by_date=False, descending=False, after=None) is None


def test_what_is_remembered_has_a_limit():
    memory = snapshot.Memory()
    asked = []
    for number in [*range(2 * snapshot._MOST_REMEMBERED), 2 * snapshot._MOST_REMEMBERED - 1, 0]:
        assert memory.once(number, lambda n=number: asked.append(n) or str(n)) == str(number)
    assert asked == [*range(2 * snapshot._MOST_REMEMBERED), 0]
    assert len(memory._known) == snapshot._MOST_REMEMBERED

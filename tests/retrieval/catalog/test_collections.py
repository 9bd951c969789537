import random

import numpy as np
import pytest
import sqlalchemy as sa

from retrieval.catalog import Catalog, FileEntry, FileUpdate, ItemEntry
from retrieval.catalog.collections import LONGEST_NAME, plain_name
from retrieval.errors import NotFoundError, UsageError
from retrieval.filters import Filter, Range
from retrieval.media import MediaKind, Modality

SPACE = "space"


def record(catalog: Catalog, contents: dict[str, str], pages: int = 0) -> dict[str, int]:
    """Record pictures by path and content, or documents with pages; ids by path (and page)."""
    with catalog.transaction() as transaction:
        first = transaction.row_count(SPACE, Modality.IMAGE)
        parts = range(1, pages + 1) if pages else [None]
        updates, row = [], first
        for path, content in contents.items():
            items = []
            for page in parts:
                part = "" if page is None else f"p{page}"
                items.append(ItemEntry(Modality.IMAGE, row, part, 40 + row, 30, page=page))
                row += 1
            kind = MediaKind.DOCUMENT if pages else MediaKind.IMAGE
            updates.append(FileUpdate(FileEntry(path, kind, 1, 2, content), items))
        transaction.extend_rows(SPACE, Modality.IMAGE, first, row - first)
        transaction.record_files(SPACE, updates)
        listed = transaction.items(SPACE, limit=10_000, where=Filter(hidden="any"))
    return {item.path + (f"#{item.page}" if item.page else ""): item.id for item in listed}


def shown(catalog: Catalog, **where: object) -> list[str]:
    with catalog.snapshot() as snapshot:
        return [item.path for item in snapshot.items(SPACE, where=Filter(**where), limit=1000)]


def in_order(catalog: Catalog, collection_id: int) -> list[str]:
    with catalog.snapshot() as snapshot:
        found = snapshot.items_of_collection(SPACE, collection_id, limit=1000)
    return [item.path for _, item in found]


@pytest.mark.parametrize("name", ["", "   ", "a\nb", "a\x00", "\u2028", "x" * (LONGEST_NAME + 1)])
def test_names_that_cannot_be_used(name):
    with pytest.raises(UsageError):
        plain_name(name)


def test_names_differ_by_more_than_case_and_blanks(catalog):
    with catalog.transaction() as transaction:
        summer = transaction.create_collection("  Straße 2019 ")
        other = transaction.create_collection("Winter")
        assert transaction.id_of_collection("STRASSE 2019") == summer
        for taken in ("strasse 2019", "WINTER "):
            with pytest.raises(UsageError):
                transaction.create_collection(taken)
        with pytest.raises(UsageError):
            transaction.rename_collection(other, "Strasse 2019")
        transaction.rename_collection(summer, "STRASSE 2019")
        assert [one.name for one in transaction.collections()] == ["STRASSE 2019", "Winter"]
        with pytest.raises(NotFoundError, match="STRASSE 2019, Winter"):
            transaction.id_of_collection("autumn")


def test_items_stay_in_the_order_in_which_they_were_added(catalog):
    ids = record(catalog, {f"/{name}": name for name in "abcde"})
    with catalog.transaction() as transaction:
        made = transaction.create_collection("Made")
        assert transaction.collect(made, [ids["/d"], ids["/a"]]) == 2
        assert transaction.collect(made, [ids["/a"], ids["/e"], ids["/e"]]) == 1
        with pytest.raises(NotFoundError):
            transaction.collect(made, [ids["/b"], 999])
        assert transaction.uncollect(made, [ids["/a"], ids["/c"]]) == 1
        assert transaction.collect(made, [ids["/a"]]) == 1
    assert in_order(catalog, made) == ["/d", "/e", "/a"]
    assert shown(catalog, collection="mADE") == ["/a", "/d", "/e"]
    assert shown(catalog, none_of=Filter(collection="Made")) == ["/b", "/c"]
    assert shown(catalog, collection="unknown") == []
    with catalog.transaction() as transaction:
        assert [one.items for one in transaction.collections()] == [3]
        transaction.delete_collection(made)
        assert transaction.collections() == []
    assert len(shown(catalog)) == 5


def test_pages_of_a_collection_join_without_gaps(catalog):
    ids = record(catalog, {f"/{number}": str(number) for number in range(25)})
    wanted = list(ids.values())
    random.Random(1).shuffle(wanted)
    with catalog.transaction() as transaction:
        made = transaction.create_collection("Made")
        transaction.collect(made, wanted)
        found, after = [], 0
        while page := transaction.items_of_collection(SPACE, made, after=after, limit=7):
            found += [item.id for _, item in page]
            after = page[-1][0]
    assert found == wanted


def test_hidden_items_are_left_out_unless_a_filter_asks_for_them(catalog):
    ids = record(catalog, {f"/{name}": name for name in "abcd"})
    with catalog.transaction() as transaction:
        assert transaction.hide_items([ids["/b"], ids["/c"]]) == 2
        assert transaction.hide_items([ids["/b"]]) == 0
        with pytest.raises(NotFoundError):
            transaction.hide_items([999])
        made = transaction.create_collection("Made")
        transaction.collect(made, list(ids.values()))
        assert [one.items for one in transaction.collections()] == [2]
        counts = transaction.counts(SPACE)
        assert (counts.items[Modality.IMAGE], counts.hidden) == (4, 2)
    assert shown(catalog) == ["/a", "/d"]
    assert shown(catalog, width=Range(min=41)) == ["/d"]
    assert shown(catalog, none_of=Filter(collection="none")) == ["/a", "/d"]
    assert shown(catalog, hidden=True) == ["/b", "/c"]
    assert shown(catalog, hidden=False) == ["/a", "/d"]
    assert shown(catalog, hidden="any") == ["/a", "/b", "/c", "/d"]
    assert shown(catalog, any_of=(Filter(hidden=True), Filter(width=Range(max=40)))) == [
        "/a",
        "/b",
        "/c",
    ]
    with catalog.transaction() as transaction:
        assert transaction.unhide_items([ids["/b"], ids["/a"]]) == 1
    assert shown(catalog) == ["/a", "/b", "/d"]


@pytest.mark.parametrize(
    "where",
    [
        None,
        Filter(),
        Filter(width=Range(min=45)),
        Filter(source="/x"),
        Filter(collection="Made"),
        Filter(hidden=True),
        Filter(hidden=False, collection="made"),
        Filter(hidden="any"),
        Filter(none_of=Filter(hidden=True, collection="Made")),
        Filter(any_of=(Filter(collection="Made"), Filter(source="/x")), hidden="any"),
    ],
)
def test_all_ways_to_filter_agree(catalog, where):
    draw = random.Random(5)
    ids = record(catalog, {f"/{draw.choice('xy')}/{n}": str(n % 15) for n in range(20)})
    with catalog.transaction() as transaction:
        transaction.hide_items(draw.sample(list(ids.values()), 6))
        made = transaction.create_collection("Made")
        transaction.collect(made, draw.sample(list(ids.values()), 8))
    with catalog.snapshot() as snapshot:
        table = snapshot.item_table(SPACE, Modality.IMAGE)
        passing = snapshot.passing(SPACE, Modality.IMAGE, table, where)
        listed = {item.id for item in snapshot.items(SPACE, where=where, limit=100)}
        by_date = {item.id for item in snapshot.items_by_date(SPACE, where=where, limit=100)}
        at = snapshot.items_at(SPACE, Modality.IMAGE, table.rows.tolist(), where)
        item_ids = snapshot.item_ids(SPACE, Modality.IMAGE, table)
    assert set(item_ids[passing].tolist()) == listed == by_date
    assert {item.id for items in at.values() for item in items} == listed
    assert 0 < len(listed) < 20 or where == Filter(hidden="any")


def test_a_page_is_hidden_with_what_is_on_it(catalog):
    ids = record(catalog, {"/a.pdf": "a"}, pages=3)
    with catalog.transaction() as transaction:
        first = transaction.row_count(SPACE, Modality.TEXT)
        passage = ItemEntry(Modality.TEXT, first, "p2-c0", page=2, text="words on page 2")
        file = FileEntry("/a.pdf", MediaKind.DOCUMENT, 1, 2, "a")
        transaction.extend_rows(SPACE, Modality.TEXT, first, 1)
        transaction.record_files(SPACE, [FileUpdate(file, [passage], is_first=False)])
        assert transaction.hide_items([ids["/a.pdf#2"]]) == 2
        items = transaction.items(SPACE, limit=10)
        assert {item.page for item in items} == {1, 3}
        assert transaction.text_matches(SPACE, Modality.TEXT, "words", limit=5) == []
        [passage_id] = [
            item.id
            for item in transaction.items(
                SPACE, where=Filter(hidden=True), modality=Modality.TEXT, limit=9
            )
        ]
        assert transaction.unhide_items([passage_id]) == 2
        assert len(transaction.text_matches(SPACE, Modality.TEXT, "words", limit=5)) == 1


def test_moved_and_changed_files_keep_their_places(catalog):
    ids = record(catalog, {"/a": "a", "/b": "b", "/c": "c"})
    with catalog.transaction() as transaction:
        made = transaction.create_collection("Made")
        transaction.collect(made, [ids["/c"], ids["/a"], ids["/b"]])
        transaction.hide_items([ids["/a"]])
        assert transaction.move_file("/a", "/moved")
        transaction.relocate("/c", "/new/c")
    record(catalog, {"/b": "another content"})
    with catalog.snapshot() as snapshot:
        found = snapshot.items_of_collection(SPACE, made, where=Filter(hidden="any"), limit=9)
    assert [item.path for _, item in found] == ["/new/c", "/moved", "/b"]
    assert shown(catalog, hidden=True) == ["/moved"]


def test_removed_files_leave_and_come_back(catalog):
    ids = record(catalog, {"/a": "a", "/b": "b"})
    with catalog.transaction() as transaction:
        made = transaction.create_collection("Made")
        transaction.collect(made, [ids["/b"], ids["/a"]])
        transaction.mark_removed(["/b"])
        transaction.hand_over_to_copies()
    assert in_order(catalog, made) == ["/a"]
    with catalog.snapshot() as snapshot:
        assert [one.items for one in snapshot.collections()] == [1]
    record(catalog, {"/b": "b"})
    assert in_order(catalog, made) == ["/b", "/a"]


def test_a_copy_takes_the_place_of_a_removed_file(catalog):
    ids = record(catalog, {"/a": "a", "/b": "same", "/copy": "same", "/other": "same", "/c": "c"})
    with catalog.transaction() as transaction:
        made = transaction.create_collection("Made")
        transaction.collect(made, [ids["/b"], ids["/a"]])
        both = transaction.create_collection("Both")
        transaction.collect(both, [ids["/copy"], ids["/b"]])
        transaction.hide_items([ids["/b"], ids["/copy"]])
        transaction.mark_removed(["/b"])
        transaction.hand_over_to_copies()
        transaction.unhide_items([ids["/copy"]])
    assert in_order(catalog, made) == ["/copy", "/a"]
    assert in_order(catalog, both) == ["/copy"]


def test_items_that_are_deleted_leave_no_trace(catalog):
    ids = record(catalog, {"/a.pdf": "long"}, pages=3)
    with catalog.transaction() as transaction:
        made = transaction.create_collection("Made")
        transaction.collect(made, list(ids.values()))
        transaction.hide_items(list(ids.values()))
    record(catalog, {"/a.pdf": "short"}, pages=1)
    with catalog.transaction() as transaction:
        found = transaction.items_of_collection(SPACE, made, where=Filter(hidden="any"), limit=9)
        assert [item.page for _, item in found] == [1]
        transaction.remove_space(SPACE)
        members = transaction.collection_members()
        assert (members.values, len(members.of_items)) == (["Made"], 0)
    assert catalog.dialect.find_damage() == []


def test_members_are_counted_by_collection(catalog):
    ids = record(catalog, {f"/{name}": name for name in "abcd"})
    with catalog.transaction() as transaction:
        for name, paths in {"B": "ab", "a": "bcd", "none": ""}.items():
            made = transaction.create_collection(name)
            transaction.collect(made, [ids[f"/{path}"] for path in paths])
        members = transaction.collection_members()
    asked = np.array([ids["/a"], ids["/b"], ids["/c"]])
    assert members.count(np.zeros_like(asked), asked) == [("a", 2), ("B", 2)]


def test_saved_searches_are_replaced_by_name(catalog):
    with catalog.transaction() as transaction:
        first = transaction.save_search("Dogs", {"address": "q=dog"})
        transaction.save_search("Cats", {"address": "q=cat"})
        again = transaction.save_search("DOGS", {"request": {"text": "dogs"}})
        assert again.id == first.id
        saved = transaction.saved_searches()
        assert [(one.name, one.query) for one in saved] == [
            ("Cats", {"address": "q=cat"}),
            ("DOGS", {"request": {"text": "dogs"}}),
        ]
        assert transaction.delete_saved_search(first.id)
        assert not transaction.delete_saved_search(first.id)
        assert len(transaction.saved_searches()) == 1


def test_hiding_many_asks_a_few_questions(catalog):
    ids = [*record(catalog, {f"/{number}": str(number) for number in range(50)}).values()]
    asked = []

    def note(_connection, _cursor, statement, *_):
        asked.append(statement)

    sa.event.listen(sa.engine.Engine, "before_cursor_execute", note)
    try:
        with catalog.transaction() as transaction:
            assert transaction.hide_items(ids) == 50
    finally:
        sa.event.remove(sa.engine.Engine, "before_cursor_execute", note)
    assert len(asked) < 25

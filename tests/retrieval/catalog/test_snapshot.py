import os
import time
from datetime import datetime

import pytest

from retrieval.catalog import FileEntry, FileUpdate, ItemEntry, local_time
from retrieval.filters import ColumnTest, Filter, GeoBox, Range, TimeRange
from retrieval.media import UNTRUSTED_MTIME, MediaKind, Metadata, Modality

SPACE = "space"


@pytest.fixture
def filled(catalog):
    """Two photos, a table of two rows that says something of one, and a text that was removed."""
    image, text = Modality.IMAGE, Modality.TEXT
    first = Metadata(taken_at=100, camera="Canon")
    updates = [
        FileUpdate(
            FileEntry("/a.jpg", MediaKind.IMAGE, 1, 9 * 10**9, "a", first),
            [ItemEntry(image, 0, width=10, height=20)],
        ),
        FileUpdate(
            FileEntry("/b.jpg", MediaKind.IMAGE, 1, 50 * 10**9, "b", Metadata(camera="")),
            [ItemEntry(image, 1, width=30, height=20)],
        ),
        FileUpdate(
            FileEntry("/t.csv", MediaKind.TABLE, 1, 60 * 10**9, "t"),
            [
                ItemEntry(text, 0, "r1", text="x", columns={"n": 1, "tags": ["p", "q"]}),
                ItemEntry(text, 1, "r2", text="y", columns={"n": 2, "none": None}),
            ],
            annotations=[("/a.jpg", {"said": True, "n": 1})],
        ),
        FileUpdate(
            FileEntry("/gone.txt", MediaKind.TEXT, 1, 10**9, "g", Metadata(camera="Gone")),
            [ItemEntry(text, 2, text="z")],
        ),
    ]
    with catalog.transaction() as transaction:
        transaction.extend_rows(SPACE, image, 0, 2)
        transaction.extend_rows(SPACE, text, 0, 3)
        transaction.record_files(SPACE, updates)
        transaction.mark_removed(["/gone.txt"])
    return catalog


def test_items_come_by_id_page_by_page(filled):
    with filled.snapshot() as snapshot:
        everything = snapshot.items(SPACE, limit=10)
        assert [item.path for item in everything] == ["/a.jpg", "/b.jpg", "/t.csv", "/t.csv"]
        ids = [item.id for item in everything]
        assert ids == sorted(ids)
        paged, after = [], 0
        while page := snapshot.items(SPACE, after=after, limit=3):
            paged += page
            after = page[-1].id
        assert paged == everything
        wide = Filter(width=Range(min=20))
        assert [item.path for item in snapshot.items(SPACE, where=wide, limit=10)] == ["/b.jpg"]
        texts = snapshot.items(SPACE, modality=Modality.TEXT, limit=10)
        assert [item.text for item in texts] == ["x", "y"]
        said = Filter(columns={"n": ColumnTest(equals=1)})
        found = snapshot.items(SPACE, where=said, limit=10)
        assert [item.path for item in found] == ["/a.jpg", "/t.csv"]
        assert snapshot.items("space 2", limit=10) == []


def test_the_newest_items_come_first_if_asked(filled):
    with filled.snapshot() as snapshot:
        everything = snapshot.items(SPACE, limit=10)
        paged, after = [], 0
        while page := snapshot.items(SPACE, after=after, limit=3, newest_first=True):
            paged += page
            after = page[-1].id
    assert paged == everything[::-1]


def test_rows_of_items_that_are_there(filled):
    with filled.snapshot() as snapshot:
        ids = [item.id for item in snapshot.items(SPACE, limit=10)]
        assert snapshot.item_rows(SPACE, [*ids, 999]) == {
            ids[0]: (Modality.IMAGE, 0),
            ids[1]: (Modality.IMAGE, 1),
            ids[2]: (Modality.TEXT, 0),
            ids[3]: (Modality.TEXT, 1),
        }
        assert snapshot.item_rows("space 2", ids) == {}


def test_what_filters_can_ask_for(filled):
    with filled.snapshot() as snapshot:
        assert snapshot.cameras() == ["Canon"]
        assert snapshot.kinds() == {MediaKind.IMAGE: 2, MediaKind.TABLE: 1}
        assert snapshot.taken_between() == (50, 100)
        assert snapshot.columns() == {"n": [1, 2], "none": [], "said": [True], "tags": ["p", "q"]}


def test_words_that_queries_can_use(catalog):
    day = 86_400
    metadata = [
        Metadata(taken_at=3 * day + 5, latitude=-33.0, longitude=151.0, place="Sydney\nAustralia"),
        Metadata(taken_at=3 * day + 9, latitude=-34.0, longitude=151.0, place="Sydney\nAustralia"),
        Metadata(taken_at=day, latitude=48.0, longitude=2.0, place="Paris\nFrance"),
        Metadata(),
        Metadata(taken_at=9 * day, place="Gone"),
    ]
    paths = ["/a/1.jpg", "/a/2.jpg", "/a/b/3.jpg", "/雪/4.jpg", "/gone/5.jpg"]
    with catalog.transaction() as transaction:
        transaction.extend_rows(SPACE, Modality.IMAGE, 0, 5)
        transaction.record_files(
            SPACE,
            [
                FileUpdate(
                    FileEntry(path, MediaKind.IMAGE, 1, 50 * day * 10**9, path, told),
                    [ItemEntry(Modality.IMAGE, row)],
                )
                for row, (path, told) in enumerate(zip(paths, metadata, strict=True))
            ],
        )
        transaction.mark_removed(["/gone/5.jpg"])
    with catalog.snapshot() as snapshot:
        assert sorted(snapshot.places()) == ["Paris\nFrance", "Sydney\nAustralia"]
        assert snapshot.folders() == ["/a", "/a/b", "/雪"]
        assert snapshot.days() == [1, 3]
        assert snapshot.is_southern()
        found = snapshot.text_matches(SPACE, Modality.IMAGE, "sydney", limit=9)
        assert {row for row, _ in found} == {0, 1}


def test_an_empty_catalog_has_nothing_to_ask_for(catalog):
    with catalog.snapshot() as snapshot:
        assert (snapshot.places(), snapshot.folders(), snapshot.days()) == ([], [], [])
        assert not snapshot.is_southern()
        assert snapshot.items(SPACE, limit=10) == []
        assert (snapshot.cameras(), snapshot.kinds(), snapshot.columns()) == ([], {}, {})
        assert snapshot.taken_between() is None


def test_pages_are_found_by_file_and_number(catalog):
    image, text = Modality.IMAGE, Modality.TEXT
    updates = [
        FileUpdate(
            FileEntry(path, MediaKind.DOCUMENT, 1, 1, path),
            [
                *(ItemEntry(image, first + page, f"p{page}", page=page) for page in range(3)),
                ItemEntry(text, first, "p1", page=1, text="words"),
            ],
        )
        for first, path in ((0, "/a.pdf"), (3, "/b.pdf"), (6, "/gone.pdf"))
    ]
    with catalog.transaction() as transaction:
        transaction.extend_rows(SPACE, image, 0, 9)
        transaction.extend_rows(SPACE, text, 0, 9)
        transaction.record_files(SPACE, updates)
        transaction.mark_removed(["/gone.pdf"])
    places = [("/a.pdf", 1), ("/b.pdf", 2), ("/a.pdf", 7), ("/gone.pdf", 1), ("/none.pdf", 1)]
    with catalog.snapshot() as snapshot:
        found = snapshot.page_pictures(places)
        assert set(found) == {("/a.pdf", 1), ("/b.pdf", 2)}
        assert {item.modality for item in found.values()} == {image}
        assert snapshot.paths_of_items([found["/b.pdf", 2].id, 999]) == {"/b.pdf"}
        assert snapshot.page_pictures([]) == {}


def test_files_that_a_space_lacks(filled):
    with filled.snapshot() as snapshot:
        assert (snapshot.files_behind(SPACE), snapshot.files_behind("other")) == (0, 3)
    with filled.transaction() as transaction:
        changed = FileEntry("/a.jpg", MediaKind.IMAGE, 2, 10**9, "a2")
        transaction.record_files("other", [FileUpdate(changed, [ItemEntry(Modality.IMAGE, 0)])])
    with filled.snapshot() as snapshot:
        assert (snapshot.files_behind(SPACE), snapshot.files_behind("other")) == (1, 2)


def test_items_come_by_date_page_by_page(catalog):
    """Dates of some files are equal, some have none: these come last, either way."""
    dates = [5, None, 9, 5, -7, None, 9, 0]
    updates = [
        FileUpdate(
            FileEntry(f"/{n}.jpg", MediaKind.IMAGE, 1, UNTRUSTED_MTIME, str(n), metadata),
            [ItemEntry(Modality.IMAGE, n)],
        )
        for n, metadata in enumerate(Metadata(taken_at=date, taken_local=date) for date in dates)
    ]
    with catalog.transaction() as transaction:
        transaction.extend_rows(SPACE, Modality.IMAGE, 0, len(updates))
        transaction.record_files(SPACE, updates)
    for oldest_first, sign in ((False, -1), (True, 1)):
        paged, after = [], None
        with catalog.snapshot() as snapshot:
            while page := snapshot.items_by_date(
                SPACE, after=after, limit=2, oldest_first=oldest_first
            ):
                paged += page
                after = page[-1].taken_local, page[-1].id
        expected = sorted(
            range(len(dates)), key=lambda n: (dates[n] is None, sign * (dates[n] or 0), sign * n)
        )
        assert [item.path for item in paged] == [f"/{n}.jpg" for n in expected]
        assert [item.taken_from for item in paged[-2:]] == [None, None]
    with catalog.snapshot() as snapshot:
        only = Filter(taken_at=TimeRange(since=local_time(9)))
        found = snapshot.items_by_date(SPACE, where=only, modality=Modality.IMAGE, limit=9)
        assert [item.path for item in found] == ["/6.jpg", "/2.jpg"]
        assert snapshot.items_by_date(SPACE, modality=Modality.TEXT, limit=9) == []


def test_items_are_listed_by_path_and_part(catalog):
    paths = [
        "/b/1.mp4",
        "/a/é.jpg",
        "/a/10.jpg",
        "/a/2.jpg",
        os.fsdecode(b"/a/\xff.jpg"),
        "/a b.jpg",
    ]
    updates = [
        FileUpdate(
            FileEntry(path, MediaKind.IMAGE, 1, UNTRUSTED_MTIME, str(n)),
            [ItemEntry(Modality.IMAGE, 2 * n + at, f"{at}") for at in range(2)],
        )
        for n, path in enumerate(paths)
    ]
    with catalog.transaction() as transaction:
        transaction.extend_rows(SPACE, Modality.IMAGE, 0, 2 * len(updates))
        transaction.record_files(SPACE, updates)
    paged, after = [], None
    with catalog.snapshot() as snapshot:
        while page := snapshot.items_by_name(SPACE, after=after, limit=3):
            paged += page
            after = page[-1].path, page[-1].id
        below = snapshot.items_by_name(SPACE, where=Filter(source="/a"), limit=3)
    expected = sorted(os.fsencode(path) for path in paths for _ in range(2))
    assert [os.fsencode(item.path) for item in paged] == expected
    assert [item.part for item in paged] == ["0", "1"] * len(paths)
    assert [item.path for item in below] == ["/a/10.jpg", "/a/10.jpg", "/a/2.jpg"]


@pytest.mark.parametrize("zone", ["Australia/Sydney", "America/Denver", "UTC"])
def test_a_date_is_that_of_the_metadata_else_of_this_machine(catalog, zone, monkeypatch):
    """What has no date, or only an instant, is as the clock on the wall here showed it."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        instant = 1_684_274_400  # 2023-05-16 22:00 UTC
        of_file = {
            "/camera.jpg": Metadata(taken_at=instant, taken_local=instant + 36_000),
            "/utc.mp4": Metadata(taken_at=instant),
            "/file.jpg": Metadata(),
        }
        with catalog.transaction() as transaction:
            transaction.extend_rows(SPACE, Modality.IMAGE, 0, len(of_file))
            updates = [
                FileUpdate(
                    FileEntry(path, MediaKind.IMAGE, 1, instant * 10**9, path, metadata),
                    [ItemEntry(Modality.IMAGE, row)],
                )
                for row, (path, metadata) in enumerate(of_file.items())
            ]
            transaction.record_files(SPACE, updates)
            items = {item.path: item for item in transaction.items(SPACE, limit=9)}
        here = datetime.fromtimestamp(instant)
        assert [item.taken_local for item in items.values()] == [
            datetime(2023, 5, 17, 8),
            here,
            here,
        ]
        assert [item.taken_from for item in items.values()] == ["metadata", "metadata", "mtime"]
    finally:
        monkeypatch.undo()
        time.tzset()


def test_neighbours_lie_around_an_item_in_its_file(catalog):
    image, text = Modality.IMAGE, Modality.TEXT
    pages = [ItemEntry(image, n, f"p{n + 1}", page=n + 1) for n in range(3)]
    chunks = [
        ItemEntry(text, n, part, page=page, text=part)
        for n, (page, part) in enumerate([(2, "p2"), (1, "p1x0"), (1, "p1x90"), (3, "p3")])
    ]
    frames = [ItemEntry(image, 3 + n, f"t{s}", time_s=s) for n, s in enumerate([2.0, 0.5, 9.0])]
    with catalog.transaction() as transaction:
        transaction.extend_rows(SPACE, image, 0, 6)
        transaction.extend_rows(SPACE, text, 0, 4)
        updates = [
            FileUpdate(FileEntry("/a.pdf", MediaKind.DOCUMENT, 1, 1, "a"), [*pages, *chunks]),
            FileUpdate(FileEntry("/b.mp4", MediaKind.VIDEO, 1, 1, "b"), frames),
        ]
        transaction.record_files(SPACE, updates)
    with catalog.snapshot() as snapshot:
        items = {item.part: item for item in snapshot.items(SPACE, modality=text, limit=9)}
        frame = {i.time_s: i for i in snapshot.items(SPACE, modality=image, limit=9) if i.time_s}

        def around(item, **asked):
            return [found.part for found in snapshot.neighbours(SPACE, item, **asked)]

        assert around(items["p2"], before=1) == ["p1x90"]
        assert around(items["p2"], before=9) == ["p1x0", "p1x90"]
        assert around(items["p1x0"], before=9) == []
        assert around(items["p1x0"], after=2) == ["p1x90", "p2"]
        assert around(items["p3"], after=2) == []
        assert around(frame[2.0], before=5) == ["t0.5"]
        assert around(frame[2.0], after=5) == ["t9.0"]


@pytest.mark.parametrize("cells", [1, 7, 40])
def test_map_points_count_every_file_with_coordinates_once(catalog, cells):
    places = [
        (52.5, 13.4),
        (52.5, 13.4),
        (-33.9, 151.2),
        (-17.8, 179.9),
        (-17.7, -179.9),
        (90, 180),
    ]
    updates = [
        FileUpdate(
            FileEntry(
                f"/{n}.jpg", MediaKind.IMAGE, 1, 1, str(n), Metadata(latitude=y, longitude=x)
            ),
            [ItemEntry(Modality.IMAGE, n)],
        )
        for n, (y, x) in enumerate(places)
    ]
    updates += [
        FileUpdate(
            FileEntry(
                "/long.mp4", MediaKind.VIDEO, 1, 1, "v", Metadata(latitude=1.0, longitude=1.0)
            ),
            [ItemEntry(Modality.IMAGE, 6 + n, f"t{n}", time_s=float(n)) for n in range(5)],
        ),
        FileUpdate(
            FileEntry("/nowhere.jpg", MediaKind.IMAGE, 1, 1, "n"), [ItemEntry(Modality.IMAGE, 11)]
        ),
    ]
    with catalog.transaction() as transaction:
        transaction.extend_rows(SPACE, Modality.IMAGE, 0, 12)
        transaction.record_files(SPACE, updates)
    world = GeoBox(south=-90, north=90, west=-180, east=180)
    fiji = GeoBox(south=-20, north=-10, west=170, east=-170)
    with catalog.snapshot() as snapshot:
        assert sum(point.count for point in snapshot.map_points(world, cells=cells)) == 7
        around_fiji = snapshot.map_points(fiji, cells=cells)
        assert sum(point.count for point in around_fiji) == 2
        assert all(-180 <= point.longitude <= 180 for point in around_fiji)
        videos = Filter(kind=(MediaKind.VIDEO,))
        [video] = snapshot.map_points(world, cells=cells, where=videos)
        assert (video.latitude, video.longitude, video.count) == (1.0, 1.0, 1)
        assert snapshot.item(video.item_id).path == "/long.mp4"
        here = GeoBox(south=52.5, north=52.5, west=13.4, east=13.4)
        assert [point.count for point in snapshot.map_points(here, cells=cells)] == [2]


def test_fields_of_rows_are_those_of_their_current_items(filled):
    with filled.snapshot() as snapshot:
        first, second = snapshot.fields_of_rows(SPACE, Modality.IMAGE, 0, 2)
        assert first == (0, 10, 20, 100, 100, "image", "Canon", "/a.jpg")
        assert second[:3] + second[5:] == (1, 30, 20, "image", "", "/b.jpg")
        assert snapshot.fields_of_rows(SPACE, Modality.IMAGE, 1, 2) == [second]
        texts = snapshot.fields_of_rows(SPACE, Modality.TEXT, 0, 3)  # one file of two rows
        assert [(row, kind, path) for row, *_, kind, _, path in texts] == [
            (0, "table", "/t.csv"),
            (1, "table", "/t.csv"),
        ]
        assert snapshot.fields_of_rows("other", Modality.IMAGE, 0, 9) == []

import os
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.catalog import Catalog, FileEntry, FileUpdate, ItemEntry
from retrieval.catalog.path_glob import matches
from retrieval.filters import ColumnTest, Filter, GeoBox, Range, TimeRange
from retrieval.media import UNTRUSTED_MTIME, MediaKind, Metadata, Modality
from retrieval.recognition.base import Recognized, Segment, Task

pytestmark = pytest.mark.slow

SPACE = "space"
NAMES = ["a", "b.c", 'qu"ote', "雪", "$[0]", "it's", ""]
VALUES = [3, 3.0, "3", " 3.50", 3.5, True, False, "TRUE", None, "Straße", "ÉTÉ", [1, "3"], {"a": 3}]
PIECES = [
    "*",
    "**",
    "/",
    "?",
    ".jpg",
    ".JPG",
    "a",
    "b",
    "1",
    "3",
    ".",
    "雪",
    "é",
    "[1-4]",
    "K",
    "x*y",
]
OWN = [
    None,
    {"rating": 0},
    {"rating": 5, "label": "Red"},
    {"rating": -1, "keyword": ["Straße", "dog"]},
    {"rating": 2.5, "person": ["Ann Lee"], "keyword": ["Hot dog"]},
    {"label": "ROT", "person": ["ÉVA", "ann"], "keyword": ["ÉTÉ"]},
]
"""What files say of themselves."""
RECOGNIZED = {
    "": Recognized(),
    "failed": Recognized(failure="it is broken"),
    "STOP": Recognized([Segment("STOP", 0.9)]),
}
CAMERAS = ["Canon EOS R5", "ÉCLAIR 3", "café", "", None]


def make(catalog: Catalog, seed: int) -> list[dict]:
    """Fill a catalog at random; returns what an image's row says of it, a row each."""
    draw = random.Random(seed)
    folders = ["/a", "/a/b", "/ab", "/雪", os.fsdecode(b"/\xff"), "/a/x*y"]
    truth: list[dict] = []
    updates = []
    for number in range(60):
        columns = {
            name: draw.choice(VALUES) for name in draw.sample(NAMES, draw.randrange(len(NAMES)))
        }
        fact = {
            "path": f"{draw.choice(folders)}/{number}.{draw.choice(['jpg', 'JPG', 'é'])}",
            "kind": draw.choice(list(MediaKind)),
            "taken_at": draw.choice([None, -1, 0, 5, 10**9]),
            "ahead": draw.choice([None, 0, 36_000, -21_600]),
            "mtime_ns": draw.choice([0, -1, 5_500_000_000, 10**18]),
            "width": draw.choice([None, 1, 640]),
            "height": draw.choice([None, 2, 480]),
            "camera": draw.choice(CAMERAS),
            "place": draw.choice([(None, None), (10.0, None), (10.0, 179.5), (-5.0, -179.5)]),
            # In one of the catalogs, only tables say something of files.
            "columns": columns if columns and seed < 2 else None,
            "annotations": [],
            "own": draw.choice(OWN),
            "recognized": draw.choice([None, "failed", "", "STOP"]),
        }
        truth.append(fact)
        latitude, longitude = fact["place"]
        fact["names"] = draw.choice([None, "Paris\nFrance", "Nice\nÎle\nFrance"])
        metadata = Metadata(
            fact["taken_at"],
            fact["camera"],
            latitude,
            longitude,
            place=fact["names"],
            columns=fact["own"],
        )
        if fact["own"]:
            fact["annotations"].append(fact["own"])
        if fact["taken_at"] is not None and fact["ahead"] is not None:
            metadata = replace(metadata, taken_local=fact["taken_at"] + fact["ahead"])
        file = FileEntry(
            fact["path"], fact["kind"], 10, fact["mtime_ns"], f"content {number}", metadata
        )
        item = ItemEntry(
            Modality.IMAGE, number, "", fact["width"], fact["height"], columns=fact["columns"]
        )
        updates.append(FileUpdate(file, [item]))
    annotations = []
    for fact in draw.sample(truth, 30):
        said = {draw.choice(NAMES): draw.choice(VALUES)}
        fact["annotations"].append(said)
        annotations.append((fact["path"], said))
    recognized = {
        f"content {place}": RECOGNIZED[fact["recognized"]]
        for place, fact in enumerate(truth)
        if fact["recognized"] is not None
    }
    table = FileEntry("/table.csv", MediaKind.TABLE, 10, 0, "table")
    gone = FileEntry("/gone.csv", MediaKind.TABLE, 10, 0, "gone")
    with catalog.transaction() as transaction:
        transaction.extend_rows(SPACE, Modality.IMAGE, 0, len(truth))
        updates.append(FileUpdate(table, annotations=annotations))
        updates.append(FileUpdate(gone, annotations=[(fact["path"], {"a": 3}) for fact in truth]))
        transaction.record_files(SPACE, updates)
        transaction.record_enrichments(Task.OCR, "model", recognized)
        removed = [fact["path"] for fact in draw.sample(truth, 5)]
        transaction.mark_removed([*removed, "/gone.csv"])
    for fact in truth:
        fact["is_live"] = fact["path"] not in removed
    return truth


@pytest.fixture(scope="module", params=range(3))
def library(new_location, tmp_path_factory, request):
    catalog = Catalog(new_location(tmp_path_factory.mktemp("catalog")))
    catalog.migrate()
    truth = make(catalog, request.param)
    yield catalog, truth
    catalog.close()


def matching_rows(snapshot, where: Filter, space_id=SPACE, modality=Modality.IMAGE) -> np.ndarray:
    """Return which of the committed rows hold a current item that passes, (row_count,) bool."""
    table = snapshot.item_table(space_id, modality)
    return table.row_set(
        snapshot.row_count(space_id, modality), snapshot.passing(space_id, modality, table, where)
    )


def number(value) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def cell_passes(value, test: ColumnTest) -> bool:
    if isinstance(value, list):
        return any(cell_passes(element, test) for element in value)
    if value is None or isinstance(value, dict):
        return False
    as_text = str(value).lower() if isinstance(value, bool) else str(value)
    holds = []
    if test.equals is not None:
        if isinstance(test.equals, bool) or isinstance(value, bool):
            holds.append(as_text.lower() == str(test.equals).lower())
        elif isinstance(test.equals, str) and isinstance(value, str):
            holds.append(value == test.equals)
        else:
            holds.append(number(value) is not None and number(value) == number(test.equals))
    if test.contains is not None:
        holds.append(test.contains.casefold() in as_text.casefold())
    if test.min is not None:
        holds.append(number(value) is not None and number(value) >= test.min)
    if test.max is not None:
        holds.append(number(value) is not None and number(value) <= test.max)
    return all(holds)


def in_range(value, limits: Range) -> bool:
    if limits.min is not None and (value is None or value < limits.min):
        return False
    return limits.max is None or (value is not None and value <= limits.max)


def expected(fact: dict, where: Filter) -> bool:  # noqa: C901, PLR0912, PLR0915 - a line each
    """The oracle: the docstring of `Filter`, in plain Python."""
    holds = []
    if where.source is not None:
        root = where.source.rstrip("/")
        holds.append(fact["path"] == where.source or fact["path"].startswith(f"{root}/"))
    if where.path is not None:
        holds.append(matches(where.path, os.fsencode(fact["path"])))  # has its own oracle
    if where.kind is not None:
        holds.append(fact["kind"] in where.kind)
    if where.taken_at is not None:
        seconds = fact["taken_at"]
        if seconds is None:
            seconds = fact["mtime_ns"] // 10**9
        at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
        if fact["taken_at"] is not None and fact["ahead"] is not None:
            local = (at + timedelta(seconds=fact["ahead"])).replace(tzinfo=None)
        else:
            local = at.astimezone().replace(tzinfo=None)
        is_known = fact["taken_at"] is not None or fact["mtime_ns"] != UNTRUSTED_MTIME
        for moment, is_since in ((where.taken_at.since, True), (where.taken_at.before, False)):
            if moment is not None:
                taken = at if moment.tzinfo else local
                holds.append(is_known and (taken >= moment) is is_since)
        holds.append(fact["taken_at"] is not None or not where.taken_at.recorded)
    if where.place is not None:
        names = (fact["names"] or "").casefold().split("\n")
        holds.append(where.place.casefold() in names)
    if where.width is not None:
        holds.append(in_range(fact["width"], where.width))
    if where.height is not None:
        holds.append(in_range(fact["height"], where.height))
    if where.camera is not None:
        holds.append(where.camera.casefold() in (fact["camera"] or "").casefold())
    if where.camera_name is not None:
        holds.append(where.camera_name == fact["camera"])
    if where.has_text is not None:
        holds.append((fact["recognized"] == "STOP") is where.has_text)
    if where.gps is not None:
        box, (latitude, longitude) = where.gps, fact["place"]
        if latitude is None or longitude is None:
            holds.append(False)
        else:
            is_between = box.west <= longitude <= box.east
            if box.west > box.east:
                is_between = longitude >= box.west or longitude <= box.east
            holds.append(box.south <= latitude <= box.north and is_between)
    if where.rating is not None:
        stars = (fact["own"] or {}).get("rating")
        holds.append(in_range(stars, where.rating))
    for name in ("label", "keyword", "person"):
        wanted = getattr(where, name)
        if wanted is not None:
            told = (fact["own"] or {}).get(name, [])
            values = [told] if isinstance(told, str) else told
            holds.append(wanted.casefold() in [value.casefold() for value in values])
    for name, test in (where.columns or {}).items():
        said = [fact["columns"] or {}, *fact["annotations"]]
        holds.append(
            test == ColumnTest()
            or any(name in columns and cell_passes(columns[name], test) for columns in said)
        )
    holds += [expected(fact, part) for part in where.all_of or ()]
    if where.any_of:
        holds.append(any(expected(fact, part) for part in where.any_of))
    if where.none_of:
        holds.append(not expected(fact, where.none_of))
    return all(holds)


def optional(strategy):
    return st.none() | strategy


numbers = st.sampled_from([0, 1, 2, 3, 3.5, 480, 640, -(10.0**30), 1e300])
moments = st.sampled_from(
    [
        datetime(1970, 1, 1),
        datetime(1970, 1, 1, 10, 0, 5),
        datetime(1969, 12, 31, 18),
        datetime(1970, 1, 1, 0, 0, 5, 500_000, tzinfo=UTC),
        datetime(1970, 1, 1, 2, 0, 5, tzinfo=timezone(timedelta(hours=2))),
        datetime.min,
        datetime.max,
    ]
)
tests = st.builds(
    ColumnTest,
    equals=optional(st.sampled_from([3, 3.0, "3", " 3.50", 3.5, True, False, "true", "Straße"])),
    contains=optional(st.sampled_from(["3", "STRASSE", "été", "tru", "ß"])),
    min=optional(numbers),
    max=optional(numbers),
)
leaves = st.one_of(
    st.builds(Filter, source=st.sampled_from(["/", "/a", "/a/", "/ab", "/雪", "/nowhere"])),
    st.builds(
        Filter, path=st.sampled_from(["/a/**", "*.jpg", "/雪/*", "/?/*.é", "x[*]y/*", "/a/**/b/*"])
    ),
    st.builds(Filter, kind=st.lists(st.sampled_from(list(MediaKind)), min_size=1, max_size=3)),
    st.builds(
        Filter,
        taken_at=st.one_of(
            st.builds(TimeRange, since=moments, recorded=st.booleans()),
            st.builds(TimeRange, before=moments, recorded=st.booleans()),
            st.builds(TimeRange, since=moments, before=st.just(datetime(9999, 12, 31, tzinfo=UTC))),
        ),
    ),
    st.builds(
        Filter,
        width=optional(st.builds(Range, min=optional(numbers), max=optional(numbers))),
        height=optional(st.builds(Range, min=optional(numbers), max=optional(numbers))),
    ),
    st.builds(Filter, camera_name=st.sampled_from(["Canon EOS R5", "café", "canon eos r5"])),
    st.builds(Filter, camera=st.sampled_from(["canon", "É", "éclair", "CAFÉ", "%", "_"])),
    st.builds(Filter, place=st.sampled_from(["paris", "Nice", "ÎLE", "France", "Fran", "\n"])),
    st.builds(
        Filter,
        gps=st.builds(
            GeoBox,
            south=st.sampled_from([-90, -5, 20]),
            north=st.sampled_from([10, -5]),
            west=st.sampled_from([-180, 179, 179.5]),
            east=st.sampled_from([180, -179, -179.5]),
        ),
    ),
    st.builds(Filter, rating=st.builds(Range, min=optional(numbers), max=optional(numbers))),
    st.builds(Filter, label=st.sampled_from(["red", "Rot", "ROT", "re", "dog"])),
    st.builds(Filter, keyword=st.sampled_from(["dog", "HOT DOG", "été", "STRASSE", "%", "hot"])),
    st.builds(Filter, person=st.sampled_from(["éva", "ANN", "ann lee", "lee", "_nn"])),
    st.builds(Filter, columns=st.dictionaries(st.sampled_from(NAMES), tests, max_size=2)),
    st.builds(Filter),
)


def joined(leaves):
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.builds(
                Filter,
                all_of=optional(st.lists(inner, min_size=1, max_size=3)),
                any_of=optional(st.lists(inner, min_size=1, max_size=3)),
                none_of=optional(inner),
            ),
            st.builds(Filter, camera=optional(st.just("canon")), none_of=inner),
        ),
        max_leaves=8,
    )


filters = joined(leaves)
"""Those that a table understands, too."""


@given(where=joined(st.one_of(leaves, st.builds(Filter, has_text=st.booleans()))))
def test_what_passes_is_what_the_oracle_lets_pass(library, where):
    catalog, truth = library
    with catalog.snapshot() as snapshot:
        found = matching_rows(snapshot, where)
        others = matching_rows(snapshot, Filter(none_of=where))
        live = snapshot.live_rows(SPACE, Modality.IMAGE)
    assert found.tolist() == [fact["is_live"] and expected(fact, where) for fact in truth]
    assert np.array_equal(found ^ others, live)
    assert not (found & others).any()


@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=6).map("".join))
def test_globs_by_folder_and_name_match_as_whole_paths_do(library, pattern):
    catalog, truth = library
    with catalog.snapshot() as snapshot:
        found = matching_rows(snapshot, Filter(path=pattern))
    wanted = [f["is_live"] and matches(pattern, os.fsencode(f["path"])) for f in truth]
    assert found.tolist() == wanted


def test_an_empty_filter_lets_pass_what_is_live(library):
    catalog, truth = library
    with catalog.snapshot() as snapshot:
        live = snapshot.live_rows(SPACE, Modality.IMAGE)
        assert np.array_equal(matching_rows(snapshot, Filter()), live)
        assert live.tolist() == [fact["is_live"] for fact in truth]
        assert matching_rows(snapshot, Filter(), "space 2").shape == (0,)
        assert matching_rows(snapshot, Filter(), modality=Modality.TEXT).shape == (0,)

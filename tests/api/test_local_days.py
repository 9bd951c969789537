"""A photo is found by the day that its camera's clock showed: over HTTP and in Python.

`tests/api/cli/test_search.py` has the terminal.
"""

import json
import os
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from starlette.testclient import TestClient

from api.http.app import create_app
from indexer.pipeline import index_sources
from retrieval.filters import Filter, TimeRange
from retrieval.library import Library, create_library

pytestmark = pytest.mark.slow

OFFSETS = ("+10:00", "-06:00", "+05:30", "-11:00", None)
HOURS = (0, 8, 23)
DAYS = (16, 17, 18)


def write_photo(path: Path, clock: datetime, offset: str | None) -> None:
    exif = Image.Exif()
    shot = exif.get_ifd(0x8769)
    shot[0x9003] = f"{clock:%Y:%m:%d %H:%M:%S}"
    if offset:
        shot[0x9011] = offset
    Image.new("RGB", (32, 32), (clock.day * 9, clock.hour * 9, len(path.name))).save(
        path, exif=exif
    )


@pytest.fixture(scope="module")
def library(tmp_path_factory, tiny_encoder) -> Library:
    """Photos of three days in many time zones, one of no date, changed on the 17th here."""
    folder = tmp_path_factory.mktemp("days")
    for day in DAYS:
        for hour in HOURS:
            for offset in OFFSETS:
                clock = datetime(2023, 5, day, hour, 30)
                write_photo(folder / f"{day} {hour} {offset}.jpg", clock, offset)
    Image.new("RGB", (32, 32)).save(folder / "17 file.jpg")
    changed = datetime(2023, 5, 17, 6).timestamp()
    os.utime(folder / "17 file.jpg", (changed, changed))
    library = create_library(tmp_path_factory.mktemp("library") / "library", tiny_encoder.space)
    index_sources(library, tiny_encoder, [folder])
    return library


@pytest.fixture(scope="module")
def client(library):
    with TestClient(create_app(library.path, device="cpu"), base_url="http://localhost") as client:
        yield client


def is_of(path: str, day: int) -> bool:
    return Path(path).name.startswith(f"{day} ")


def python(library, client, since, before):
    where = Filter(taken_at=TimeRange(since=since, before=before))
    return [hit.path for hit in library.search("x", where=where, k=1000, rerank="none")]


def http(library, client, since, before):
    where = {"taken_at": {"since": since.isoformat(), "before": before.isoformat()}}
    body = {"text": "x", "where": where, "k": 1000, "rerank": "none"}
    return [hit["path"] for hit in client.post("/v1/search", json=body).json()["hits"]]


def listed(library, client, since, before):
    where = {"taken_at": {"since": since.isoformat(), "before": before.isoformat()}}
    answer = client.get("/v1/items", params={"where": json.dumps(where), "limit": 1000})
    return [item["path"] for item in answer.json()["items"]]


@pytest.mark.parametrize("found", [python, http, listed])
@pytest.mark.parametrize("day", DAYS)
def test_a_day_is_that_of_the_camera(library, client, found, day):
    paths = found(library, client, datetime(2023, 5, day), datetime(2023, 5, day + 1))
    assert len(paths) == len(HOURS) * len(OFFSETS) + (day == 17)
    assert all(is_of(path, day) for path in paths)


@given(
    st.datetimes(datetime(2023, 5, 15), datetime(2023, 5, 20)),
    st.integers(1, 72),
    st.none() | st.integers(-14, 14),
)
def test_times_without_a_zone_are_the_cameras_and_with_one_are_instants(
    library, since, hours, zone
):
    before = since + timedelta(hours=hours)
    if zone is not None:
        here = timezone(timedelta(hours=zone))
        since, before = since.replace(tzinfo=here), before.replace(tzinfo=here)
    expected = set()
    for day in DAYS:
        for hour in HOURS:
            for offset in OFFSETS:
                clock = datetime.fromisoformat(f"2023-05-{day}T{hour:02}:30")
                if zone is not None:  # an instant that is not told is taken as UTC
                    clock = datetime.fromisoformat(f"{clock.isoformat()}{offset or '+00:00'}")
                if since <= clock < before:
                    expected.add(f"{day} {hour} {offset}.jpg")
    changed = datetime(2023, 5, 17, 6)
    if since <= (changed if zone is None else changed.astimezone()) < before:
        expected.add("17 file.jpg")
    assert {Path(path).name for path in python(library, None, since, before)} == expected


def test_hits_come_by_date_page_by_page_over_http(client):
    seen, cursor = [], None
    while not seen or cursor:
        body = {"text": "x", "sort": "date-asc", "min_relevance": 0, "k": 10, "rerank": "none"}
        answer = client.post("/v1/search", json=body | ({"cursor": cursor} if cursor else {}))
        seen += answer.json()["hits"]
        cursor = answer.json()["next_cursor"]
    dates = [hit["taken_local"] for hit in seen]
    assert dates == sorted(dates)
    assert len({hit["item_id"] for hit in seen}) == len(seen)
    assert len(seen) == len(DAYS) * len(HOURS) * len(OFFSETS) + 1


def test_a_range_that_ends_before_it_begins_is_refused(client):
    where = {"taken_at": {"since": "2024-01-01", "before": "2023-01-01"}}
    answer = client.post("/v1/search", json={"text": "x", "where": where})
    assert answer.status_code == 422
    assert "put the earlier date first" in answer.text


def test_an_item_tells_the_clock_and_the_instant(client):
    items = client.get("/v1/items", params={"limit": 1000}).json()["items"]
    [item] = [item for item in items if item["path"].endswith("/17 8 +10:00.jpg")]
    told = client.get(f"/v1/items/{item['item_id']}").json()
    assert told["taken_local"] == "2023-05-17T08:30:00"
    assert told["taken_at"] == "2023-05-16T22:30:00Z"
    assert told["taken_from"] == "metadata"

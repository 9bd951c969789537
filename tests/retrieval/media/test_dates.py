from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.media.dates import parse_date


def seconds(*parts: int) -> int:
    return int(datetime(*parts, tzinfo=UTC).timestamp())


DAY = seconds(2015, 8, 22)
TEN = seconds(2015, 8, 22, 10)


@pytest.mark.parametrize(
    ("text", "taken_at", "taken_local"),
    [
        ("2015:08:22 10:00:00", TEN, TEN),
        ("2015-08-22T10:00:00.123", TEN, TEN),
        ("2015/08/22 10:00", TEN, TEN),
        ("2015.08.22 10:00:00,5", TEN, TEN),
        ("20150822T100000", TEN, TEN),
        ("2015: 8:22 10: 0: 0", TEN, TEN),
        ("2015:08:22 10:00:00\0\0", TEN, TEN),
        ("  2015:08:22 10:00:00  ", TEN, TEN),
        ("2015:08:22 10:00:60", TEN + 59, TEN + 59),
        ("2015:08:22 24:08:19", DAY + 499, DAY + 499),
        ("2015:08:22 99:99:99", DAY, DAY),
        ("2015:08:22", DAY, DAY),
        ("20150822", DAY, DAY),
        ("2015:08:00", seconds(2015, 8, 1), seconds(2015, 8, 1)),
        ("2015-08", seconds(2015, 8, 1), seconds(2015, 8, 1)),
        ("2015", seconds(2015, 1, 1), seconds(2015, 1, 1)),
        ("2015-08-22T10:00:00+02:00", TEN - 7200, TEN),
        ("2015-08-22 10:00:00 -0530", TEN + 19_800, TEN),
        ("2015-08-22T10:00:00+99:99", TEN, TEN),
        ("2015-08-22T10:00:00Z", TEN, None),
        ("1855:08:22 10:00:00", seconds(1855, 8, 22, 10), seconds(1855, 8, 22, 10)),
        ("Sat, 22 Aug 2015 10:00:00 +0200", TEN - 7200, TEN),
        ("Sat, 22 Aug 2015 10:00:00 GMT", TEN, None),
        ("22 Aug 2015 10:00:00", TEN, TEN),
    ],
)
def test_dates_in_the_ways_that_they_are_written(text, taken_at, taken_local):
    assert parse_date(text) == (taken_at, taken_local)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0000:00:00 00:00:00",
        "    :  :     :  :  ",
        "yesterday",
        "2015:02:30",
        "1700:01:01",
        "\0",
    ],
)
def test_what_is_no_date(text):
    assert parse_date(text) is None


def test_an_offset_beside_the_time_and_a_time_that_is_utc():
    assert parse_date("2015:08:22 10:00:00", "+02:00") == (TEN - 7200, TEN)
    assert parse_date("2015:08:22 10:00:00Z", "+02:00") == (TEN, None)
    assert parse_date("2015:08:22 10:00:00", is_utc=True) == (TEN, None)
    assert parse_date("2015:08:22 10:00:00+01:00", is_utc=True) == (TEN - 3600, TEN)


@given(st.text(max_size=40) | st.text("0123456789:-/. TZ+", max_size=40))
def test_any_text_is_read_or_passed_over(text):
    parse_date(text, text, is_utc=bool(text))


@given(st.datetimes(datetime(1826, 1, 1), datetime(9999, 12, 31)), st.sampled_from("T "))
def test_what_iso_writes_is_read(moment, sign):
    clock = moment.replace(microsecond=0)
    found = parse_date(f"{clock.year:04}-{clock:%m-%d}{sign}{clock:%H:%M:%S}")
    assert found == (seconds(*clock.timetuple()[:6]),) * 2

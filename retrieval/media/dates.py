"""Read dates and times as cameras, programs and services write them."""

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from retrieval.media import clock_seconds

FIRST_PHOTOGRAPH = 1826
"""Earlier years are a camera without a clock, or nonsense."""

Moment = tuple[int, int | None]
"""`taken_at` and `taken_local` of `retrieval.media.Metadata`."""

_FARTHEST_ZONE = timedelta(hours=14)
_TIME = r"(?:[T ]\s*(\d{1,2})\s*:\s*(\d{1,2})(?:\s*:\s*(\d{1,2}))?(?:[.,]\d*)?)?"
_ZONE = r"\s*(Z\b|[+-]\d\d:?\d\d)?"
_WITH_SIGNS = re.compile(r"(\d{4})\D\s?(\d{1,2})\D\s?(\d{1,2})" + _TIME + _ZONE, re.ASCII)
_WITHOUT_SIGNS = re.compile(
    r"(\d{4})(\d\d)(\d\d)(?:[T ]?(\d\d):?(\d\d):?(\d\d)?(?:[.,]\d*)?)?" + _ZONE, re.ASCII
)
_WITHOUT_DAY = re.compile(r"(\d{4})(?:\D(\d\d))?()()()()()", re.ASCII)
_OFFSET = re.compile(r"([+-])(\d\d):?(\d\d)", re.ASCII)


def parse_date(text: str, offset: str = "", *, is_utc: bool = False) -> Moment | None:
    """Read a date, with or without time and zone: EXIF, ISO 8601, IPTC, RFC 5322 and their slips.

    Signs between the numbers may be any, numbers padded with blanks, fractions are left out. Hour
    24, which some phones write for the first of the day, is hour 0. An impossible time leaves the
    date at midnight; a missing month or day is the first. None for what is no date, and for years
    without photographs.

    Args:
        text: The date.
        offset: From UTC, where the text gives none, as `+02:00`; ignored if it is none.
        is_utc: Whether a time without zone is one of UTC.

    Returns:
        The instant, taken as UTC where no zone is given, and the local time, which `Z` does not
        tell, in seconds since 1970.
    """
    text = text.replace("\0", " ").strip()
    found = _WITH_SIGNS.match(text) or _WITHOUT_SIGNS.match(text) or _WITHOUT_DAY.fullmatch(text)
    if not found:
        return _of_mail(text)
    year, month, day, hour, minute, second, zone = found.groups()
    if int(year) < FIRST_PHOTOGRAPH:
        return None
    try:
        clock = datetime(int(year), int(month or 1) or 1, int(day or 1) or 1, tzinfo=UTC)
    except ValueError:
        return None
    if hour and int(hour) <= 24 and int(minute) < 60:
        clock += timedelta(
            hours=int(hour) % 24, minutes=int(minute), seconds=min(int(second or 0), 59)
        )
    taken_local = clock_seconds(clock)
    ahead = _ahead(zone or offset)
    if zone == "Z" or (is_utc and ahead is None):
        return taken_local, None
    return taken_local - int((ahead or timedelta(0)).total_seconds()), taken_local


def _ahead(offset: str) -> timedelta | None:
    found = _OFFSET.match(offset.replace("\0", " ").strip())
    if not found:
        return None
    sign, hours, minutes = found.groups()
    ahead = timedelta(hours=int(hours), minutes=int(minutes))
    if ahead > _FARTHEST_ZONE:
        return None
    return ahead if sign == "+" else -ahead


def _of_mail(text: str) -> Moment | None:
    """Read a date as the PNG standard recommends: `Sat, 22 Aug 2015 10:00:00 +0200`."""
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if moment.year < FIRST_PHOTOGRAPH:
        return None
    is_utc = text.endswith(("GMT", "UTC", "Z"))
    taken_at = int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
    return taken_at, None if is_utc else clock_seconds(moment)

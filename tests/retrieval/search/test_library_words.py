from datetime import date

import pytest

from retrieval.search.library_words import LibraryWords, folders_below, topmost
from retrieval.search.times import Period


@pytest.mark.parametrize(
    ("below", "year", "month", "dated_to"),
    [
        ("2019", 2019, None, "/p/2019"),
        ("2019/07", 2019, 7, "/p/2019/07"),
        ("2019/07 Paris", 2019, 7, "/p/2019/07 Paris"),
        ("2019/Juli", 2019, 7, "/p/2019/Juli"),
        ("2019/Paris", 2019, None, "/p/2019"),
        ("2019-07-14 Paris", 2019, 7, "/p/2019-07"),
        ("20190714", 2019, 7, "/p/201907"),
        ("Paris 2019", 2019, None, "/p/Paris 2019"),
        ("2018/2019", 2019, None, "/p/2018/2019"),
        ("12019", None, None, ""),
        ("dog", None, None, ""),
        ("07", None, None, ""),
    ],
)
def test_dates_in_the_names_of_folders(below, year, month, dated_to):
    folder = folders_below(["/p"], [f"/p/{below}"])[-1]
    assert (folder.year, folder.month, folder.dated_to) == (year, month, dated_to)


def test_folders_begin_at_the_sources():
    found = folders_below(["/home/paris/p"], ["/home/paris/p/a/b", "/home/paris/p", "/elsewhere"])
    assert [f.path for f in found] == ["/home/paris/p", "/home/paris/p/a", "/home/paris/p/a/b"]
    assert [f.keys for f in found] == [("p",), ("a",), ("b",)]


def test_the_topmost_folders():
    found = folders_below(["/p"], ["/p/a/b", "/p/a!", "/p/a", "/p/c/d"])
    below = [f for f in found if f.path != "/p"]
    assert [f.path for f in topmost(below)] == ["/p/a", "/p/a!", "/p/c"]


class Counted:
    """A source that counts how often it is asked."""

    def __init__(self):
        self.asked = []

    def _say(self, name, value):
        self.asked.append(name)
        return value

    def cameras(self):
        return self._say("cameras", ["FUJIFILM X-T3"])

    def sources(self):
        return ["/p/"]

    def folders(self):
        return self._say("folders", ["/p/Anna's birthday 2018"])

    def places(self):
        return self._say("places", ["Paris\nÎle-de-France", "Lyon\nFrance"])

    def days(self):
        return self._say("days", [(date(2019, 12, 31) - date(1970, 1, 1)).days, -365 * 100])

    def is_southern(self):
        return self._say("is_southern", True)


def test_each_kind_is_read_once_until_the_memory_is_dropped():
    source, memory = Counted(), {}
    for _ in range(3):
        words = LibraryWords(source, memory)
        assert words.cameras() == [("fujifilm x t 3", "FUJIFILM X-T3")]
        assert words.places()["ile de france"] == "Île-de-France"
        assert [f.name for f in words.folders_named("anna s birthday")] == ["Anna's birthday 2018"]
        assert words.folders_named("birthday anna") == []
        assert words.years() == [2018, 2019]
        assert words.is_southern()
    assert sorted(source.asked) == sorted({*source.asked})
    memory.clear()
    words.cameras()
    assert source.asked.count("cameras") == 2


def test_folders_in_a_period():
    def in_period(since, before):
        words = LibraryWords(Counted(), {})
        return [f.name for f in words.folders_in(Period(since, before))]

    assert in_period(date(2018, 1, 1), date(2019, 1, 1)) == ["Anna's birthday 2018"]
    assert in_period(None, date(2019, 1, 1)) == ["Anna's birthday 2018"]
    assert in_period(date(2018, 1, 1), None) == ["Anna's birthday 2018"]
    assert in_period(date(2018, 6, 1), date(2018, 9, 1)) == []
    assert in_period(date(2019, 1, 1), None) == []

"""Times in texts of many languages; today is a Sunday, 29 November 2026."""

import sys
from datetime import date

import pytest

from retrieval.search.times import Period, find_times
from retrieval.search.tokens import tokenize

TODAY = date(2026, 11, 29)


def times(text, *, is_southern=False, years=(2019, 2021)):
    tokens = tokenize(text)

    def is_all(first, last):
        return (first, last) == (0, len(tokens))

    found = find_times(
        text, tokens, TODAY, years=lambda: years, is_southern=lambda: is_southern, is_all=is_all
    )
    return [
        (text[tokens[t.first].start : tokens[t.last - 1].end], *map(str, t.periods)) for t in found
    ]


@pytest.mark.parametrize(
    ("text", "words", "period"),
    [
        ("people 2019", "2019", "2019"),
        ("people in 2019 at sea", "in 2019", "2019"),
        ("people december 2019", "december 2019", "2019-12"),
        ("Dec. 2019", "Dec. 2019", "2019-12"),
        ("Leute im Dezember 2019", "im Dezember 2019", "2019-12"),
        ("le 14 juillet 2019", "le 14 juillet 2019", "2019-07-14"),
        ("July 4th, 2019", "July 4th, 2019", "2019-07-04"),
        ("diciembre de 2019", "diciembre de 2019", "2019-12"),
        ("dezembro de 2019", "dezembro de 2019", "2019-12"),
        ("dicembre 2019", "dicembre 2019", "2019-12"),
        ("december 2019", "december 2019", "2019-12"),
        ("grudzień 2019", "grudzień 2019", "2019-12"),
        ("собака в декабре 2019 года", "в декабре 2019 года", "2019-12"),
        ("aralık 2019", "aralık 2019", "2019-12"),
        ("tháng 12 2019", "tháng 12 2019", "2019-12"),
        ("2019年12月", "2019年12月", "2019-12"),
        ("2019年12月24日的雪", "2019年12月24日的", "2019-12-24"),
        ("2019년 12월", "2019년 12월", "2019-12"),
        ("ديسمبر 2019", "ديسمبر 2019", "2019-12"),
        ("summer of 2019", "summer of 2019", "2019-06 – 2019-08"),
        ("2019年夏天", "2019年夏天", "2019-06 – 2019-08"),
        ("Winter 2019", "Winter 2019", "2019-12 – 2020-02"),
        ("été 2019", "été 2019", "2019-06 – 2019-08"),
        ("estate 2019", "estate 2019", "2019-06 – 2019-08"),
        ("last summer", "last summer", "2026-06 – 2026-08"),
        ("letzten Sommer", "letzten Sommer", "2026-06 – 2026-08"),
        ("el verano pasado", "el verano pasado", "2026-06 – 2026-08"),
        ("l'été dernier", "l'été dernier", "2026-06 – 2026-08"),
        ("прошлым летом", "прошлым летом", "2026-06 – 2026-08"),
        ("去年夏天", "去年夏天", "2025-06 – 2025-08"),
        ("last year's summer", "last year's summer", "2025-06 – 2025-08"),
        ("last december", "last december", "2025-12"),
        ("this december", "this december", "2025-12"),
        ("yesterday", "yesterday", "2026-11-28"),
        ("gestern", "gestern", "2026-11-28"),
        ("ayer", "ayer", "2026-11-28"),
        ("昨天的狗", "昨天的", "2026-11-28"),
        ("昨日", "昨日", "2026-11-28"),
        ("어제", "어제", "2026-11-28"),
        ("вчера", "вчера", "2026-11-28"),
        ("today", "today", "2026-11-29"),
        ("last week", "last week", "2026-11-16 – 2026-11-22"),
        ("上周", "上周", "2026-11-16 – 2026-11-22"),
        ("last month", "last month", "2026-10"),
        ("letzter Monat", "letzter Monat", "2026-10"),
        ("last year", "last year", "2025"),
        ("this year", "this year", "2026"),
        ("last friday", "last friday", "2026-11-27"),
        ("3 days ago", "3 days ago", "2026-11-26"),
        ("vor drei Tagen", "vor drei Tagen", "2026-11-26"),
        ("il y a deux ans", "il y a deux ans", "2024"),
        ("三天前", "三天前", "2026-11-26"),
        ("2019-12-24", "2019-12-24", "2019-12-24"),
        ("24.12.2019", "24.12.2019", "2019-12-24"),
        ("25/12/2019", "25/12/2019", "2019-12-25"),
        ("12/2019", "12/2019", "2019-12"),
        ("2017-2019", "2017-2019", "2017 – 2019"),
        ("between 2017 and 2019", "between 2017 and 2019", "2017 – 2019"),
        ("since 2019", "since 2019", "2019-01-01 –"),
        ("after 2019", "after 2019", "2020-01-01 –"),
        ("vor 2019", "vor 2019", "– 2018-12-31"),
        ("bis 2019", "bis 2019", "– 2019-12-31"),
        ("in the 1990s", "in the 1990s", "1990 – 1999"),
    ],
)
def test_times_of_many_languages(text, words, period):
    assert times(text) == [(words, period)]


@pytest.mark.parametrize(
    "text",
    [
        "december",
        "in december",
        "im Dezember",
        "snow in december, on a roof",
        "十二月的照片",
        "12月",
    ],
)
def test_a_month_without_a_year_is_that_of_each_year(text):
    [(_, *periods)] = times(text)
    assert periods == ["2019-12", "2021-12"]


@pytest.mark.parametrize(
    "text",
    [
        "a man may jump",
        "march of the penguins",
        "an august company",
        "the fall of a tree",
        "a spring in the desert",
        "winter is coming",
        "I may go",
        "i march",
        "ein Hund hier",
        "vor dem Haus",
        "a boy before a wall",
        "last one standing",
        "this is a dog",
        "1920x1080",
        "IMG_2019",
        "$2019",
        "2,019 1.2019.5",
        "12019",
        "12/9999",
        "1.1.0000",
        "0000-01",
        "the 2090s",
        "2049",
        "1899",
        "3/4/2019",
        "31.2.2019",
        "2000 people",
        "五月天",
        "夏天的海滩",
        "real estate",
        "sun on a mar",
        "people in winter clothes",
        "two girls in summer dresses",
        "this man is swinging",
        "Skateboardista a ostatní ho sledují",
        "这个年轻人",
        "爬上周围的车辆",
        "a runner past an outdoor stall",
    ],
)
def test_other_words_are_no_times(text):
    assert times(text) == []


def test_the_estate_of_a_year_is_no_summer():
    assert times("real estate 2019") == [("2019", "2019")]


def test_seasons_turn_in_the_south():
    assert times("summer 2019", is_southern=True) == [("summer 2019", "2019-12 – 2020-02")]
    assert times("winter 2019", is_southern=True) == [("winter 2019", "2019-06 – 2019-08")]


def test_several_times_in_a_text():
    assert times("a dog in 2019, a cat yesterday") == [
        ("in 2019", "2019"),
        ("yesterday", "2026-11-28"),
    ]


@pytest.mark.parametrize(
    "text", ["a dog on the beach", "people in Paris 2019", "vorige Woche", "gestern", "上周"]
)
def test_most_texts_do_without_the_large_parser(text, monkeypatch):
    monkeypatch.setitem(sys.modules, "dateparser", None)
    times(text)


def test_a_month_that_the_library_has_in_no_year_is_no_time():
    assert times("december", years=()) == []


def test_only_days_and_weeks_near_today_are_recent():
    def is_recent(text):
        tokens = tokenize(text)
        [found] = find_times(
            text,
            tokens,
            TODAY,
            years=lambda: (),
            is_southern=lambda: False,
            is_all=lambda *_: True,
        )
        return found.is_recent

    assert is_recent("yesterday")
    assert is_recent("last week")
    assert not is_recent("last year")
    assert not is_recent("2019")


def test_periods_are_written_as_short_as_they_say_it():
    assert str(Period(date(2019, 1, 1), date(2020, 1, 1))) == "2019"
    assert str(Period(date(2019, 2, 1), date(2019, 3, 1))) == "2019-02"
    assert str(Period(date(2019, 2, 3), date(2019, 2, 4))) == "2019-02-03"
    assert str(Period(date(2019, 2, 3), date(2019, 2, 6))) == "2019-02-03 – 2019-02-05"

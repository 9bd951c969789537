"""Queries against a library that is no more than its lists; tests of the engine use a real one."""

from dataclasses import replace
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from retrieval.errors import UsageError
from retrieval.filters import Filter
from retrieval.search.library_words import LibraryWords
from retrieval.search.parse import parse_query, parse_text
from retrieval.search.query import MAX_LITERAL, ImagePart, Mode, Query, TextPart
from retrieval.search.tokens import tokenize

TODAY = date(2026, 11, 29)


class Lists:
    def cameras(self):
        return ["Apple iPhone 12", "FUJIFILM X-T3", "Google Pixel 6", "NIKON D850"]

    def sources(self):
        return ["/p"]

    def folders(self):
        return [
            "/p/2018/Rome trip",
            "/p/2019/Paris",
            "/p/2020-07",
            "/p/Anna",
            "/p/Hallstatt",
            "/p/dog",
            "/p/snow",
        ]

    def places(self):
        return ["Berlin\nMitte\nGermany", "Beijing\nChina", "Nice\nFrance", "Munich\nGermany"]

    def days(self):
        return [(date(year, 7, 3) - date(1970, 1, 1)).days for year in (2017, 2019, 2021, 2026)]

    def is_southern(self):
        return False


LIBRARY = LibraryWords(Lists(), {})
NOTHING = LibraryWords(
    type(
        "Empty",
        (Lists,),
        {name: lambda _: [] for name in ("cameras", "sources", "folders", "places", "days")},
    )(),
    {},
)


def parsed(text, library=LIBRARY):
    found = parse_text(text, library, TODAY)
    return found.rest, *((part.words, part.kind.value, part.label) for part in found.understood)


@pytest.mark.parametrize(
    ("text", "rest", "parts"),
    [
        ("people in Paris 2019", "people", ["in Paris|place|Paris", "2019|time|2019"]),
        ("people in paris", "people", ["in paris|place|paris"]),
        ("Paris people", "people", ["Paris|place|Paris"]),
        ("Paris", "", ["Paris|place|Paris"]),
        ("paris 2019 people", "people", ["paris|place|paris", "2019|time|2019"]),
        ("people (Paris, 2019)", "people", ["Paris|place|Paris", "2019|time|2019"]),
        ("gente en París en 2019", "gente", ["en París|place|París", "en 2019|time|2019"]),
        ("巴黎的雪 2019", "雪", ["巴黎的|place|巴黎", "2019|time|2019"]),
        ("Hunde in München", "Hunde", ["in München|place|Munich"]),
        ("北京的雪", "雪", ["北京的|place|Beijing"]),
        ("Sommer 2019 in Frankreich", "", ["Sommer 2019|time|2019-06 – 2019-08",
                                           "in Frankreich|place|France"]),
        ("法国", "", ["法国|place|France"]),
        ("people in Nice", "people", ["in Nice|place|Nice"]),
        ("church rome 2018", "church", ["rome|place|rome", "2018|time|2018"]),
        ("people in Hallstatt", "people", ["in Hallstatt|folder|Hallstatt"]),
        ("gens à Paris", "gens", ["à Paris|place|Paris"]),
        ("gente a Berlin", "gente", ["a Berlin|place|Berlin"]),
        ("people in hallstatt 2019", "people", ["in hallstatt|folder|hallstatt", "2019|time|2019"]),
        ("a dog in snow 2019", "a dog in snow", ["2019|time|2019"]),
        ("folder anna", "", ["folder anna|folder|anna"]),
        ("三月的照片", "照片", ["三月的|time|三月"]),
        ("yesterday's dinner", "dinner", ["yesterday's|time|2026-11-28"]),
        ("shot with a Fuji", "", ["shot with a Fuji|camera|FUJIFILM X-T3"]),
        ("dogs shot on Nikon", "dogs", ["shot on Nikon|camera|NIKON D850"]),
        ("photos from the iPhone", "photos", ["from the iPhone|camera|Apple iPhone 12"]),
        ("iPhone photos", "photos", ["iPhone|camera|Apple iPhone 12"]),
        ("mit der Fuji aufgenommen", "", ["mit der Fuji aufgenommen|camera|FUJIFILM X-T3"]),
        ("用富士拍的照片", "照片", ["用富士拍的|camera|FUJIFILM X-T3"]),
        ("用iPhone拍的照片", "照片", ["用iPhone拍的|camera|Apple iPhone 12"]),
        ("selfie taken with my Apple phone", "selfie",
         ["taken with my Apple phone|camera|Apple iPhone 12"]),
    ],
)  # fmt: skip
def test_what_words_are_understood_as(text, rest, parts):
    assert parsed(text) == (rest, *(tuple(part.split("|")) for part in parts))


@pytest.mark.parametrize(
    "text",
    [
        "dog",
        "a dog in the snow",
        "snow",
        "Nice dog",
        "a nice day",
        "a berlin style",
        "eine Formation in der Mitte eines Walds",
        "a china plate",
        "paris hilton",
        "hallstatt",
        "anna",
        "Anna and a dog",
        "an apple on a table",
        "a person with an apple",
        "a girl with the iPhone",
        "a man with a nikon camera",
        "an apple shot",
        "pixel art",
        "pixel",
        "a man shot with an arrow",
        "",
        "!?",
        "dog " * 100,
    ],
)
def test_words_that_stay_words(text):
    assert parsed(text) == (text,)


def test_what_the_library_has_not_is_no_place_and_no_camera():
    assert parsed("people in Paris shot with a Fuji", NOTHING) == (
        "people in Paris shot with a Fuji",
    )


def test_a_word_in_a_title_is_no_name():
    assert parsed("MAN NEAR MITTE") == ("MAN", ("NEAR MITTE", "place", "Mitte"))
    assert parsed("The Mitte Of A Street") == ("The Mitte Of A Street",)


def test_folders_tell_the_year_of_files_without_a_date():
    [year] = parse_text("2019", LIBRARY, TODAY).understood
    dated, named = year.where.any_of
    assert dated.taken_at.recorded
    assert str(dated.taken_at.since) == "2019-01-01 00:00:00"
    assert named.all_of[0] == Filter(source="/p/2019")
    assert named.all_of[1].none_of.taken_at.recorded
    [month] = parse_text("july 2020", LIBRARY, TODAY).understood
    assert month.where.any_of[1].all_of[0] == Filter(source="/p/2020-07")
    [day] = parse_text("yesterday", LIBRARY, TODAY).understood
    assert not day.where.taken_at.recorded


def test_a_place_is_that_of_coordinates_and_of_folders():
    folders = ["/p/Berlin 1", "/p/x/2020 Berlin"]
    both = LibraryWords(type("Both", (Lists,), {"folders": lambda _: folders})(), {})
    [place] = parse_text("Berlin", both, TODAY).understood
    assert place.where.any_of == (
        Filter(place="Berlin"),
        Filter(source="/p/Berlin 1"),
        Filter(source="/p/x/2020 Berlin"),
    )


def test_many_folders_are_patterns():
    days = [f"/p/2019-{month:02}-{day:02} [a]" for month in (5, 6) for day in range(1, 20)]
    many = LibraryWords(type("Many", (Lists,), {"folders": lambda _: days})(), {})
    [month] = parse_text("june 2019", many, TODAY).understood
    [pattern] = [part for part in month.where.any_of if part.all_of]
    assert pattern.all_of[0] == Filter(path="/p/2019-06*/**")


def test_literal_words_stay():
    assert parse_text("people in Paris 2019", LIBRARY, TODAY, literal=["in paris"]).rest == (
        "people in Paris"
    )


PIECES = st.sampled_from(
    [
        *("a dog", "Paris", "in", "2019", "december", "last", "summer", "shot", "with", "Fuji"),
        *(
            "三月",
            "的",
            "照片",
            "yesterday",
            ",",
            "(",
            ")",
            ".",
            "Nice",
            "before",
            "2018",
            "-",
            "12",
        ),
        *("Rome", "北京", "from", "the", "iPhone", "may", "of", "’s", "3 days ago"),
    ]
)


@given(st.lists(PIECES, max_size=12).map(" ".join))
def test_the_rest_and_the_parts_are_the_text(text):
    found = parse_text(text, LIBRARY, TODAY)
    words = [t.key for t in tokenize(found.rest)]
    words += [t.key for part in found.understood for t in tokenize(part.words)]
    assert sorted(words) == sorted(t.key for t in tokenize(text))
    assert all(part.words in text for part in found.understood)


@given(st.text(max_size=30))
def test_any_text_can_be_parsed(text):
    found = parse_text(text, LIBRARY, TODAY)
    if not found.understood:
        assert found.rest == text


def asked(query, matches=lambda _: True):
    return parse_query(query, LIBRARY, matches, TODAY)


QUERY = Query((TextPart("people in Paris 2019"),), min_relevance=0.5, parse=True)


def test_the_filters_join_that_of_the_query():
    found = asked(replace(QUERY, where=Filter(width={"min": 10})))
    assert found.query.parts == (TextPart("people"),)
    assert found.query.where.all_of[0] == Filter(width={"min": 10})
    assert found.query.where.all_of[1:] == tuple(part.where for part in found.understood)
    assert found.query.min_relevance == 0.5
    assert found.asked.where == Filter(width={"min": 10})


def test_a_text_that_is_all_filters_cuts_nothing():
    found = asked(replace(QUERY, parts=(TextPart("Photos in Paris 2019"),)))
    assert (found.query.min_relevance, found.query.mode) == (0, Mode.VECTOR)
    assert found.query.words == "Photos"
    assert asked(replace(QUERY, parts=(TextPart("Paris 2019"),))).query.words == "Paris 2019"


def test_a_text_that_is_all_filters_is_left_out_beside_an_image():
    image = ImagePart(Image.new("RGB", (4, 4)))
    assert asked(replace(QUERY, parts=(TextPart("2019"), image))).query.parts == (image,)


def test_words_to_be_found_are_kept_where_only_words_are_looked_for():
    query = Query((TextPart("Paris 2019"),), mode=Mode.TEXT, parse=True)
    assert asked(query).query == query


def test_unwanted_texts_are_not_parsed():
    query = replace(QUERY, parts=(TextPart("a dog"), TextPart("Paris 2019", -1.0)))
    assert asked(query).query == query


def test_filters_that_leave_nothing_are_words_again_and_that_is_said():
    found = asked(QUERY, lambda _: False)
    assert found.query == QUERY
    assert found.understood == ()
    assert [warning.count('"') for warning in found.warnings] == [2, 2]
    assert '"in Paris" (Paris)' in found.warnings[0]


def test_of_filters_that_leave_nothing_together_the_first_is_applied():
    found = asked(QUERY, lambda where: where.all_of is None)
    assert [part.words for part in found.understood] == ["in Paris"]
    assert found.query.parts == (TextPart("people 2019"),)
    [said] = found.warnings
    assert '"2019"' in said


def test_more_conditions_than_a_filter_may_have_are_no_filter():
    where = Filter(any_of=[Filter(source=f"/{n}") for n in range(49)])
    assert asked(replace(QUERY, where=where)).understood == ()


def test_too_many_literal_texts():
    with pytest.raises(UsageError, match="literal"):
        Query((TextPart("a"),), literal=("a",) * (MAX_LITERAL + 1))

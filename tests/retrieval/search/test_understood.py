"""Words of queries that become filters, through the engine, on a library with real files."""

from datetime import date, timedelta

import pytest

from retrieval.filters import Filter
from retrieval.search.engine import Engine
from retrieval.search.query import Mode, Query, Reranking, TextPart

NONE = Reranking("none")


@pytest.fixture(scope="module")
def engine(travel_library):
    return Engine(travel_library, device="cpu")


def ask(engine, text, **options):
    return engine.search(Query((TextPart(text),), **{"parse": True} | options), NONE)


def found(answer):
    return sorted(hit.path.rpartition("/")[2] for hit in answer)


@pytest.mark.parametrize(
    ("text", "names", "kinds"),
    [
        ("people in Paris 2019", [2, 3], ["place", "time"]),
        ("people in Rome", [0, 1], ["place"]),
        ("罗马的照片", [0, 1], ["place"]),
        ("people 2019", [2, 3, 4], ["time"]),
        ("a cat in Berlin", [5, 6], ["place"]),
        ("cats, Berlin 2021", [5], ["place", "time"]),
        ("Katzen in Deutschland im Dezember", [6], ["place", "time"]),
        ("july 2021", [5], ["time"]),
        ("2021年夏天", [5], ["time"]),
        ("photos shot with a Fuji", [5, 6], ["camera"]),
        ("dog", range(8), []),
        ("a cat at home", range(8), []),
    ],
)
def test_what_is_found(engine, text, names, kinds):
    answer = ask(engine, text)
    assert found(answer) == [f"{name}.jpg" for name in names]
    assert [part.kind for part in answer.understood] == kinds
    assert not answer.warnings


def test_nothing_is_parsed_unless_it_is_asked_for(engine):
    answer = ask(engine, "people in Paris 2019", parse=False)
    assert len(answer) == 8
    assert answer.understood == ()


def test_the_encoder_and_the_words_get_the_rest(engine):
    where = ask(engine, "people in Paris 2019").understood
    parsed = ask(engine, "people in Paris 2019", mode=Mode.VECTOR)
    plain = ask(
        engine,
        "people",
        mode=Mode.VECTOR,
        parse=False,
        where=Filter(all_of=tuple(part.where for part in where)),
    )
    assert [(h.path, h.similarity) for h in parsed] == [(h.path, h.similarity) for h in plain]
    assert ask(engine, "people in Paris 2019").mode is Mode.VECTOR


def test_files_that_were_written_today_are_not_of_this_year(engine):
    answer = ask(engine, f"people {date.today().year}")
    assert answer.understood == ()
    [warning] = answer.warnings
    assert str(date.today().year) in warning


def test_a_day_near_today_may_be_that_of_the_file(engine):
    # Files that have just changed do not count: see UNTRUSTED_MTIME.
    yesterday = ask(engine, "yesterday")
    assert str(date.today() - timedelta(1)) in yesterday.warnings[0]


def test_a_filter_that_leaves_nothing_is_not_applied(engine):
    answer = ask(engine, "people in Berlin 2019")
    assert found(answer) == ["5.jpg", "6.jpg"]
    assert [part.words for part in answer.understood] == ["in Berlin"]
    assert '"2019"' in answer.warnings[0]
    narrow = ask(engine, "people 2019", where=Filter(camera="fuji"))
    assert (found(narrow), narrow.understood) == (["5.jpg", "6.jpg"], ())


def test_what_is_all_filters_is_shown_whole(engine):
    assert len(ask(engine, "2019", min_relevance=1.0)) == 3
    assert len(ask(engine, "people 2019", min_relevance=1.0)) == 0


def test_literal_words_are_searched_for(engine):
    answer = ask(engine, "people in Paris 2019", literal=("in Paris",))
    assert [part.words for part in answer.understood] == ["2019"]
    assert found(answer) == ["2.jpg", "3.jpg", "4.jpg"]


def test_later_pages_go_on(engine):
    first = ask(engine, "people 2019", k=2)
    second = ask(engine, "people 2019", k=2, cursor=first.next_cursor)
    assert found(first) + found(second) != found(first)
    assert len({*found(first), *found(second)}) == 3
    assert second.understood == first.understood


def test_the_words_of_a_place_are_found(engine):
    answer = ask(engine, "Berlin", parse=False, mode=Mode.TEXT)
    assert found(answer) == ["5.jpg", "6.jpg"]


def test_python_asks_for_it(travel_library):
    answer = travel_library.search("people 2019", parse=True, literal=["x"], rerank="none")
    assert [part.label for part in answer.understood] == ["2019"]
    assert travel_library.search("people 2019", rerank="none").understood == ()

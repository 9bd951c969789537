"""`--open`: hits by their numbers, and the page."""

from urllib.parse import parse_qs

import pytest
import typer

from api.cli.opening import PAGE, left_out_of_page, page_query, parse_choices, with_page
from retrieval.errors import UsageError
from retrieval.filters import Filter
from retrieval.media import MediaKind, Modality
from retrieval.search.query import ItemPart, JointQuery, Query, Sort, TextPart


@pytest.fixture
def launched(monkeypatch):
    """What the system was asked to open."""
    opened: list[str] = []

    def launch(target: str) -> int:
        opened.append(target)
        return 0

    monkeypatch.setattr(typer, "launch", launch)
    return opened


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (["--open"], ["--open", PAGE]),
        (["--open", "2"], ["--open", "2"]),
        (["--open", "page"], ["--open", PAGE]),
        (["--open", "a dog"], ["--open", PAGE, "a dog"]),
        (["--open", "-k", "2"], ["--open", PAGE, "-k", "2"]),
        (["dog", "--open", "1", "--open"], ["dog", "--open", "1", "--open", PAGE]),
        (["--", "--open", "x"], ["--", "--open", "x"]),
        (["--open=2", "x"], ["--open=2", "x"]),
    ],
)
def test_open_alone_is_the_page(said, meant):
    assert with_page(said) == meant


def test_other_values_are_refused():
    assert parse_choices(["2", "page"]) == [2, PAGE]
    for wrong in ("two", "-1", "²", ""):
        with pytest.raises(UsageError, match="the number of a hit"):
            parse_choices([wrong])


def test_hits_are_opened_by_their_numbers(indexed, run, launched):
    hits = run("search", "a dog", "--json").json["hits"]
    assert run("search", "a dog", "--open", 2, "--open", 1).code == 0
    assert launched == [hits[1]["path"], hits[0]["path"]]
    none = run("search", "a dog", "-k", 1, "--open", 2)
    assert (none.code, none.err.strip()) == (1, "There is no hit 2 to open.")
    second_page = ("search", "a dog", "-k", 1, "--page", 2)
    assert run(*second_page, "--open", 2).code == 0
    assert launched[2:] == [hits[1]["path"]]


def test_a_system_without_programs_says_so(indexed, run, monkeypatch):
    monkeypatch.setattr(typer, "launch", lambda _: 3)
    assert "no program to open" in run("search", "a dog", "--open", 1).err


def test_the_page_is_served_and_opened(indexed, run, launched, monkeypatch, tmp_path):
    served = {}
    monkeypatch.setattr("api.cli.serve.serve", lambda **options: served.update(options))
    monkeypatch.setattr(
        "api.cli.opening._open_when_ready", lambda _, address: launched.append(address)
    )
    assert run("search", "a dog", "--open", "--library", tmp_path / "library").code == 0
    assert served["library"] == [str(tmp_path / "library")]
    [address] = launched
    assert address == f"http://127.0.0.1:{served['port']}/?q=a+dog"


def test_the_page_asks_the_same():
    parts = (TextPart("a dog"), TextPart("snow", -1.0), TextPart("a cat", -2.0))
    parts = (TextPart("a dog"), TextPart("snow", -1.0), TextPart("a cat", -2.0))
    where = Filter(source="/photos", kind=[MediaKind.IMAGE])
    query = Query(parts, where=where, sort=Sort.DATE)
    said = parse_qs(page_query(JointQuery(query, tuple(Modality)))[1:])
    assert said == {
        "q": ['a dog -snow -"a cat"'],
        "source": ["/photos"],
        "kind": ["image"],
        "sort": ["date"],
    }


def test_the_page_gets_filters_and_what_it_cannot_show_is_named():
    where = Filter(collection="summer", rating={"min": 4}, camera="canon")
    query = Query(
        (TextPart("a dog", 2.0), ItemPart(3)), where=where, min_relevance=0.5, group_by_file=True
    )
    joint = JointQuery(query, (Modality.IMAGE,))
    said = parse_qs(page_query(joint)[1:])
    assert said == {
        "q": ["a dog"],
        "like": ["3"],
        "what": ["image"],
        "collection": ["summer"],
        "rating": ["4"],
        "min": ["0.5"],
        "group": ["1"],
    }
    assert left_out_of_page(joint) == ["weights", "other filters"]

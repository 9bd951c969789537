"""The words that ship are those of the packages that they come from."""

from retrieval.search.tokens import query_words
from tools.query_words import LANGUAGES, large_cities, place_names, time_words


def test_the_file_has_the_words_of_every_language():
    assert list(query_words()["time"]) == LANGUAGES


def test_the_file_is_what_the_tool_writes():
    shipped = query_words()
    german = time_words("de")
    assert shipped["time"]["de"]["months"] == german["months"]
    assert german["months"]["dezember"] == 12
    assert german["relative"]["gestern"] == ["day", -1]
    assert "paris" in large_cities()
    assert "paris" in shipped["cities"]


def test_places_have_the_names_of_the_gazetteer():
    found = place_names()
    assert found["frankreich"] == ["France"]
    assert found["munchen"] == ["Munich"]
    assert "Czech Republic" in found["tschechien"]

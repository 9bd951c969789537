"""What words of captions say beside themselves."""

from retrieval.search.vocabulary import stems_in
from retrieval.training.said_words import read_tables, said_words


def stem(word: str) -> str:
    return stems_in(word, "english")[0]


def test_spellings_say_each_other_and_what_is_implied():
    tables = {
        "same_as": {"men": "man", "people": "person"},
        "implies": {"boy": "child", "child": "person", "man": "person"},
    }
    said = said_words(tables, str)
    assert set(said["boy"]) == {"child", "person", "people"}
    assert set(said["men"]) == {"man", "person", "people"}
    assert set(said["person"]) == {"people"}
    assert "dog" not in said


def test_circles_end():
    said = said_words({"implies": {"a": "b", "b": "a"}}, str)
    assert (set(said["a"]), set(said["b"])) == ({"b"}, {"a"})


def test_the_bundled_tables_are_of_english_alone():
    said = said_words(read_tables("en"), stem)
    assert {stem("person"), stem("people"), stem("child")} <= set(said[stem("boys")])
    assert stem("water") in said[stem("ocean")]
    assert read_tables("xx") == {}

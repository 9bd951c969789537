import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.catalog.fulltext.index import MOST_TERMS, indexed, terms


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("IMG_2023-beach.JPG", "img 2023 beach jpg"),
        ("beach2019", "beach2019 beach 2019"),
        ("iPhone HTMLParser", "iphone i phone htmlparser html parser"),
        ("Élan Straße", "elan strasse"),
        ("Ёлка ΑΘΉΝΑ", "елка αθηνα"),
        ("海滩2019", "海 滩 2019"),
        ("がぎ カ", "が ぎ カ"),
        ("강아지", "강 아 지"),
        ("ก่า", "ก่ า"),
        ("नमस्ते", "नमस्ते"),
        ("١٢", "١٢"),
        ('🐶 - " * \0 \ud800', ""),
        ("", ""),
    ],
)
def test_words_of_a_text(text, words):
    assert indexed(text) == words


@pytest.mark.parametrize(
    ("text", "any_word", "every_word"),
    [
        ("dog beach ", [("dog",), ("beach",)], [("dog",), ("beach",)]),
        ("dog bea", [("dog",), ("bea", "bea*")], [("dog",), ("bea",)]),
        ("be", [("be",)], [("be",)]),
        ("a2 ", [("a2", "a 2")], [("a2", "a 2")]),
        ("雪山", [("雪 山",)], [("雪 山",)]),
        ("大雪山", [("大 雪 山", "大 雪", "雪 山")], [("大 雪 山",)]),
        ("NEAR near", [("near",), ("near", "near*")], [("near",)]),
    ],
)
def test_what_a_query_asks_for(text, any_word, every_word):
    """A star stands for a prefix."""
    for expected, all_words in ((any_word, False), (every_word, True)):
        found = terms(text, all_words=all_words)
        assert [
            tuple(phrase.words + "*" * phrase.is_prefix for phrase in term) for term in found
        ] == expected


@given(st.text())
def test_text_in_ascii_has_the_words_that_it_has_beside_others(text):
    ascii_only = text.encode("ascii", errors="replace").decode()
    assert indexed(f"{ascii_only} é").split() == [*indexed(ascii_only).split(), "e"]


@given(st.text(), st.booleans())
def test_queries_are_bounded_and_hold_no_syntax(text, all_words):
    found = terms(text * 40, all_words=all_words)
    assert len(found) <= MOST_TERMS
    for term in found:
        assert len(term) <= MOST_TERMS
        for phrase in term:
            assert not set(phrase.words) & set('"*():^-+\0')

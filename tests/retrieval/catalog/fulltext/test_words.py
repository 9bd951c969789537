import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.catalog.fulltext.words import MOST_TERMS, indexed, stems, terms, without_ending


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("IMG_2023-beach", "img 2023 beach"),
        ("beach2019", "beach2019 beach 2019"),
        ("iPhone HTMLParser", "iphone i phone iphon phon htmlparser html parser htmlpars pars"),
        ("Élan Straße", "elan strasse strass"),
        ("Receipts, Häuser", "receipts receipt hauser haus"),
        ("O'Neil", "oneil o neil"),
        ("O’Neil", "oneil o neil"),
        ("2019-07-04 12-30", "20190704 2019 07 04 12 30"),
        ("é2019_07_04", "e2019 e 2019 07 04"),
        ("Ёлка ΑΘΉΝΑ", "елка αθηνα"),
        ("ｄｏｇｓ", "dogs dog"),
        ("海滩2019", "海 滩 2019"),
        ("海灘 圖書館", "海 滩 图 书 馆"),
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
    ("text", "wanted"),
    [
        ("dog beach ", [("dog",), ("beach",)]),
        ("dog bea", [("dog",), ("bea", "bea*")]),
        ("be", [("be",)]),
        ("receipts ", [("receipts", "receipt")]),
        ("Katzen ", [("katzen", "katz")]),
        ("a2 ", [("a2", "a 2")]),
        ("oneil ", [("oneil",)]),
        ("2019-07-04 ", [("20190704", "2019 07 04")]),
        ("20190704 ", [("20190704",)]),
        ("雪山", [("雪 山",)]),
        ("大雪山", [("大 雪",), ("雪 山",)]),
        ("小明的生日", [("小 明",), ("生 日",)]),
        ("狗在海灘", [("狗",), ("海 滩",)]),
        ("NEAR near", [("near", "near*")]),
        ("picture-3.png", [("picture", "pictur"), ("3",)]),
        ("*.JPG", []),
    ],
)
def test_what_a_query_asks_for(text, wanted):
    """A star stands for a prefix."""
    assert [
        tuple(phrase.words + "*" * phrase.is_prefix for phrase in term.phrases)
        for term in terms(text)
    ] == wanted


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("the castle of Anna", [0, 1, 0, 1]),
        ("ein Foto von der Burg", [0, 1, 0, 0, 1]),
        ("2 dogs", [0.5, 1]),
        ("我的", [0]),
        ("你是我的", [0, 0, 0]),
        ("我的生日", [1]),
        ("man in a red hat", [1, 0, 0, 1, 1]),
    ],
)
def test_function_words_weigh_nothing(text, weights):
    assert [term.weight for term in terms(text)] == weights


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("dog", "dogs"),
        ("castle", "castles"),
        ("family", "families"),
        ("running", "runs"),
        ("Katze", "Katzen"),
        ("Haus", "Häuser"),
        ("Straße", "Strassen"),
        ("Kind", "Kinder"),
        ("dog's", "dogs"),
    ],
)
def test_forms_of_a_word_find_each_other(one, other):
    for said, asked in ((one, other), (other, one)):
        [term] = terms(f"{asked} ")
        assert {phrase.words for phrase in term.phrases} & set(indexed(said).split())


def test_only_latin_words_have_stems():
    assert stems("ab") == stems("2019") == stems("собаки") == stems("") == ()


def test_endings_are_those_that_can_be_indexed():
    assert without_ending("a.b.JPEG") == "a.b"
    assert without_ending("v1.2") == "v1.2"
    assert without_ending("jpg") == "jpg"


@given(st.text())
def test_text_in_ascii_has_the_words_that_it_has_beside_others(text):
    ascii_only = text.encode("ascii", errors="replace").decode()
    assert indexed(f"{ascii_only} é").split() == [*indexed(ascii_only).split(), "e"]


@given(st.text())
def test_queries_are_bounded_and_hold_no_syntax(text):
    found = terms(text * 40)
    assert len(found) <= MOST_TERMS
    for term in found:
        assert 0 < len(term.phrases) <= MOST_TERMS
        assert 0 <= term.weight <= 1
        for phrase in term.phrases:
            assert not set(phrase.words) & set('"*():^-+\0')


@given(st.text())
def test_a_query_is_in_the_words_of_its_text(text):
    held = f" {indexed(text)} "
    for term in terms(f"{text} "):
        assert any(f" {phrase.words} " in held for phrase in term.phrases)

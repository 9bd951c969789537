from itertools import pairwise

import regex
from hypothesis import given
from hypothesis import strategies as st

from retrieval.search.tokens import fold, key_of, phrases, query_words, tokenize

ANYTHING = regex.compile(r".{0,2}", regex.DOTALL)


def test_words_numbers_and_syllables_are_tokens():
    text = "L’été 2019, 三月!"
    assert [(t.key, t.kind, text[t.start : t.end]) for t in tokenize(text)] == [
        ("l", "word", "L"),
        ("ete", "word", "été"),
        ("2019", "number", "2019"),
        ("三", "syllable", "三"),
        ("月", "syllable", "月"),
    ]


def test_keys_ignore_case_width_and_accents():
    assert fold("Ｐａｒís") == fold("PARIS") == "paris"
    assert key_of("Île-de-France") == key_of("ile de france")
    assert key_of("2019年 夏天") == "2019年 夏天"
    assert key_of("이번 달") == "이번 달"


@given(st.text(max_size=40))
def test_tokens_are_in_order_and_hold_every_letter_and_digit(text):
    tokens = tokenize(text)
    assert all(a.end <= b.start for a, b in pairwise(tokens))
    inside = {at for token in tokens for at in range(token.start, token.end)}
    assert all(at in inside for at, c in enumerate(text) if regex.fullmatch(r"[\p{L}\p{Nd}]", c))


def test_phrases_come_longest_first_and_stop_at_a_gap():
    text = "a b c; d"
    tokens = tokenize(text)
    assert list(phrases(tokens, 0, 5, regex.compile(r"\s*"), text)) == [
        (3, "a b c"),
        (2, "a b"),
        (1, "a"),
    ]
    assert [end for end, _ in phrases(tokens, 0, 2, ANYTHING, text)] == [2, 1]


def test_the_words_are_keys():
    words = query_words()
    assert all(key_of(name) == name for name in list(words["places"])[::50])
    for told in words["time"].values():
        assert set(told["months"].values()) == set(range(1, 13))
        assert all(key_of(word) == word for word in told["relative"])

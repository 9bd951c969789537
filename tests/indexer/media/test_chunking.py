import itertools
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from indexer.media.chunking import Chunk, split

TEXTS = st.text(
    st.sampled_from('abC é1.!?…。！、， \t\n\r\f\x1c\u2029-*"”)字が한กा\u0301\U0001f600\0'),
    max_size=200,
) | st.text(max_size=200)


def words_and_frame(text: str) -> int:
    """As an encoder counts: a word or four characters a token, and two that are always there."""
    return 2 + sum((len(word) + 3) // 4 for word in text.split())


COUNTERS = st.sampled_from([len, words_and_frame, lambda text: len(text.encode()) // 3])


def texts_of(chunks: list[Chunk]) -> list[str]:
    return [chunk.text for chunk in chunks]


@given(TEXTS, COUNTERS, st.integers(1, 30), st.integers(0, 3))
@example("a " * 50 + "b" * 100 + ". C", words_and_frame, 1, 1)
def test_nothing_is_lost_and_nothing_too_long(text, count_tokens, limit, overlap):
    chunks = split(text, count_tokens, limit, overlap)
    covered = set()
    for chunk in chunks:
        assert chunk.start < chunk.end
        assert chunk.text == text[chunk.start : chunk.end] == chunk.text.strip()
        assert count_tokens(chunk.text) <= limit or len(chunk.text) == 1
        covered.update(range(chunk.start, chunk.end))
    assert all(at in covered or character.isspace() for at, character in enumerate(text))
    for before, after in itertools.pairwise(chunks):
        assert before.start < after.start
        assert before.end < after.end
        assert overlap or before.end <= after.start


@given(TEXTS, st.integers(1, 30), st.randoms(use_true_random=False))
def test_a_counter_that_makes_no_sense_still_loses_nothing(text, limit, random):
    chunks = split(text, lambda _: random.randrange(40), limit)
    covered = {at for chunk in chunks for at in range(chunk.start, chunk.end)}
    assert all(at in covered or character.isspace() for at, character in enumerate(text))


@given(TEXTS, st.integers(1, 3))
def test_what_fits_is_one_passage(text, overlap):
    expected = [text.strip()] if text.strip() else []
    assert texts_of(split(text, len, max(1, len(text)), overlap)) == expected


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("One dog. Two cats! Three?", ["One dog.", "Two cats!", "Three?"]),
        ('He said "Stop." Then he left.', ['He said "Stop."', "Then he left."]),
        ("It costs 3.50 today. Pi is 3.14.", ["It costs 3.50 today.", "Pi is 3.14."]),
        ("Mr. Fox met Dr. J. R. Hare. Both ran.", ["Mr. Fox met Dr. J. R. Hare.", "Both ran."]),
        ("Am 3. Mai kam z.B. Anna. Sie blieb.", ["Am 3. Mai kam z.B. Anna.", "Sie blieb."]),
        (
            "U.S. ships, see No. 7 there. Oh no. We",
            ["U.S. ships, see No. 7 there.", "Oh no.", "We"],
        ),
        ("Well... maybe. Yes... No.", ["Well... maybe.", "Yes...", "No."]),
        ("一只狗在跑。两只猫！真的吗？是", ["一只狗在跑。", "两只猫！", "真的吗？", "是"]),
        ("「走れ。」と言った。次", ["「走れ。」", "と言った。", "次"]),
        ("यह घर है। वह पेड़ है।", ["यह घर है।", "वह पेड़ है।"]),
        ("هل هذا بيت؟ نعم.", ["هل هذا بيت؟", "نعم."]),
        ("A title\n\nwrapped\nlines\r\n\r\nnext", ["A title", "wrapped\nlines", "next"]),
        ("Things:\n- a cup\n- a pan\n2. a pot", ["Things:", "- a cup", "- a pan", "2. a pot"]),
    ],
)
def test_sentences_end_where_readers_end_them(text, parts):
    def count_tokens(part: str) -> int:
        return 1 if part in parts else 2

    assert texts_of(split(text, count_tokens, 1, 0)) == parts


def test_passages_are_filled_and_share_a_sentence():
    text = "One two. Three four. Five six. Seven eight. Nine ten."
    assert texts_of(split(text, lambda part: len(part.split()), 4)) == [
        "One two. Three four.",
        "Three four. Five six.",
        "Five six. Seven eight.",
        "Seven eight. Nine ten.",
    ]
    assert texts_of(split(text, lambda part: len(part.split()), 4, 0)) == [
        "One two. Three four.",
        "Five six. Seven eight.",
        "Nine ten.",
    ]


def test_nothing_is_shared_where_it_would_leave_no_room():
    text = "One two three four. Five six seven eight."
    assert texts_of(split(text, lambda part: len(part.split()), 5)) == [
        "One two three four.",
        "Five six seven eight.",
    ]


def test_tokens_that_every_text_has_do_not_leave_passages_half_empty():
    chunks = split("Go on. " * 40, words_and_frame, 22, 0)
    assert [words_and_frame(chunk.text) for chunk in chunks] == [22, 22, 22, 22]


def test_long_sentences_are_cut_at_lines_then_clauses_then_words_then_characters():
    assert texts_of(split("a dog runs\na cat sleeps", len, 14)) == ["a dog runs", "a cat sleeps"]
    assert texts_of(split("一只狗，两只猫，三只鸟", len, 9)) == ["一只狗，两只猫，", "三只鸟"]
    assert texts_of(split("one two three", len, 8)) == ["one two", "three"]
    assert texts_of(split("abcdefgh", len, 3)) == ["abc", "def", "gh"]


def test_a_letter_keeps_its_accents():
    assert texts_of(split("ae\u0301ae\u0301", len, 2)) == ["a", "e\u0301", "a", "e\u0301"]


def test_a_character_too_long_by_itself_is_kept():
    assert texts_of(split("ab", lambda part: 5 * len(part), 1)) == ["a", "b"]


@pytest.mark.parametrize(
    "text",
    [
        "The fox ran. " * 40_000,
        "! " * 250_000,
        "!" * 500_000,
        "字" * 500_000,
        "\n12. " * 100_000,
        "word " * 100_000,
        "a" + " \n" * 250_000 + "b",
        "a" + "\u0301" * 500_000,
    ],
    ids=["prose", "stops", "run", "ideographs", "list", "words", "blanks", "accents"],
)
def test_half_a_million_characters_take_seconds_at_most(text):
    calls = 0

    def count_tokens(part: str) -> int:
        nonlocal calls
        calls += 1
        return len(part)

    start = time.perf_counter()
    chunks = split(text, count_tokens, 300)
    assert time.perf_counter() - start < 20
    stops = text.count("! ") + text.count(". ")
    assert calls <= stops + 15 * len(chunks)

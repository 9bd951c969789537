import pytest

from retrieval.catalog import Enrichment
from retrieval.recognition.base import Segment, Task
from retrieval.search.found_text import found_text, has_meaning

LINES = ["EMERGENCY EXIT", "Thé à la menthe 3.25", "小心地滑，緊急出口", "of the parking lots"]


def held(text: str) -> list[tuple[str, tuple[str, ...]]]:
    known = Enrichment(Task.OCR, "key", "model", [Segment(line) for line in LINES])
    return [(one.segment.text, one.words) for one in found_text(text, [known])]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("exit", 0, ("exit",)),
        ("Emergency exits", 0, ("emergency", "exits")),
        ("emerg", 0, ("emerg",)),
        ("the menthe", 1, ("menthe",)),
        ("3.25", 1, ("3", "25")),
        ("地滑", 2, ("地 滑",)),
        ("紧急出口", 2, ("紧 急", "急 出", "出 口")),
        ("parking lot of", 3, ("parking", "lot")),
        ("of", 3, ("of",)),
    ],
)
def test_lines_with_words_of_the_text_are_found(text, line, words):
    assert held(text) == [(LINES[line], words)]


@pytest.mark.parametrize("text", ["xit", "a dog", "滑地", "", "!?"])
def test_other_lines_are_not(text):
    assert held(text) == []


def test_lines_stay_in_their_order_and_say_who_found_them():
    known = [
        Enrichment(Task.OCR, "key", "model", [Segment("exit b"), Segment("c"), Segment("exit a")]),
        Enrichment(Task.CAPTION, "key", "model", [Segment("an exit")]),
        Enrichment(Task.SPEECH, "key", "model", failure="it is broken"),
    ]
    found = found_text("exit", known)
    assert [(one.task, one.segment.text) for one in found] == [
        (Task.OCR, "exit b"),
        (Task.OCR, "exit a"),
        (Task.CAPTION, "an exit"),
    ]


@pytest.mark.parametrize(
    ("text", "has"),
    [
        ("17", False),
        ("PYSAC RA BSSICHTNE", False),
        ("1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16", False),
        ("The tenant shall pay a deposit", True),
        ("九号站台", False),
        ("第三季度销售报告收入增长", True),
    ],
)
def test_only_texts_of_some_letters_have_a_meaning(text, has):
    assert has_meaning(text) is has


def test_captions_are_told_also_where_they_hold_no_word_of_the_text():
    known = [
        Enrichment(Task.OCR, "key", "model", [Segment("no entry")]),
        Enrichment(Task.CAPTION, "key", "model", [Segment("two dogs on a beach")]),
    ]
    found = [(one.task, one.segment.text, one.words) for one in found_text("animals", known)]
    assert found == [(Task.CAPTION, "two dogs on a beach", ())]

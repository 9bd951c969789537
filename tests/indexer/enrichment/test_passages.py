from hypothesis import given
from hypothesis import strategies as st

from indexer.enrichment.passages import FoundText, passages_of
from retrieval.catalog import Item
from retrieval.media import MediaKind, Modality
from retrieval.recognition.base import Segment, Task


class Words:
    """Counts words as tokens, and reads five at once."""

    context_length = 5

    def token_count(self, text):
        return len(text.split())


def heard(*segments: tuple[str, float, float]) -> FoundText:
    return FoundText(
        None, "/v.mp4", "vv", [Segment(text, None, None, a, b) for text, a, b in segments]
    )


def chunks_of(text: FoundText, task: Task = Task.SPEECH):
    return [(p.entry.part, p.entry.text, p.entry) for p in passages_of(text, task, Words())]


def test_speech_is_cut_at_its_segments_and_keeps_their_times():
    text = heard(("One two three.", 0.5, 2.0), ("four five six.", 2.0, 3.5), ("", 3.5, 4.0))
    found = chunks_of(text)
    assert [(part, chunk) for part, chunk, _ in found] == [
        ("-speech500", "One two three."),
        ("-speech2000", "four five six."),
    ]
    times = [(entry.time_s, entry.start_s, entry.end_s) for _, _, entry in found]
    assert times == [(0.5, 0.5, 2.0), (2.0, 2.0, 3.5)]


def test_parts_of_one_long_segment_have_names_of_their_own():
    found = chunks_of(heard((" ".join(map(str, range(12))), 1.0, 9.0)))
    assert [part for part, _, _ in found] == ["-speech1000", "-speech1001", "-speech1002"]
    assert {(entry.start_s, entry.end_s) for _, _, entry in found} == {(1.0, 9.0)}


def test_a_text_of_a_picture_lies_where_the_picture_does():
    frame = Item(
        7, "/v.mp4", MediaKind.VIDEO, Modality.IMAGE, "vv", 1, 1, "t4000", time_s=4.0, end_s=9.0
    )
    text = FoundText(frame, "/v.mp4", "vv", [Segment("exit"), Segment("left")])
    [(part, chunk, entry)] = chunks_of(text, Task.OCR)
    assert (part, chunk) == ("t4000-ocr0", "exit\nleft")
    assert (entry.time_s, entry.end_s, entry.page) == (4.0, 9.0, None)
    item = Item(8, frame.path, frame.kind, Modality.TEXT, "vv", 1, 1, part, time_s=4.0)
    assert (item.found_by, item.origin_part) == (Task.OCR, "t4000")
    assert item.picture_key == frame.picture_key
    assert item.has_picture


@given(st.lists(st.text(st.characters(categories=["L", "Zs", "Po"]), max_size=30), max_size=8))
def test_no_word_is_lost_and_no_part_is_named_twice(texts):
    text = heard(*((one, place, place + 1) for place, one in enumerate(texts)))
    found = chunks_of(text)
    assert len({part for part, _, _ in found}) == len(found)
    joined = "".join(chunk for _, chunk, _ in found)
    for word in " ".join(texts).split():
        assert word in joined or all(piece in joined for piece in word)

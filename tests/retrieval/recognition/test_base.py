import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.recognition.base import MOST_CHARACTERS, Recognized, Segment, Task, tidy

fractions = st.floats(0, 1)
corners = st.tuples(fractions, fractions)
times = st.none() | st.floats(0, 1e5)
segments = st.builds(
    Segment,
    st.text(min_size=1),
    st.none() | fractions,
    st.none() | st.tuples(corners, corners, corners, corners),
    times,
    times,
)


@given(segments)
def test_a_segment_comes_back_from_json(segment):
    assert Segment.from_json(segment.to_json()) == segment


@pytest.mark.parametrize(
    "told",
    [
        {"text": 1},
        {"text": "a", "confidence": "high"},
        {"text": "a", "box": [[0, 0], [1, 1]]},
        {"text": "a", "box": [[0, 0], [1, 1], [1, 0], [0, "x"]]},
        {"text": "a", "start_s": True},
        {},
    ],
)
def test_other_values_are_refused(told):
    with pytest.raises((KeyError, TypeError, ValueError)):
        Segment.from_json(told)


@given(
    st.lists(
        st.builds(
            Segment,
            st.text(max_size=20),
            st.none() | st.floats(),
            st.none() | st.tuples(*4 * [st.tuples(st.floats(), st.floats())]),
            st.none() | st.floats(),
            st.none() | st.floats(),
        ),
        max_size=5,
    )
)
def test_what_a_model_gives_is_brought_into_the_limits(given_segments):
    for segment in tidy(Recognized(given_segments)).segments:
        assert segment.text == segment.text.strip() != ""
        segment.text.encode()
        assert not set("\0\x1b\x9b") & set(segment.text)
        assert segment.confidence is None or 0 <= segment.confidence <= 1
        assert segment.box is None or all(0 <= v <= 1 for corner in segment.box for v in corner)
        for seconds in (segment.start_s, segment.end_s):
            assert seconds is None or (seconds >= 0 and math.isfinite(seconds))
        assert Segment.from_json(segment.to_json()) == segment


def test_a_long_segment_is_cut_and_the_failure_stays():
    assert len(tidy(Recognized([Segment("a" * 9_999)])).segments[0].text) == MOST_CHARACTERS
    assert tidy(Recognized(failure="too dark")) == Recognized([], "too dark")


def test_the_text_is_a_line_a_segment():
    assert Recognized([Segment("a \n b"), Segment(" "), Segment("c")]).text == "a b\nc"
    assert Recognized().text is None
    assert [task.is_of_pictures for task in Task] == [True, False, True]


def test_commands_to_a_terminal_are_left_out():
    assert tidy(Recognized([Segment("\x1b[2Ja\tb\n两\x9b")])).segments[0].text == "[2Ja\tb\n两"

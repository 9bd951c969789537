"""The hub is never asked for real: a server of the test stands in its place, or nothing does."""

import time

from retrieval.encoders import hub


def test_any_answer_counts(answering):
    assert hub.can_reach(answering)


def test_a_refused_connection_is_no_answer(closed):
    assert not hub.can_reach(closed)


def test_silence_ends_after_the_time_limit(silent):
    start = time.monotonic()
    assert not hub.can_reach(silent, timeout_s=0.3)
    assert time.monotonic() - start < 3

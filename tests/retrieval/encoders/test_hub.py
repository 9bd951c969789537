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


def test_blocks_that_overlap_leave_nothing_behind():
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    first, second = hub.offline(), hub.offline()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert constants.HF_HUB_OFFLINE is True
    second.__exit__(None, None, None)
    assert constants.HF_HUB_OFFLINE is before

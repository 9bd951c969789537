import asyncio
import threading
import time

import pytest

from api.http import decode_pool as decoding
from api.http.batching import OverloadedError, PastDeadlineError
from api.http.decode_pool import DecodePool


async def outcomes_of(call, count: int, deadline_s: float = 60) -> list:
    """Run a call many times at once."""
    threads = DecodePool(deadline_s)
    return await asyncio.gather(*(threads.run(call) for _ in range(count)), return_exceptions=True)


def test_few_pictures_are_decoded_at_once(monkeypatch):
    """However many come, memory holds but a few: a defence against floods of large pictures."""
    monkeypatch.setattr(decoding, "_THREADS", 2)
    lock, now, most = threading.Lock(), 0, 0

    def decode() -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.01)
        with lock:
            now -= 1

    assert asyncio.run(outcomes_of(decode, 20)) == [None] * 20
    assert most == 2


def test_a_flood_of_pictures_is_refused(monkeypatch):
    monkeypatch.setattr(decoding, "_THREADS", 1)
    monkeypatch.setattr(decoding, "_WAITING", 3)
    outcomes = asyncio.run(outcomes_of(lambda: time.sleep(0.05), 10))
    refused = [error for error in outcomes if isinstance(error, OverloadedError)]
    assert len(refused) == 6
    assert refused[0].retry_after_s == 1


def test_what_waits_too_long_is_given_up(monkeypatch):
    monkeypatch.setattr(decoding, "_THREADS", 1)
    outcomes = asyncio.run(outcomes_of(lambda: time.sleep(0.6), 3, deadline_s=1.0))
    assert [type(outcome) for outcome in outcomes].count(PastDeadlineError) >= 1
    assert outcomes[0] is None


def test_what_a_call_raises_is_raised():
    def fail() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        asyncio.run(DecodePool(1).run(fail))

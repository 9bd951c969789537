"""The queue before the inference thread, with an engine whose pace the test sets."""

import asyncio
import threading
import time
from contextlib import asynccontextmanager

import pytest

from api.http.batching import (
    Inference,
    NotReadyError,
    OverloadedError,
    PastDeadlineError,
    State,
)
from api.http.metrics import ServiceMetrics
from retrieval.errors import UsageError
from retrieval.search.answer import Answer
from retrieval.search.query import Query, Reranking, TextPart


def query(text: str) -> Query:
    return Query((TextPart(text),))


class SlowEngine:
    """Takes a fixed time a batch; keeps what each batch held."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.batches: list[list[str]] = []
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.threads: set[str] = set()

    def search_many(self, requests):
        self.threads.add(threading.current_thread().name)
        texts = [asked.parts[0].text for asked, _ in requests]
        self.batches.append(texts)
        assert self.may_go_on.wait(10)
        time.sleep(self.seconds)
        if "bug" in texts:
            raise ZeroDivisionError
        return [
            UsageError("a bad one") if text == "bad" else Answer((), {}, (text,)) for text in texts
        ]


@asynccontextmanager
async def running(engine: SlowEngine, load=lambda: None, metrics=None, **options):
    inference = Inference(engine.search_many, metrics or ServiceMetrics(), **options)
    await (await inference.start(load))
    try:
        yield inference
    finally:
        engine.may_go_on.set()
        inference.close(5)


async def search(inference: Inference, text: str) -> str:
    return (await inference.search(query(text), Reranking())).warnings[0]


async def blocked(engine: SlowEngine, inference: Inference) -> "asyncio.Task[str]":
    """Keep the thread busy with one search until `may_go_on` is set."""
    engine.may_go_on.clear()
    task = asyncio.create_task(search(inference, "first"))
    while not engine.batches or engine.batches[-1] != ["first"]:
        await asyncio.sleep(0.001)
    return task


def waits_for_company(inference: Inference) -> list[float]:
    """The seconds that the thread was ready to wait for others, each time that it did."""
    waits: list[float] = []
    wait = inference._changed.wait

    def noting_wait(timeout: float | None = None) -> bool:
        if timeout is not None:
            waits.append(timeout)
        return wait(timeout)

    inference._changed.wait = noting_wait
    return waits


def test_searches_that_arrive_together_go_together_and_get_their_own_answers():
    async def main() -> None:
        engine = SlowEngine()
        async with running(engine, max_batch=4) as inference:
            first = await blocked(engine, inference)
            others = [asyncio.create_task(search(inference, str(n))) for n in range(6)]
            await asyncio.sleep(0.01)
            engine.may_go_on.set()
            assert await first == "first"
            assert await asyncio.gather(*others) == [str(n) for n in range(6)]
        assert engine.batches == [["first"], ["0", "1", "2", "3"], ["4", "5"]]
        assert engine.threads == {"inference"}

    asyncio.run(main())


def test_one_bad_search_fails_alone():
    async def main() -> None:
        engine = SlowEngine()
        async with running(engine) as inference:
            await blocked(engine, inference)
            tasks = [asyncio.create_task(search(inference, text)) for text in ("a", "bad", "b")]
            await asyncio.sleep(0.01)
            engine.may_go_on.set()
            good, bad, also_good = await asyncio.gather(*tasks, return_exceptions=True)
            assert (good, also_good) == ("a", "b")
            assert isinstance(bad, UsageError)

    asyncio.run(main())


def test_a_bug_that_one_search_meets_does_not_fail_those_beside_it():
    async def main() -> None:
        engine = SlowEngine()
        async with running(engine) as inference:
            await blocked(engine, inference)
            tasks = [asyncio.create_task(search(inference, text)) for text in ("a", "bug")]
            await asyncio.sleep(0.01)
            engine.may_go_on.set()
            good, bad = await asyncio.gather(*tasks, return_exceptions=True)
            assert good == "a"
            assert isinstance(bad, ZeroDivisionError)
            assert await search(inference, "after") == "after"

    asyncio.run(main())


def test_a_lone_client_never_waits_for_others():
    async def main() -> None:
        engine = SlowEngine(0.001)
        async with running(engine, max_wait_s=1.0) as inference:
            waits = waits_for_company(inference)
            for number in range(20):
                await search(inference, str(number))
            assert not waits
        assert [len(batch) for batch in engine.batches] == [1] * 20

    asyncio.run(main())


def test_clients_that_ask_again_and_again_are_joined():
    """Without the wait, whoever is back first goes alone, and the others after it."""

    async def main() -> list[int]:
        engine = SlowEngine(0.05)
        async with running(engine, max_wait_s=0.025) as inference:
            waits = waits_for_company(inference)

            async def client(name: int) -> None:
                for number in range(20):
                    await search(inference, f"{name} {number}")
                    await asyncio.sleep(name * 0.0002)

            await asyncio.gather(*(client(name) for name in range(8)))
        assert waits
        return [len(batch) for batch in engine.batches]

    sizes = asyncio.run(main())
    assert sum(sizes) == 160
    assert len(sizes) <= 40


def test_after_a_lull_the_next_one_does_not_wait():
    async def main() -> None:
        engine = SlowEngine(0.2)
        async with running(engine, max_wait_s=1.0) as inference:
            await asyncio.gather(*(search(inference, str(number)) for number in range(8)))
            await asyncio.sleep(0.2)
            waits = waits_for_company(inference)
            await search(inference, "alone")
            assert not waits

    asyncio.run(main())


@pytest.mark.slow
def test_beyond_the_bound_requests_are_refused_and_told_when_to_come_back():
    async def main() -> None:
        engine, metrics = SlowEngine(0.5), ServiceMetrics()
        async with running(engine, max_batch=1, max_waiting=4, metrics=metrics) as inference:
            await search(inference, "to learn the pace: half a second")
            first = await blocked(engine, inference)
            waiting = [asyncio.create_task(search(inference, str(n))) for n in range(4)]
            await asyncio.sleep(0.01)
            assert b"mmsearch_queue_depth 4.0" in metrics.text()
            with pytest.raises(OverloadedError) as refused:
                await search(inference, "one too many")
            assert refused.value.retry_after_s >= 3  # a little more than 4 times 0.5 s
            with pytest.raises(OverloadedError):
                await inference.call(lambda: None)
            engine.may_go_on.set()
            assert await asyncio.gather(first, *waiting) == ["first", "0", "1", "2", "3"]
        assert b'rejected_requests_total{reason="overload"} 2.0' in metrics.text()

    asyncio.run(main())


def test_no_more_is_taken_on_than_can_be_answered_in_time():
    async def main() -> None:
        engine = SlowEngine(0.2)
        options = {"max_batch": 1, "max_waiting": 100, "deadline_s": 2.0}
        async with running(engine, **options) as inference:
            await search(inference, "to learn the pace")
            first = await blocked(engine, inference)
            tasks = [asyncio.create_task(search(inference, str(number))) for number in range(30)]
            await asyncio.sleep(0.01)
            engine.seconds = 0
            engine.may_go_on.set()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            assert await first == "first"
        refused = [outcome for outcome in outcomes if isinstance(outcome, OverloadedError)]
        answered = [outcome for outcome in outcomes if isinstance(outcome, str)]
        assert len(refused) + len(answered) == 30
        assert 1 <= len(answered) <= 9  # a slow machine learns a slower pace

    asyncio.run(main())


def test_a_long_call_does_not_make_searches_look_slow():
    async def main() -> None:
        engine = SlowEngine()
        async with running(engine, deadline_s=2.0) as inference:
            await inference.call(lambda: time.sleep(1.0), deadline_s=30)
            answers = await asyncio.gather(*(search(inference, str(n)) for n in range(20)))
        assert answers == [str(number) for number in range(20)]

    asyncio.run(main())


def test_what_is_past_its_deadline_is_dropped_before_work_begins():
    async def main() -> None:
        engine = SlowEngine()
        async with running(engine, deadline_s=0.5) as inference:
            first = await blocked(engine, inference)
            with pytest.raises(PastDeadlineError):
                await search(inference, "late")
            with pytest.raises(PastDeadlineError):
                await first
            engine.may_go_on.set()
            assert await search(inference, "in time") == "in time"
        assert engine.batches == [["first"], ["in time"]]

    asyncio.run(main())


def test_a_request_that_was_cancelled_leaves_the_queue_at_once():
    async def main() -> None:
        engine = SlowEngine()
        async with running(engine, max_waiting=1) as inference:
            await blocked(engine, inference)
            cancelled = asyncio.create_task(search(inference, "cancelled"))
            await asyncio.sleep(0.01)
            cancelled.cancel()
            await asyncio.sleep(0.01)
            task = asyncio.create_task(search(inference, "has its place"))
            await asyncio.sleep(0.01)
            engine.may_go_on.set()
            assert await task == "has its place"
        assert engine.batches == [["first"], ["has its place"]]

    asyncio.run(main())


def test_calls_run_on_the_thread_in_their_turn_and_raise_in_the_caller():
    async def main() -> None:
        engine = SlowEngine()
        async with running(engine) as inference:
            await blocked(engine, inference)
            done: list[str] = []
            call = asyncio.create_task(inference.call(lambda: done.append("call")))
            later = [asyncio.create_task(search(inference, text)) for text in ("a", "b")]
            await asyncio.sleep(0.01)
            engine.may_go_on.set()
            await asyncio.gather(call, *later)
            assert done == ["call"]
            name = await inference.call(lambda: threading.current_thread().name)
            assert name == "inference"
            with pytest.raises(ZeroDivisionError):
                await inference.call(lambda: 1 / 0)
        assert engine.batches == [["first"], ["a", "b"]]

    asyncio.run(main())


def test_calls_that_nobody_waits_for_run_when_no_request_came_for_a_while(monkeypatch):
    monkeypatch.setattr("api.http.batching._IDLE_S", 0.05)
    engine = SlowEngine()
    done: list[str] = []

    async def scenario():
        async with running(engine) as inference:
            task = await blocked(engine, inference)
            later = [inference.when_idle(lambda n=n: done.append(n) or n) for n in ("1", "2")]
            after = asyncio.create_task(search(inference, "after"))
            await asyncio.sleep(0.1)
            assert done == []
            engine.may_go_on.set()
            assert [await task, await after] == ["first", "after"]
            assert done == []
            assert [await asyncio.wrap_future(future) for future in later] == ["1", "2"]
            failing = inference.when_idle(lambda: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                await asyncio.wrap_future(failing)
            assert await search(inference, "goes on") == "goes on"

    asyncio.run(scenario())


def test_what_nobody_waits_for_is_cancelled_at_the_end(monkeypatch):
    monkeypatch.setattr("api.http.batching._IDLE_S", 60)

    async def scenario():
        async with running(SlowEngine()) as inference:
            await search(inference, "a request")
            waiting = inference.when_idle(lambda: None)
            inference.close(5)
            assert waiting.cancelled()
            assert inference.when_idle(lambda: None).cancelled()

    asyncio.run(scenario())


def test_nothing_is_taken_on_before_loading_has_ended():
    async def main() -> None:
        engine, may_load = SlowEngine(), threading.Event()
        inference = Inference(engine.search_many, ServiceMetrics())
        loaded = await inference.start(lambda: may_load.wait(5) and None)
        with pytest.raises(NotReadyError) as refused:
            await search(inference, "early")
        assert refused.value.retry_after_s
        may_load.set()
        await loaded
        assert inference.state is State.READY
        assert await search(inference, "now") == "now"
        inference.close(5)

    asyncio.run(main())


def test_a_failure_to_load_is_kept_and_told():
    async def main() -> None:
        def fail() -> None:
            raise UsageError("no such encoder")

        told = []
        inference = Inference(SlowEngine().search_many, ServiceMetrics())
        await (await inference.start(fail, lambda: told.append(str(inference.failure))))
        assert told == ["no such encoder"]
        assert inference.state is State.FAILED
        with pytest.raises(NotReadyError, match="could not be loaded"):
            await search(inference, "x")

    asyncio.run(main())


def test_the_end_finishes_what_waits_and_takes_no_more():
    async def main() -> None:
        engine = SlowEngine()
        async with running(engine) as inference:
            first = await blocked(engine, inference)
            second = asyncio.create_task(search(inference, "second"))
            await asyncio.sleep(0.01)
            inference.refuse_more()
            with pytest.raises(NotReadyError, match="shutting down"):
                await search(inference, "third")
            engine.may_go_on.set()
            assert await asyncio.gather(first, second) == ["first", "second"]

    asyncio.run(main())


def test_a_search_that_hangs_does_not_keep_the_end_from_coming():
    async def main() -> None:
        engine = SlowEngine()
        async with running(engine) as inference:
            task = await blocked(engine, inference)
            inference.close(0.1)
            assert not task.done()
            engine.may_go_on.set()
            assert await task == "first"

    asyncio.run(main())

import asyncio
import threading

import pytest

from api.http import captioning as module
from api.http.batching import OverloadedError, PastDeadlineError
from api.http.captioning import MOST_WAITING, Captioning
from retrieval.errors import EncoderUnavailableError


class Model:
    """Stands for a model: what it is asked to do is given with each call."""

    def __init__(self, name, *, device):
        if name == "broken":
            raise EncoderUnavailableError("no weights")
        self.name = name


@pytest.fixture
def make(monkeypatch):
    monkeypatch.setattr(module, "Captioner", Model)
    made = []

    def make(name="model"):
        made.append(Captioning(name, "cpu"))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_calls_run_one_after_the_other(make):
    captioning, running, most = make(), [], []

    def call(model):
        running.append(model.name)
        most.append(len(running))
        running.pop()
        return model.name

    async def several():
        return await asyncio.gather(*(captioning.run(call) for _ in range(5)))

    assert asyncio.run(several()) == ["model"] * 5
    assert most == [1] * 5


def test_a_full_queue_refuses_and_is_free_again_afterwards(make):
    captioning, go = make(), threading.Event()

    async def flood():
        waiting = [asyncio.ensure_future(captioning.run(lambda _: go.wait())) for _ in range(8)]
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError):
            await captioning.run(lambda _: None)
        go.set()
        await asyncio.gather(*waiting)
        return await captioning.run(lambda _: "answered")

    assert MOST_WAITING == 8
    assert asyncio.run(flood()) == "answered"


def test_a_late_answer_is_dropped_and_so_are_calls_that_still_wait(make):
    captioning, go, began = make(), threading.Event(), []

    async def late():
        first = asyncio.ensure_future(captioning.run(lambda _: go.wait(), deadline_s=0.05))
        await asyncio.sleep(0)
        second = captioning.run(lambda _: began.append(1), deadline_s=0.01)
        with pytest.raises(PastDeadlineError):
            await second
        with pytest.raises(PastDeadlineError):
            await first
        go.set()
        return await captioning.run(lambda _: "answered")

    assert asyncio.run(late()) == "answered"
    assert began == []


def test_a_model_that_cannot_be_loaded_is_told_to_each(make):
    captioning = make("broken")
    with pytest.raises(EncoderUnavailableError, match="no weights"):
        asyncio.run(captioning.run(lambda _: None))

from dataclasses import replace

import numpy as np
import pytest

from retrieval.catalog import Item
from retrieval.media import MediaKind, Modality
from retrieval.search.answer import Answer, StageTimer, make_hits
from retrieval.search.candidates import Candidates


@pytest.fixture
def items():
    return {
        number: Item(number, f"/{number}.jpg", MediaKind.IMAGE, Modality.IMAGE, "abc", 1, 1)
        for number in (3, 5, 9)
    }


@pytest.fixture
def page():
    """Three candidates; each score but the similarity is lacking somewhere."""
    page = Candidates.of(
        np.array([9, 3, 5]), np.array([0, 1, 2]), np.array([0.5, 0.25, -0.5], np.float32)
    )
    return replace(
        page,
        match=np.array([2, np.nan, 0], np.float32),
        relevance=np.array([np.nan, 0.5, 0], np.float32),
        text_score=np.array([np.nan, 1.5, np.nan]),
    )


def test_hits_go_on_from_a_rank_and_lack_what_is_not_known(page, items):
    hits = make_hits(page, items, {3: (5, 9)}, first_rank=11)
    assert [hit.rank for hit in hits] == [11, 12, 13]
    assert [hit.path for hit in hits] == ["/9.jpg", "/3.jpg", "/5.jpg"]
    assert [hit.similarity for hit in hits] == [0.5, 0.25, -0.5]
    assert [hit.match for hit in hits] == [2, None, 0]
    assert [hit.relevance for hit in hits] == [None, 0.5, 0]
    assert [hit.words for hit in hits] == [None, 1.5, None]
    assert [hit.group for hit in hits] == [(), (5, 9), ()]
    assert all(type(hit.similarity) is float for hit in hits)


def test_an_answer_is_a_sequence_of_its_hits(page, items):
    hits = make_hits(page, items, {}, 1)
    answer = Answer(hits, {})
    assert (list(answer), len(answer), answer[-1]) == (list(hits), 3, hits[2])
    assert not Answer((), {})


def test_times_of_a_stage_add_up_even_where_it_fails(monkeypatch):
    clock = iter([0.0, 1.0, 5.0, 7.0, 8.0, 9.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    timer = StageTimer()
    with timer("encode"):
        pass
    with pytest.raises(ZeroDivisionError), timer("encode"):
        _ = 1 / 0
    with timer("rerank"):
        pass
    assert timer.timings_ms == {"encode": 3000, "rerank": 1000}

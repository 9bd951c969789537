"""The load test itself: its clients, its texts, its figures."""

import pytest

from benchmarks.service.load import DistinctTexts, LoadRow, ServiceResult, service_markdown
from benchmarks.service.process import ServiceError

pytestmark = pytest.mark.slow

TEXTS = [f"the dog {number} runs after ball {number}" for number in range(5000)]


def test_no_text_is_given_twice():
    texts = DistinctTexts(["a b c d", "e f g h", "a b c d", "i j"])
    assert texts.first(3) == ["a b c d", "e f g h", "i j"]
    assert texts.first(2) == ["a b c d", "e f g h"]
    texts.used(2)
    given = texts.first(5)
    assert given[0] == "i j"
    assert len(set(given)) == 5
    assert given[1:3] == ["a b g h", "e f j"]
    texts.used(5)
    with pytest.raises(ServiceError, match="Too few captions"):
        texts.first(3)


def row(name: str, clients: int, throughput: float, p50: float, p99: float) -> LoadRow:
    memory = (10**9, 10**9)
    return LoadRow(name, clients, 1.0, 9, throughput, p50, p99, p99, 2, {"0": 1}, memory, 5.0, 0.1)


def test_ratios_are_those_that_are_promised():
    result = ServiceResult(7, 1, "none")
    assert result.speedup is None
    assert result.tail is None
    result.rows = [
        row("one by one", 1, 50, 20, 30),
        row("batched", 1, 60, 10, 15),
        row("batched", 8, 100, 30, 45),
        row("batched", 32, 200, 100, 150),
    ]
    assert result.speedup == 4.0
    assert result.tail == 4.5
    table = service_markdown(result)
    assert (
        "| batched | 32 | 200.0 | 100.0 | 150.0 | 150.0 | 2 | 0: 1 | 1000 to 1000 | 5.0 |" in table
    )
    assert "4.00 times" in table

"""The load test itself: its clients, its texts, its figures; and one whole small run."""

import pytest

from api.http.app import create_app
from api.http.settings import ServiceSettings
from benchmarks.service.client import Load, ask
from benchmarks.service.load import DistinctTexts, LoadRow, ServiceResult, service_markdown
from benchmarks.service.process import ServiceError, ServiceProcess

pytestmark = pytest.mark.slow

TEXTS = [f"the dog {number} runs after ball {number}" for number in range(5000)]


def test_clients_count_what_the_service_answered(coloured_library, served):
    app = create_app(coloured_library.path, device="cpu")
    with served(app) as port:
        asked = ask(Load(port, clients=3, seconds=1.0, texts=TEXTS, fields={"k": 2}))
        metrics = app.state.service.metrics.text().decode()
    assert set(asked.statuses) == {200}
    assert len(asked.statuses) == len(asked.took_ms) == len(asked.began_s) > 3
    line = 'mmsearch_request_seconds_count{method="POST",route="/v1/search",status="200"}'
    assert f"{line} {float(len(asked.statuses))}" in metrics
    assert not asked.ran_out
    assert asked.cpu_s > 0
    assert 1.0 <= asked.seconds < 10
    assert max(asked.began_s) < 1.0


def test_clients_keep_what_was_refused_and_lost_apart(coloured_library, served):
    settings = ServiceSettings(rate_limit="5/hour")
    with served(create_app(coloured_library.path, settings, device="cpu")) as port:
        asked = ask(Load(port, clients=2, seconds=5.0, texts=TEXTS))
    assert asked.statuses.count(200) == 5
    assert set(asked.statuses) == {200, 429}
    lost = ask(Load(port, clients=1, seconds=0.3, texts=TEXTS))
    assert set(lost.statuses) == {0}


def test_clients_tell_when_the_texts_are_used_up(coloured_library, served):
    with served(create_app(coloured_library.path, device="cpu")) as port:
        asked = ask(Load(port, clients=2, seconds=5.0, texts=TEXTS[:4]))
    assert asked.ran_out
    assert len(asked.statuses) == 4


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


def test_a_service_that_does_not_start_says_why(tmp_path):
    import sys

    program = [sys.executable, "-c", "from api.cli import main; main()"]
    with (
        pytest.raises(ServiceError, match="There is no library"),
        ServiceProcess(program, tmp_path / "nothing"),
    ):
        pass

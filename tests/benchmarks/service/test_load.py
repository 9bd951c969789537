"""The load test itself: its clients, its texts, its figures; and one whole small run."""

import json

import pytest

from api.cli.bench.service import service
from benchmarks.service.load import DistinctTexts, LoadRow, ServiceResult, service_markdown
from benchmarks.service.process import ServiceError
from retrieval.errors import UsageError

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


@pytest.mark.timeout(900)  # eight processes load the encoder
def test_a_whole_run(indexed_library, tmp_path, capsys, picture_folder):
    captions = [{"image": "picture-0.png", "en": TEXTS}]
    data = tmp_path / "data"
    (data / "images").mkdir(parents=True)
    (data / "images" / "picture-0.png").write_bytes(
        (picture_folder / "folder 0" / "picture-0.png").read_bytes()
    )
    (data / "captions.jsonl").write_text("\n".join(map(json.dumps, captions)), encoding="utf-8")
    new = tmp_path / "new"
    new.mkdir()
    (new / "picture.png").write_bytes((picture_folder / "folder 1" / "picture-1.png").read_bytes())
    service(
        dataset=f"jsonl:{data}",
        split=None,
        library=indexed_library.path,
        clients="1,4",
        seconds=1.0,
        rounds=1,
        rerank="none",
        overload=16,
        soak=1.5,
        indexing=new,
        kill=True,
        device="cpu",
        as_json=True,
    )
    result = json.loads(capsys.readouterr().out)
    assert [(r["name"], r["clients"]) for r in result["rows"]] == [
        ("one by one", 1),
        ("batched", 1),
        ("batched", 4),
    ]
    assert all(r["answered"] > 0 and r["errors"] == {} for r in result["rows"])
    assert result["overload"]["answered"] > 0
    assert result["beside_indexing"]["items_before"] == 6
    assert result["beside_indexing"]["items_added"] == 1
    assert result["crash"]["items_after"] == result["crash"]["items_before"] == 6


@pytest.mark.parametrize("clients", ["", "0", "a", "1,-2"])
def test_wrong_numbers_of_clients_are_usage_errors(clients):
    with pytest.raises(UsageError, match="--clients"):
        service(dataset="jsonl:nowhere", clients=clients)

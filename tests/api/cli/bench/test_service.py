"""`mmsearch bench service` as users call it."""

import json

import pytest

from api.cli.bench.service import service
from retrieval.errors import NotFoundError, UsageError

TEXTS = [f"the dog {number} runs after ball {number}" for number in range(5000)]


@pytest.mark.parametrize("clients", ["", "0", "a", "1,-2"])
def test_wrong_numbers_of_clients_are_usage_errors(clients):
    with pytest.raises(UsageError, match="--clients"):
        service(dataset="jsonl:nowhere", clients=clients)


def test_what_is_missing_is_told_before_a_service_is_started(run, captioned, tmp_path):
    with pytest.raises(NotFoundError, match="There is no library at"):
        raise run("service", "--dataset", captioned, "--library", tmp_path / "none").exception
    with pytest.raises(NotFoundError, match="There is nothing at"):
        raise run("service", "--dataset", captioned, "--indexing", tmp_path / "none").exception


@pytest.mark.slow
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

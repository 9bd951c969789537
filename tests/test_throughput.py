import json
from pathlib import Path

import pytest

from benchmarks.throughput import measure_throughput
from retrieval.errors import UsageError


def test_both_rates_are_measured_in_every_round(tiny_encoder, picture_folder, monkeypatch):
    monkeypatch.chdir(picture_folder)
    rounds = []
    result = measure_throughput(
        Path(),
        tiny_encoder,
        limit=5,
        rounds=2,
        batch_size=2,
        on_round=lambda *values: rounds.append(values),
    )
    assert result.images == 5
    assert [number for number, _, _ in rounds] == [1, 2]
    assert [rate for _, rate, _ in rounds] == result.encoder_alone
    assert [rate for _, _, rate in rounds] == result.whole_run
    assert min(result.encoder_alone + result.whole_run) > 0
    assert result.peak_memory_bytes > 10**8  # PyTorch alone needs more
    json.dumps(vars(result))


def test_a_folder_without_photos_is_refused(tiny_encoder, tmp_path):
    with pytest.raises(UsageError, match="No images found"):
        measure_throughput(tmp_path, tiny_encoder)

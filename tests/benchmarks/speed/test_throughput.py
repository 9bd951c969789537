import json
from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks.speed.throughput import STAGES, measure_throughput
from retrieval.errors import UsageError


@pytest.mark.slow
def test_every_stage_is_measured_in_every_round(tiny_encoder, picture_folder, monkeypatch):
    monkeypatch.chdir(picture_folder)
    told = []
    [result] = measure_throughput(
        Path(),
        [tiny_encoder],
        limit=5,
        rounds=2,
        batch_size=2,
        on_stage=lambda *values: told.append(values),
    )
    assert result.images == 5
    assert [(number, stage) for number, stage, _ in told] == [
        (number, stage) for number in (1, 2) for stage in STAGES
    ]
    for stage, rates in result.stages.items():
        assert rates.rates == [rate for _, name, rate in told if name == stage]
        assert min(rates.rates) > 0
        assert len(rates.processor_s) == 2
    last = {stage: rates.rates for stage, rates in result.stages.items()}
    ratios = [
        whole / min(decode, encode)
        for whole, decode, encode in zip(
            last["whole run"], last["decode"], last["encode"], strict=True
        )
    ]
    assert result.ratio == pytest.approx(sum(ratios) / 2)
    assert result.peak_memory_bytes > 10**8  # PyTorch alone needs more
    json.dumps(asdict(result))


def test_photos_are_made_as_large_as_is_asked_for(tiny_encoder, picture_folder):
    [result] = measure_throughput(
        picture_folder, [tiny_encoder], megapixels=0.1, limit=2, rounds=1, batch_size=2
    )
    assert (result.images, result.megapixels) == (2, 0.1)
    assert result.file_bytes > 10_000  # those in the folder have a fiftieth of the pixels


def test_all_images_are_encoded_where_fewer_batches_are_held(tiny_encoder, picture_folder):
    encoded = []

    class Counting:
        def __getattr__(self, name):
            return getattr(tiny_encoder, name)

        def encode(self, modality, inputs):
            encoded.append(len(inputs))
            return tiny_encoder.encode(modality, inputs)

    measure_throughput(picture_folder, [Counting()], rounds=1, batch_size=1)
    warm, alone, whole = encoded[:1], encoded[1:7], encoded[7:]
    assert (warm, alone, sum(whole)) == ([1], [1] * 6, 6)


def test_a_folder_without_photos_is_refused(tiny_encoder, tmp_path):
    with pytest.raises(UsageError, match="No images found"):
        measure_throughput(tmp_path, [tiny_encoder])

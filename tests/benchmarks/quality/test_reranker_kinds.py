"""Kinds of rerankers compared, on a few noisy pictures; the figures against plain counts."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.quality import reranker_kinds
from benchmarks.quality.reranker_kinds import (
    KindRecord,
    KindsComparison,
    compare_kinds,
    crossed_ranks,
    kinds_json,
    kinds_markdown,
    layers_of,
    matched_width,
    parameter_count,
    token_shape,
)
from retrieval.encoders.base import Encoder
from retrieval.errors import UsageError
from retrieval.rerankers.cross_attention import load_model
from retrieval.rerankers.layers import KINDS
from retrieval.training.reranked import Reranked

TOKENS = (734, 384, 81)
"""As of `starter`."""


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> KindsComparison:
    """Ten photos to learn from and six others, of noise, two captions each."""
    folder = tmp_path_factory.mktemp("noise")
    (folder / "images").mkdir()
    random = np.random.default_rng(0)
    lines = []
    for number in range(16):
        pixels = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{number}.png")
        split = "train" if number < 10 else "val"
        captions = [f"noise of kind {number}", f"a carpet, number {number}"]
        lines.append(json.dumps({"image": f"{number}.png", "split": split, "en": captions}))
    (folder / "captions.jsonl").write_text("\n".join(lines))
    return KindsComparison(
        dataset=folder,
        output=folder / "kinds",
        cache=folder / "cache",
        kinds=("cross", "single-stream:1", "cosine"),
        width=64,
        heads=2,
        steps=2,
        epochs=2,
        batch_size=4,
        candidates=4,
        rounds=2,
    )


@pytest.mark.parametrize("name", [*KINDS, "cross:2", "cross:4", "single-stream:1"])
@pytest.mark.parametrize("width", [128, 256])
def test_widths_give_equal_parameters(name: str, width: int) -> None:
    target = parameter_count("cross", TOKENS, width, 4)
    found = matched_width(name, TOKENS, 4, target)
    assert found % 4 == 0
    assert abs(parameter_count(name, TOKENS, found, 4) - target) <= 0.05 * target
    for other in (found - 4, found + 4):
        off = abs(parameter_count(name, TOKENS, other, 4) - target)
        assert off >= abs(parameter_count(name, TOKENS, found, 4) - target)


def test_parameters_that_no_width_gives_are_an_error() -> None:
    with pytest.raises(UsageError, match="No width of kind cosine"):
        matched_width("cosine", TOKENS, 4, 100)


def test_parameters_are_those_of_the_weight_file(
    settings: KindsComparison, tiny_encoder: Encoder, tmp_path: Path
) -> None:
    one = dataclasses.replace(settings, kinds=("gated",), output=tmp_path, epochs=1)
    [record] = compare_kinds(one, tiny_encoder).records
    model = load_model(tmp_path / "gated" / "reranker.safetensors")[0]
    assert record.plan.parameters == sum(each.numel() for each in model.parameters())
    assert token_shape(tiny_encoder) == (64, 32, 16)


@pytest.mark.parametrize("name", ["", "sum", "cross:", "cross:0", "cross:x", "cosine:2", "cross:²"])
def test_kinds_that_do_not_exist_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="kinds takes"):
        layers_of(name)


def test_each_half_has_the_weight_of_the_other() -> None:
    """The match is right on even photos and wrong on odd ones, which the similarity finds."""
    photos = np.arange(40)
    right = np.zeros((40, 2), bool)
    right[:, 0] = True
    similarity = np.tile(np.array([0.02, 0.0], np.float32), (40, 1))
    match = np.where(photos[:, None] % 2 == 0, [1.0, 0.0], [0.0, 1.0]).astype(np.float32)
    similarity[photos % 2 == 0] = similarity[photos % 2 == 0, ::-1]
    trial = Reranked(similarity, match, right)
    [ranks] = crossed_ranks([trial], [photos])
    # Even ones need a weight above 0.02 and get 0, which is best for odd ones, and vice versa.
    assert ranks.tolist() == [2.0] * 40


@pytest.mark.slow
def test_kinds_are_compared_and_not_trained_twice(
    settings: KindsComparison, tiny_encoder: Encoder, tmp_path: Path
) -> None:
    settings = dataclasses.replace(settings, output=tmp_path / "kinds")
    done: list[str] = []

    def stop(record: KindRecord) -> None:
        done.append(record.plan.name)
        if len(done) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare_kinds(settings, tiny_encoder, on_kind=stop)
    stages: list[str] = []
    result = compare_kinds(
        settings, tiny_encoder, on_progress=lambda stage, *_: stages.append(stage)
    )
    assert stages.count("epoch 1") == 2  # steps of the third kind alone
    assert [record.plan.name for record in result.records] == list(settings.kinds)
    parameters = [record.plan.parameters for record in result.records]
    assert max(parameters) <= 1.05 * parameters[0]
    assert min(parameters) >= 0.95 * parameters[0]
    assert compare_kinds(settings, tiny_encoder) == result
    body = json.loads(json.dumps(kinds_json(result)))
    for told, record in zip(body["kinds"], result.records, strict=True):
        assert len(record.text_to_image) == 12
        assert len(record.image_to_text) == 6
        share = np.mean([1 <= rank <= 1 for rank in record.text_to_image])
        recall = told["recalls"]["text_to_image@1"]
        assert recall["value"] == pytest.approx(share)
        assert recall["low"] <= recall["value"] <= recall["high"]
        assert record.rerank_ms > 0
    assert body["kinds"][0]["difference"] is None
    table = kinds_markdown(body).splitlines()
    assert len({line.count("|") for line in table}) == 1
    assert [line.split()[1] for line in table[3:]] == list(settings.kinds)

    with pytest.raises(UsageError, match="other settings"):
        compare_kinds(dataclasses.replace(settings, seed=1), tiny_encoder)
    (tmp_path / "kinds" / "cosine" / "measured.json").write_text("{")
    with pytest.raises(UsageError, match=r"measured\.json is damaged"):
        compare_kinds(settings, tiny_encoder)


def test_steps_fit_in_the_time(
    settings: KindsComparison,
    tiny_encoder: Encoder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reranker_kinds, "seconds_per_step", lambda *_, **__: 0.25)
    timed = dataclasses.replace(
        settings, kinds=("cosine",), steps=None, seconds=3.0, output=tmp_path
    )
    [record] = compare_kinds(timed, tiny_encoder).records
    assert record.plan.steps * 0.25 * settings.epochs == 3.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kinds": ()}, "at least one kind"),
        ({"kinds": ("cross", "cosine", "cross")}, "twice"),
        ({"kinds": ("cross", "sum")}, "kinds takes"),
        ({"width": 9, "heads": 2}, "multiple"),
        ({"seconds": 0.0}, "seconds"),
        ({"epochs": 0}, "epochs"),
        ({"candidates": 0}, "candidates"),
    ],
)
def test_settings_that_cannot_be_used_are_errors(
    change: dict[str, object], message: str, settings: KindsComparison
) -> None:
    with pytest.raises(UsageError, match=message):
        dataclasses.replace(settings, **change)  # type: ignore[arg-type]

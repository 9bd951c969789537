"""Which pairs the options of training mean."""

from pathlib import Path

import pytest

from api.cli.training_data import TrainingData
from api.cli.training_pairs import pair_source, without_duplicates
from retrieval.training.captions import CaptionedPhoto
from retrieval.training.encoders.distributed import Processes

GIVEN = {
    "augmentation": "none",
    "word_dropout": 0.0,
    "join_captions": 0.0,
    "pairs_an_epoch": None,
    "weights": None,
    "seed": 0,
    "captions_a_photo": None,
    "balance": 0.0,
    "variants": None,
    "frozen_cache_gb": 50.0,
    "mode": "full",
    "epochs": 10,
}


@pytest.mark.slow
def test_duplicates_between_splits_are_left_out(photos, capsys, tmp_path, monkeypatch):
    """Of two photos to train on, one is on both sides."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    both, other = (CaptionedPhoto(photos[name], (name,)) for name in ("cat", "coffee"))
    data = TrainingData("", "", (both, other), (both,), (), ("x", "y"), (), False, 0)
    for choice, expected in (("ignore", data), ("warn", data)):
        assert without_duplicates([data], choice, Processes()) == [expected]
    assert "1 training photos" in capsys.readouterr().err
    [kept] = without_duplicates([data], "leave-out", Processes())
    assert (kept.train, kept.classes) == ((other,), ("y",))


def data_of(*specifications):
    photos = (CaptionedPhoto(Path("a.jpg"), ("one", "two")), CaptionedPhoto(Path("b.jpg"), ("c",)))
    return [TrainingData(each, "", photos, (), (), (), (), False, 0) for each in specifications]


def test_pairs_are_those_of_all_datasets_or_are_streamed(tmp_path):
    assert pair_source(data_of("csv:a"), GIVEN, 32).size == 3
    assert pair_source(data_of("csv:a", "csv:b"), GIVEN, 32).size == 6
    assert pair_source(data_of("csv:a"), GIVEN | {"captions_a_photo": 1}, 32).size == 2
    shard = tmp_path / "a.tar"
    shard.write_bytes(bytes(1024))
    streamed = pair_source(data_of(f"webdataset:{shard}"), GIVEN | {"pairs_an_epoch": 7}, 32)
    assert streamed.size == 7


@pytest.mark.parametrize(
    ("own", "variants"),
    [
        ({}, None),
        ({"mode": "linear"}, 4),
        ({"mode": "partial", "epochs": 2}, 2),
        ({"mode": "partial", "frozen_cache_gb": 0.0}, None),
        ({"mode": "linear", "variants": 9}, 9),
    ],
)
def test_few_variants_are_kept_where_outputs_of_layers_are(own, variants):
    given = GIVEN | {"augmentation": "light"} | own
    assert pair_source(data_of("csv:a"), given, 32).fixed_variants == variants

"""Fine-tuning of a tiny encoder on sixteen photos: what it learns, keeps, resumes and refuses."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from retrieval.encoders.open_clip import OpenClipEncoder
from retrieval.errors import UsageError
from retrieval.media import Modality
from retrieval.media.images import read_image
from retrieval.training.captions import CaptionedPhoto
from retrieval.training.encoders import pairs
from retrieval.training.encoders.distributed import Processes
from retrieval.training.encoders.fine_tuning import (
    BEST_NAME,
    LEARNING_RATES,
    NEIGHBOURS_NAME,
    EncoderTraining,
    TrainingStoppedError,
    Validation,
    read_neighbours,
)
from retrieval.training.encoders.models import load_trainable
from retrieval.training.state import CHECKPOINT_NAME, training_run
from retrieval.training.validation import recalls
from tests.retrieval.training.encoders import tiny_runs
from tests.retrieval.training.encoders.tiny_runs import coloured_photos, run_tiny


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[CaptionedPhoto]:
    return coloured_photos(tmp_path_factory.mktemp("coloured"))


@pytest.fixture(scope="module")
def whole(tiny_checkpoint, photos, tmp_path_factory):
    """An uninterrupted run of two epochs of four steps: its folder and result."""
    output = tmp_path_factory.mktemp("whole") / "run"
    return output, run_tiny(tiny_checkpoint, photos, output)


def weights(output: Path) -> dict[str, torch.Tensor]:
    return load_file(output / "encoder" / "open_clip_model.safetensors")


def log_of(output: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((output / "log.csv").read_text().splitlines()))


def assert_same_weights(one: Path, other: Path) -> None:
    mine, theirs = weights(one), weights(other)
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in mine.items())


def assert_close_weights(one: Path, other: Path) -> None:
    mine, theirs = (load_file(output / BEST_NAME) for output in (one, other))
    for name, value in mine.items():
        pair = [value, theirs[name]]
        if name.endswith("in_proj_bias"):
            # A softmax does not depend on the keys' bias: its gradient is rounding error, which
            # Adam scales to the size of all other steps.
            pair = [torch.cat([each.chunk(3)[0], each.chunk(3)[2]]) for each in pair]
        torch.testing.assert_close(*pair, atol=1e-4, rtol=0)


def test_the_loss_falls_and_recall_rises(whole):
    output, result = whole
    first, last = result.epochs
    assert last.loss < first.loss
    assert result.after.mean > 2 * result.before.mean
    assert result.share > 0
    rows = log_of(output)
    assert [row["step"] for row in rows] == ["4", "4", "8", "8"]
    assert float(rows[2]["loss"]) == pytest.approx(last.loss)


def test_figures_are_those_of_the_saved_encoder(whole, photos):
    """Recall after training is what a search with the folder has."""
    output, result = whole
    encoder = OpenClipEncoder(f"local-dir:{output / 'encoder'}")
    pixels = [encoder.preprocess(read_image(photo.path)) for photo in photos]
    images = torch.from_numpy(encoder.encode(Modality.IMAGE, pixels))
    captions = [text for photo in photos for text in photo.captions]
    texts = torch.from_numpy(encoder.encode(Modality.TEXT, captions))
    assert recalls(images, texts, torch.arange(16).repeat_interleave(2)) == result.after


def test_the_chosen_share_is_the_best_on_validation(whole):
    result = whole[1]
    means = {trial.share: trial.recalls.mean for trial in result.trials}
    assert len(means) == 11
    assert means[result.share] == max(means.values()) == result.after.mean
    assert means[0.0] == result.before.mean
    best = max(result.epochs, key=lambda epoch: epoch.recalls.mean)
    assert means[1.0] == best.recalls.mean


def test_a_stopped_run_resumes_bit_for_bit(whole, tiny_checkpoint, photos, tmp_path):
    """Stopped in the middle of both epochs, and between them."""
    output = tmp_path / "run"
    for stop_after, resume in ((2, False), (2, True), (3, True)):
        with pytest.raises(TrainingStoppedError, match="--resume"):
            run_tiny(tiny_checkpoint, photos, output, stop_after=stop_after, resume=resume)
    result = run_tiny(tiny_checkpoint, photos, output, resume=True)
    assert_same_weights(output, whole[0])
    for mine, theirs in zip(result.epochs, whole[1].epochs, strict=True):
        assert mine.loss == pytest.approx(theirs.loss)
        assert mine.recalls == theirs.recalls


def run_alone(*arguments: str, processes: int = 1) -> subprocess.CompletedProcess[str]:
    program = [sys.executable]
    if processes > 1:
        program += ["-m", "torch.distributed.run", f"--nproc-per-node={processes}", "--standalone"]
    repository = Path(__file__).resolve().parents[4]
    # Sums of another number of threads round otherwise.
    threads = torch.get_num_threads() if processes == 1 else 1
    code = [*program, tiny_runs.__file__, *arguments]
    return subprocess.run(
        code,
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(repository), "OMP_NUM_THREADS": f"{threads}"},
    )


@pytest.mark.slow
def test_a_killed_run_ends_with_the_same_weights(whole, tiny_checkpoint, photos, tmp_path):
    output = tmp_path / "run"
    settings = json.dumps({"checkpoint_seconds": 0})
    paths = map(str, (tiny_checkpoint, photos[0].path.parent, output))
    killed = run_alone(*paths, settings, "6")
    assert killed.returncode == -9, killed.stderr
    assert not (output / "encoder").exists()
    run_tiny(tiny_checkpoint, photos, output, resume=True)
    assert_same_weights(output, whole[0])


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(whole, tiny_checkpoint, photos, tmp_path):
    output = tmp_path / "run"
    paths = map(str, (tiny_checkpoint, photos[0].path.parent, output))
    ended = run_alone(*paths, "{}", processes=2)
    assert ended.returncode == 0, ended.stderr
    rows, alone = (
        [row["loss"] for row in log_of(folder) if row["loss"]] for folder in (output, whole[0])
    )
    assert [float(loss) for loss in rows] == pytest.approx([float(x) for x in alone], abs=1e-4)
    assert_close_weights(output, whole[0])


@pytest.mark.parametrize("mode", sorted(set(LEARNING_RATES) - {"full"}))
def test_every_mode_gives_an_encoder(mode, tiny_checkpoint, photos, tmp_path):
    settings = {"layers": (1, 1)} if mode == "partial" else {}
    result = run_tiny(
        tiny_checkpoint,
        photos,
        tmp_path / "run",
        mode=mode,
        epochs=1,
        interpolation=1.0,
        **settings,
    )
    old = load_file(tiny_checkpoint / "open_clip_model.safetensors")
    new = weights(tmp_path / "run")
    assert new.keys() == old.keys()
    changed = {name for name, value in new.items() if not torch.equal(value, old[name])}
    frozen = {"partial", "lora", "linear"}
    assert ("visual.conv1.weight" in changed) == (mode not in frozen)
    assert "text_projection" in changed
    assert (result.trained < result.parameters) == (mode in frozen)


def test_parts_of_a_batch_give_the_weights_of_a_whole_one(whole, tiny_checkpoint, photos, tmp_path):
    run_tiny(tiny_checkpoint, photos, tmp_path / "run", chunk_size=3)
    assert_close_weights(tmp_path / "run", whole[0])


def test_a_run_of_other_settings_is_refused_by_what_differs(whole, tiny_checkpoint, photos):
    with pytest.raises(UsageError, match=r"settings.batch_size 8, now 4\)"):
        run_tiny(tiny_checkpoint, photos, whole[0], batch_size=4, resume=True)
    with pytest.raises(UsageError, match="training data"):
        run_tiny(tiny_checkpoint, photos[1:], whole[0], resume=True)
    with pytest.raises(UsageError, match="holds a training run already"):
        run_tiny(tiny_checkpoint, photos, whole[0])


def test_a_damaged_checkpoint_is_refused(tiny_checkpoint, photos, tmp_path):
    (tmp_path / CHECKPOINT_NAME).write_bytes(b"not a checkpoint")
    with pytest.raises(UsageError, match="no checkpoint of a training run"):
        run_tiny(tiny_checkpoint, photos, tmp_path, resume=True)


def test_unreadable_photos_are_left_out_of_validation(tiny_checkpoint, photos, tmp_path):
    (tmp_path / "damaged.png").write_bytes(b"no picture")
    damaged = CaptionedPhoto(tmp_path / "damaged.png", ("nothing",))
    dual = load_trainable(f"local-dir:{tiny_checkpoint}")
    config = EncoderTraining(encoder="any", output=tmp_path, batch_size=4)
    found, expected = (
        Validation(some, dual, config, Processes()).measure(dual.model)
        for some in ([photos[0], damaged, *photos[1:]], photos)
    )
    assert found == expected


def test_a_batch_larger_than_the_data_is_refused(tiny_checkpoint, photos, tmp_path):
    with pytest.raises(UsageError, match="there are 32"):
        run_tiny(tiny_checkpoint, photos, tmp_path / "run", batch_size=33)


def test_an_infinite_loss_stops_the_run(tiny_checkpoint, photos, tmp_path):
    with pytest.raises(UsageError, match="lower learning rate"):
        run_tiny(tiny_checkpoint, photos, tmp_path / "run", learning_rate=1e30, epochs=9)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("layers", (1, 1)),  # an option of other modes than the default
        ("layer_norms", True),
        ("mode", "half"),
        ("loss", "mse"),
        ("precision", "int8"),
        ("learning_rate", -1.0),
        ("learning_rate", float("nan")),
        ("weight_decay", -0.1),
        ("label_smoothing", 1.0),
        ("layer_decay", 0.0),
        ("interpolation", 1.5),
        ("chunk_size", 0),
        ("rank", 0),
        ("workers", -1),
        ("alpha", 0.0),
        ("dropout", 1.0),
        ("hard_negatives", -1),
        ("frozen_cache_gb", -1.0),
        ("epochs", 0),
        ("batch_size", 1),
    ],
)
def test_settings_out_of_range_are_refused(setting, value, tmp_path):
    with pytest.raises(UsageError, match=setting):
        EncoderTraining(encoder="any", output=tmp_path, **{setting: value})


def test_files_of_others_in_the_output_are_kept(tiny_checkpoint, photos, tmp_path):
    (tmp_path / "encoder").mkdir()
    (tmp_path / "encoder" / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="has encoder already"):
        run_tiny(tiny_checkpoint, photos, tmp_path)
    with pytest.raises(UsageError, match="is no encoder"):
        load_trainable(f"local-dir:{tiny_checkpoint}").save(tmp_path / "encoder")
    assert (tmp_path / "encoder" / "mine.txt").read_text() == "mine"


def test_two_runs_into_one_output_are_refused(tmp_path):
    config = EncoderTraining(encoder="any", output=tmp_path)
    with training_run(config):
        with pytest.raises(UsageError, match="Another process"), training_run(config):
            pass
        with training_run(config, is_first=False):
            pass
    with training_run(config):
        pass


@pytest.mark.slow
def test_a_full_disk_is_told(tmp_path):
    code = (
        "import resource, sys, torch; from pathlib import Path\n"
        "from retrieval.training.encoders.fine_tuning import save_weights\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "save_weights({'w': torch.zeros(1000)}, Path(sys.argv[1]))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "w")],
        cwd=Path(__file__).resolve().parents[4],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "MMSearchError" in run.stderr
    assert "cannot be written" in run.stderr
    assert list(tmp_path.iterdir()) == []


def run_cached(checkpoint, photos, output, cache, **settings):
    """Train with fixed variants, from a cache of frozen layers if one is given."""
    return run_tiny(checkpoint, photos, output, cache=cache, learning_rate=1e-3, **settings)


@pytest.mark.parametrize("settings", [{"mode": "linear"}, {"mode": "partial", "layers": (1, 1)}])
def test_frozen_layers_are_computed_once(settings, tiny_checkpoint, photos, tmp_path):
    plain, cached = (
        run_cached(tiny_checkpoint, photos, tmp_path / name, cache, **settings)
        for name, cache in (("plain", None), ("cached", tmp_path / "cache"))
    )
    kinds = {path.name.rpartition("-")[0] for path in (tmp_path / "cache").iterdir()}
    assert kinds == {"image-states", "text-states"}
    for mine, theirs in zip(cached.epochs, plain.epochs, strict=True):
        assert mine.loss == pytest.approx(theirs.loss, abs=1e-2)
    # Validation reads states, too; of the sixteen photos rounding may turn the order of two.
    assert cached.before.mean == pytest.approx(plain.before.mean, abs=0.05)
    assert cached.after.mean == pytest.approx(plain.after.mean, abs=0.05)
    one, other = (load_file(tmp_path / name / BEST_NAME) for name in ("plain", "cached"))
    old = load_file(tiny_checkpoint / "open_clip_model.safetensors")
    moved = [name for name, value in one.items() if not torch.equal(value, old[name])]
    assert moved
    assert {name for name in other if not torch.equal(other[name], old[name])} == set(moved)
    difference, way = (
        sum(float((one[name] - some[name]).square().sum()) for name in moved) ** 0.5
        for some in (other, old)
    )
    assert difference < 0.1 * way


def test_training_on_cached_states_decodes_nothing_and_resumes(
    tiny_checkpoint, photos, tmp_path, monkeypatch
):
    settings = {"mode": "partial", "layers": (1, 1), "chunk_size": 3}
    cache = tmp_path / "cache"
    run_cached(tiny_checkpoint, photos, tmp_path / "whole", cache, **settings)

    def decode(*_):
        raise AssertionError("decoded")

    monkeypatch.setattr(pairs, "read_image", decode)
    with pytest.raises(TrainingStoppedError):
        run_cached(tiny_checkpoint, photos, tmp_path / "run", cache, stop_after=2, **settings)
    run_cached(tiny_checkpoint, photos, tmp_path / "run", cache, resume=True, **settings)
    assert_same_weights(tmp_path / "run", tmp_path / "whole")


@pytest.mark.slow
def test_two_processes_share_cached_states(tiny_checkpoint, photos, tmp_path):
    settings = {"mode": "partial", "layers": [1, 1], "cache": str(tmp_path / "cache")}
    paths = map(str, (tiny_checkpoint, photos[0].path.parent, tmp_path / "two"))
    ended = run_alone(*paths, json.dumps(settings), processes=2)
    assert ended.returncode == 0, ended.stderr
    alone = run_cached(
        tiny_checkpoint,
        photos,
        tmp_path / "one",
        tmp_path / "cache",
        mode="partial",
        layers=(1, 1),
    )
    losses = [float(row["loss"]) for row in log_of(tmp_path / "two") if row["loss"]]
    assert losses == pytest.approx([epoch.loss for epoch in alone.epochs], abs=1e-4)


def test_a_cache_beyond_its_bound_is_told_and_not_used(tiny_checkpoint, photos, tmp_path):
    notes: list[str] = []
    settings = {"mode": "linear", "frozen_cache_gb": 1e-9, "epochs": 1}
    run_cached(
        tiny_checkpoint, photos, tmp_path / "run", tmp_path, on_note=notes.append, **settings
    )
    [note] = notes
    assert "the bound is 0.0 GB" in note
    assert (tmp_path / "run" / "encoder").exists()


def test_damaged_photos_are_left_out_of_cached_batches(tiny_checkpoint, photos, tmp_path):
    (tmp_path / "damaged.png").write_bytes(b"no picture")
    some = [*photos, CaptionedPhoto(tmp_path / "damaged.png", ("nothing", "no more"))]
    results = [
        run_cached(tiny_checkpoint, some, tmp_path / name, cache, mode="linear")
        for name, cache in (("plain", None), ("one", tmp_path), ("again", tmp_path))
    ]
    assert {result.damaged for result in results} == {results[0].damaged}
    assert results[0].damaged.startswith("1 cannot be read")
    losses = [[epoch.loss for epoch in result.epochs] for result in results]
    assert losses[1] == pytest.approx(losses[0], abs=1e-2)
    assert losses[2] == losses[1]


@pytest.mark.parametrize("mode", ["full", "linear"])
def test_hard_negatives_meet_in_batches_and_resume(
    mode, tiny_checkpoint, photos, tmp_path, monkeypatch
):
    """By pixels, and by the states of frozen layers."""
    drawn = []
    real = pairs.PhotoPairs.batches

    def batches(source, *arguments, **options):
        for batch in real(source, *arguments, **options):
            drawn.append([pair.number for pair in batch])
            yield batch

    monkeypatch.setattr(pairs.PhotoPairs, "batches", batches)
    settings = {"mode": mode, "hard_negatives": 1}
    cache = tmp_path / "cache"
    run_cached(tiny_checkpoint, photos, tmp_path / "whole", cache, **settings)
    near = np.load(tmp_path / "whole" / NEIGHBOURS_NAME)
    assert near.shape == (16, 4)
    last = drawn[-4:]
    assert len({first for first, *_ in last}) > 1
    assert last[0][1] == near[last[0][0], 0]
    whole = list(drawn)
    drawn.clear()
    for stop_after, resume in ((2, False), (4, True)):
        with pytest.raises(TrainingStoppedError):
            run_cached(
                tiny_checkpoint,
                photos,
                tmp_path / "run",
                cache,
                stop_after=stop_after,
                resume=resume,
                **settings,
            )
    run_cached(tiny_checkpoint, photos, tmp_path / "run", cache, resume=True, **settings)
    assert_same_weights(tmp_path / "run", tmp_path / "whole")
    assert all(batch in whole for batch in drawn)


def test_damaged_hard_negatives_are_refused(tmp_path):
    path = tmp_path / NEIGHBOURS_NAME
    for content in (b"", b"no array"):
        path.write_bytes(content)
        with pytest.raises(UsageError, match="hard negatives"):
            read_neighbours(path, 3)
    np.save(path, np.array([[1], [2], [3]]))
    with pytest.raises(UsageError, match="hard negatives"):
        read_neighbours(path, 3)
    np.save(path, np.array([[1], [2], [0]]))
    assert read_neighbours(path, 3).tolist() == [[1], [2], [0]]


@pytest.mark.slow
def test_recomputed_activations_give_the_same_weights(whole, tiny_checkpoint, photos, tmp_path):
    run_tiny(tiny_checkpoint, photos, tmp_path / "run", recompute_activations=True)
    assert_close_weights(tmp_path / "run", whole[0])


def test_recomputing_layers_do_without_cached_states(tiny_checkpoint, photos, tmp_path):
    """The layer above the cut would be computed again from zeros."""
    settings = {"mode": "partial", "layers": (1, 1), "epochs": 1}
    plain, again = (
        run_cached(
            tiny_checkpoint,
            photos,
            tmp_path / str(recomputed),
            tmp_path / "cache",
            recompute_activations=recomputed,
            **settings,
        )
        for recomputed in (False, True)
    )
    assert again.epochs[0].loss == pytest.approx(plain.epochs[0].loss, abs=1e-2)


def test_scale_and_dropout_of_updates_change_what_is_learned(tiny_checkpoint, photos, tmp_path):
    settings = {"mode": "lora", "epochs": 1}
    losses = {
        run_tiny(tiny_checkpoint, photos, tmp_path / str(number), **settings, **own).epochs[0].loss
        for number, own in enumerate(({}, {"alpha": 64.0}, {"dropout": 0.5}))
    }
    assert len(losses) == 3

"""Logs of a run: rows, and what a resumed run makes of them."""

import csv
import sys

import pytest

from retrieval.errors import EncoderUnavailableError
from retrieval.training.encoders.logs import LOG_NAME, TENSORBOARD_NAME, TrainingLog


def rows_of(folder):
    return list(csv.DictReader((folder / LOG_NAME).read_text().splitlines()))


def test_a_resumed_run_drops_the_rows_after_its_step(tmp_path):
    log = TrainingLog(tmp_path)
    log.begin(0)
    for step in (10, 20, 30):
        log.write(step, {"epoch": 1, "loss": step / 100})
    log = TrainingLog(tmp_path)
    log.begin(20)
    log.write(25, {"epoch": 2, "t2i_r1": 0.5})
    assert [(row["step"], row["loss"], row["t2i_r1"]) for row in rows_of(tmp_path)] == [
        ("10", "0.1", ""),
        ("20", "0.2", ""),
        ("25", "", "0.5"),
    ]


def test_a_new_run_begins_a_new_log(tmp_path):
    (tmp_path / LOG_NAME).write_text("what was here before\n")
    TrainingLog(tmp_path).begin(0)
    assert rows_of(tmp_path) == []


def test_a_log_that_somebody_changed_does_not_stop_a_run(tmp_path):
    (tmp_path / LOG_NAME).write_text("step,loss\nten,1\n\n5,2\n")
    TrainingLog(tmp_path).begin(6)
    assert [row["step"] for row in rows_of(tmp_path)] == ["ten", "5"]


@pytest.mark.slow
def test_tensorboard_reads_the_same_numbers(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = TrainingLog(tmp_path, tensorboard=True)
    log.begin(0)
    log.write(10, {"epoch": 1, "loss": 0.25})
    log.close()
    events = EventAccumulator(str(tmp_path / TENSORBOARD_NAME)).Reload()
    assert [(each.step, each.value) for each in events.Scalars("loss")] == [(10, 0.25)]


def test_a_missing_tensorboard_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(EncoderUnavailableError, match="pip install tensorboard"):
        TrainingLog(tmp_path, tensorboard=True)

"""What is said of a training run."""

from dataclasses import asdict
from pathlib import Path

from api.cli.training_data import TrainingData
from api.cli.training_report import comparisons, describe_data, epoch_line, in_a_line, report
from retrieval.training.captions import CaptionedPhoto
from retrieval.training.encoders.fine_tuning import EncoderEpoch
from retrieval.training.encoders.model_card import Measured
from retrieval.training.validation import Recalls


def measured(**values):
    return {
        name.replace("_", " ").replace("R", "R@"): Measured(value, value, value)
        for name, value in values.items()
    }


def test_figures_of_a_dataset_stand_in_one_line():
    figures = measured(text_to_image_R1=0.1, text_to_image_R5=0.25, text_to_image_R10=1.0)
    figures |= measured(image_to_text_R1=0.2, image_to_text_R5=0.3, image_to_text_R10=0.4)
    assert in_a_line(figures) == (
        "R@1/5/10 text to image 10.0/25.0/100.0, image to text 20.0/30.0/40.0"
    )


def test_an_epoch_stands_in_one_line():
    epoch = EncoderEpoch(2, 0.5, Recalls((0.1, 0.2, 0.3), (0.4, 0.5, 0.6)), True, 20.0, 61.4)
    assert epoch_line(epoch) == (
        "epoch 2: loss 0.5000, R@1/5/10 text to image 10.0/20.0/30.0, "
        "image to text 40.0/50.0/60.0 (61 s), best so far"
    )


def test_photos_are_counted_by_what_they_are_for():
    photo = CaptionedPhoto(Path("a.jpg"), ("one", "two"))
    data = TrainingData("csv:a", "a", (photo,), (photo,), (), (), (), True, 0)
    assert describe_data(data) == (
        "a: 1 photos with 2 captions to train on, 1 photos for validation "
        "(drawn from all: there is no split for it)"
    )


def test_the_report_names_gains_losses_and_the_encoder():
    before = {"mine": measured(R1=0.2), "other": measured(R1=0.5)}
    after = {"mine": measured(R1=0.3), "other": measured(R1=0.45)}
    told = report(
        {
            "figures": [asdict(each) for each in comparisons(before, after)],
            "share": 0.7,
            "unreadable": "1 image could not be read",
            "output": "run",
            "encoder": "local-dir:run/encoder",
        }
    ).splitlines()
    assert told[:4] == [
        "mine, R@1    20.0 ->  30.0  (+10.0)",
        "other, R@1   50.0 ->  45.0  (-5.0)",
        "Share of the new weights: 0.7",
        "1 image could not be read",
    ]
    assert "mmsearch index PICTURES --encoder local-dir:run/encoder" in told[-1]

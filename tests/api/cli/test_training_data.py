"""Datasets of any format as photos and captions to train on."""

import csv
import json

import pytest

from api.cli.training_data import (
    load_other,
    load_training_data,
    load_validation,
    to_measure,
    write_as_captions,
)
from benchmarks.datasets import splits_of
from retrieval.errors import NotFoundError, UsageError
from retrieval.training.captions import read_captioned_photos


@pytest.fixture
def pictures(picture_folder):
    return sorted(picture_folder.rglob("*.png"))


@pytest.fixture
def table(picture_folder, pictures):
    """A CSV file without splits."""
    path = picture_folder / "pictures.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "text"])
        for number, picture in enumerate(pictures):
            for word in ("a", "b"):
                writer.writerow([picture.relative_to(picture_folder), f"{word} {number}"])
    return f"csv:{path}"


@pytest.fixture
def listing(picture_folder, pictures):
    """A listing with a function to write it: the split and captions of each picture."""

    def write(*rows):
        lines = [
            json.dumps({"image": str(pictures[number].relative_to(picture_folder)), **row})
            for number, row in enumerate(rows)
        ]
        (picture_folder / "captions.jsonl").write_text("\n".join(lines))
        if not (picture_folder / "images").exists():
            (picture_folder / "images").symlink_to(picture_folder)
        return f"jsonl:{picture_folder}"

    return write


def test_a_dataset_without_splits_is_divided_by_photo(table, pictures):
    data = load_training_data(table)
    assert data.is_divided
    train, validation = ({p.path for p in part} for part in (data.train, data.validation))
    assert len(validation) == 2
    assert not train & validation
    assert len(train | validation) == len(pictures)
    assert all(len(photo.captions) == 2 for photo in data.train)


def test_the_seed_decides_the_division(table):
    drawn = {tuple(p.path for p in load_training_data(table, seed=n).validation) for n in range(9)}
    assert len(drawn) > 1
    assert load_training_data(table, seed=3) == load_training_data(table, seed=3)


def test_splits_are_kept_apart(listing):
    splits = ("train", "train", "val", "val", "test", "train")
    spec = listing(*({"split": split, "en": [f"photo {n}"]} for n, split in enumerate(splits)))
    assert splits_of(spec) == ("train", "val", "test")
    data = load_training_data(spec)
    assert [photo.captions for photo in data.train] == [("photo 0",), ("photo 1",), ("photo 5",)]
    assert [photo.captions for photo in data.validation] == [("photo 2",), ("photo 3",)]
    assert [photo.captions for photo in data.test] == [("photo 4",)]
    assert not data.is_divided
    assert load_other(spec).split == "test"
    assert [photo.captions for photo in load_validation(spec)] == [("photo 2",), ("photo 3",)]
    without = load_training_data(spec, has_validation=False)
    assert without.validation == ()


def test_captions_of_several_languages_belong_to_one_photo(listing):
    rows = [{"en": [f"photo {n}"], "de": [f"Foto {n}", f"Bild {n}"]} for n in range(5)]
    spec = listing(*rows)
    assert load_training_data(spec).languages == ("en",)
    for languages in (("en", "de"), ("all",)):
        data = load_training_data(spec, languages)
        assert data.languages == ("en", "de")
        assert all(photo.languages == ("en", "de", "de") for photo in data.train)
        assert all(len(photo.captions) == 3 for photo in data.train)


def test_what_is_written_for_the_other_trainers_reads_the_same(table, tmp_path):
    data = load_training_data(table)
    folder = write_as_captions(data, tmp_path / "dataset")
    assert read_captioned_photos(folder, "train") == list(data.train)
    assert read_captioned_photos(folder, "val") == list(data.validation)


def test_photos_are_measured_with_their_own_captions(table):
    data = load_training_data(table)
    dataset = to_measure(data.validation, data.name, table)
    assert {"t2i", "i2t"} <= set(dataset.directions)
    for query, images in dataset.qrels("t2i").items():
        [image] = images
        [photo] = [each for each in data.validation if each.path == dataset.images[image]]
        assert dataset.texts[query] in photo.captions


def test_a_dataset_that_cannot_be_trained_on_is_refused(listing, tmp_path):
    few = [{"en": ["one"]}, {"en": ["two"]}, {"en": ["three"]}]
    with pytest.raises(UsageError, match="At least four"):
        load_training_data(listing(*few))
    with pytest.raises(UsageError, match="no split to train on"):
        load_training_data(listing(*({"split": "val", **row} for row in few)))
    with pytest.raises(UsageError, match="two of each"):
        load_training_data(listing(*({"split": s, "en": ["a"]} for s in ("train", "train", "val"))))
    with pytest.raises(NotFoundError):
        load_training_data(f"csv:{tmp_path / 'nowhere.csv'}")
    with pytest.raises(UsageError, match="FORMAT:PATH"):
        load_training_data("nothing")

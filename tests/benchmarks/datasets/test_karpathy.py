import json

import pytest

from benchmarks.datasets import load_dataset
from retrieval.errors import NotFoundError, UsageError


def entry(name, split="test", *captions, **more):
    sentences = [{"raw": words, "sentid": 7, "tokens": words.split()} for words in captions]
    return {"filename": name, "split": split, "sentences": sentences, "imgid": 0, **more}


@pytest.fixture
def write(tmp_path):
    def write_entries(*entries, dataset="flickr8k"):
        content = {"images": entries, "dataset": dataset}
        (tmp_path / f"dataset_{dataset}.json").write_text(json.dumps(content))
        return f"karpathy:{tmp_path}"

    return write_entries


def test_the_test_split_is_the_usual_one(write, tmp_path, add_images):
    add_images("Flicker8k_Dataset/a.jpg", "Flicker8k_Dataset/b.jpg")
    specification = write(
        entry("a.jpg", "test", "a dog .", "a hound ."), entry("b.jpg", "train", "a cat .")
    )
    dataset = load_dataset(specification)
    assert (dataset.name, dataset.split, dataset.language) == ("flickr8k", "test", "en")
    assert dataset.images == {"a.jpg": tmp_path / "Flicker8k_Dataset" / "a.jpg"}
    assert dataset.texts == {"a.jpg#0": "a dog .", "a.jpg#1": "a hound ."}
    assert list(load_dataset(specification, "train").images) == ["b.jpg"]
    with pytest.raises(UsageError, match=r"test \(1\), train \(1\)"):
        load_dataset(specification, "restval")
    with pytest.raises(UsageError, match="is in 'en' only"):
        load_dataset(specification, language="zh")


@pytest.mark.parametrize("home", ["val2014/", "images/val2014/", "images/", "elsewhere/"])
def test_coco_in_sub_folders_or_in_one(write, tmp_path, add_images, home):
    add_images(f"{home}COCO_val2014_000000000042.jpg")
    name = "COCO_val2014_000000000042.jpg"
    specification = write(entry(name, "restval", *"abcdef", filepath="val2014"), dataset="coco")
    options = f"?images={tmp_path}/elsewhere&captions=5" if home == "elsewhere/" else "?captions=5"
    dataset = load_dataset(specification + options, "restval")
    assert dataset.images == {name: tmp_path / home / name}
    assert list(dataset.texts.values()) == list("abcde")


def test_every_problem_is_reported(write, add_images):
    add_images("images/a.jpg", "images/b.jpg")
    dataset = load_dataset(
        write(
            entry("a.jpg", "test", "a dog", ""),
            entry("a.jpg", "test", "a dog"),
            entry("b.jpg", "test"),
            entry("gone.jpg", "test", "nothing"),
        )
    )
    assert [problem.where for problem in dataset.problems] == [
        "dataset_flickr8k.json: images[0]",
        "dataset_flickr8k.json: images[1]",
        "b.jpg",
        "gone.jpg",
    ]
    assert dataset.problem_counts == {
        "empty text": 1,
        "duplicate id": 1,
        "image without text": 1,
        "missing image": 1,
    }


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"images": [\n{"filename": ', r"json:2: not JSON"),
        ("[]", "expected a JSON object, found list"),
        ('{"annotations": []}', "no list 'images'"),
        ('{"images": []}', "no list 'images'"),
        ('{"images": [{"filename": "a.jpg", "split": "test"}]}', r"images\[0\]: expected"),
        ('{"images": [3]}', r"images\[0\]: expected"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_malformed_files_are_refused(tmp_path, content, reason):
    (tmp_path / "dataset_coco.json").write_text(content)
    with pytest.raises(UsageError, match=reason):
        load_dataset(f"karpathy:{tmp_path}/dataset_coco.json")


def test_bytes_that_are_not_text_are_refused(tmp_path):
    (tmp_path / "dataset_coco.json").write_bytes(b'{"images":\n"\xe9"}')
    with pytest.raises(UsageError, match=r"json:2: not utf-8"):
        load_dataset(f"karpathy:{tmp_path}")


def test_one_of_several_files_must_be_named(write):
    write(dataset="coco")
    with pytest.raises(UsageError, match=r"dataset_coco\.json, dataset_flickr8k\.json"):
        load_dataset(write())


def test_where_the_images_are_had_is_said(write):
    with pytest.raises(NotFoundError, match=r"no a\.jpg in .*hockenmaier.*\?images=FOLDER"):
        load_dataset(write(entry("a.jpg", "test", "a dog")))

import json

import pytest

from benchmarks.datasets import load_dataset
from retrieval.errors import NotFoundError, UsageError


@pytest.fixture
def coco(tmp_path, add_images):
    add_images("val2017/000000000139.jpg", "val2017/000000000285.jpg")

    def write(images=(), annotations=(), split="val2017"):
        content = {
            "info": {},
            "images": [
                {"id": 139, "file_name": "000000000139.jpg", "height": 12},
                {"id": 285, "file_name": "000000000285.jpg", "height": 12},
                *images,
            ],
            "annotations": [
                {"id": 900, "image_id": 285, "caption": "A big bear.\n"},
                {"id": 901, "image_id": 139, "caption": "A room."},
                {"id": 902, "image_id": 285, "caption": "A bear."},
                *annotations,
            ],
        }
        folder = tmp_path / "annotations"
        folder.mkdir(exist_ok=True)
        (folder / f"captions_{split}.json").write_text(json.dumps(content))
        return f"coco:{tmp_path}"

    return write


def test_the_folder_as_it_is_unpacked(coco, tmp_path):
    dataset = load_dataset(coco())
    assert (dataset.name, dataset.split, dataset.language) == ("coco-val2017", "val2017", "en")
    assert dataset.images["000000000139.jpg"] == tmp_path / "val2017" / "000000000139.jpg"
    assert dataset.texts == {
        "000000000285.jpg#900": "A big bear.",
        "000000000139.jpg#901": "A room.",
        "000000000285.jpg#902": "A bear.",
    }
    assert dataset.qrels("i2t")["000000000285.jpg"] == {
        "000000000285.jpg#900": 1,
        "000000000285.jpg#902": 1,
    }
    by_file = load_dataset(f"coco:{tmp_path}/annotations/captions_val2017.json", "val2017", "en")
    assert by_file.fingerprint() == dataset.fingerprint()


def test_splits_are_files(coco, tmp_path):
    coco()
    specification = coco(split="train2017")
    with pytest.raises(UsageError, match="several splits: train2017, val2017"):
        load_dataset(specification)
    assert load_dataset(specification, "val2017").split == "val2017"
    with pytest.raises(UsageError, match=r"no split 'test'.*train2017, val2017"):
        load_dataset(specification, "test")
    with pytest.raises(UsageError, match="no split 'test'"):
        load_dataset(f"coco:{tmp_path}/annotations/captions_val2017.json", "test")


def test_every_problem_is_reported(coco):
    dataset = load_dataset(
        coco(
            images=[
                {"id": 139, "file_name": "other.jpg"},
                {"id": 7, "file_name": "000000000285.jpg"},
                {"id": 8, "file_name": "gone.jpg"},
            ],
            annotations=[
                {"id": 900, "image_id": 285, "caption": "A big bear."},
                {"id": 903, "image_id": 1, "caption": "Nobody."},
                {"id": 904, "image_id": 139, "caption": "\n"},
                {"id": 905, "image_id": 8, "caption": "Nothing."},
            ],
        )
    )
    assert [(str(p.kind), p.where.rpartition(" ")[2]) for p in dataset.problems] == [
        ("duplicate id", "images[2]"),
        ("duplicate id", "images[3]"),
        ("duplicate id", "annotations[3]"),
        ("unknown id", "annotations[4]"),
        ("empty text", "annotations[5]"),
        ("missing image", "gone.jpg"),
    ]
    assert len(dataset.texts) == 3


@pytest.mark.parametrize(
    "change",
    [
        {"images": [{"id": "a", "file_name": "b.jpg"}]},
        {"images": [{"id": 1, "file_name": ""}]},
        {"annotations": [{"id": 1, "image_id": 139}]},
        {"annotations": [None]},
    ],
)
def test_malformed_entries_are_refused(coco, change):
    with pytest.raises(UsageError, match=r"\[[23]\]: expected id"):
        load_dataset(coco(**change))


def test_instances_are_not_captions(tmp_path):
    (tmp_path / "captions_x.json").write_text('{"images": []}')
    with pytest.raises(UsageError, match="no list 'annotations'"):
        load_dataset(f"coco:{tmp_path}")


def test_where_the_images_are_had_is_said(coco, tmp_path):
    specification = coco()
    (tmp_path / "val2017").rename(tmp_path / "hidden")
    with pytest.raises(NotFoundError, match="2017 Val images"):
        load_dataset(specification)
    assert len(load_dataset(f"{specification}?images={tmp_path}/hidden").images) == 2

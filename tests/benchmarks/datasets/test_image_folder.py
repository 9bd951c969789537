import pytest

from benchmarks.datasets import load_dataset
from retrieval.errors import NotFoundError, UsageError


def test_classes_prompts_and_relevance(tmp_path, add_images):
    add_images("polar_bear/1.jpg", "polar_bear/deep/2.jpg", "cat/my cat.jpg", "cat/4.JPEG")
    dataset = load_dataset(f"image-folder:{tmp_path}")
    assert dataset.texts == {"cat": "a photo of a cat", "polar_bear": "a photo of a polar bear"}
    assert dataset.directions == ("t2i", "i2t", "i2i")
    assert dataset.qrels("t2i")["cat"] == {"cat/4.JPEG": 1, "cat/my%20cat.jpg": 1}
    assert dataset.qrels("i2t")["polar_bear/1.jpg"] == {"polar_bear": 1}
    assert dataset.qrels("i2i") == {
        "cat/4.JPEG": {"cat/my%20cat.jpg": 1},
        "cat/my%20cat.jpg": {"cat/4.JPEG": 1},
        "polar_bear/1.jpg": {"polar_bear/deep/2.jpg": 1},
        "polar_bear/deep/2.jpg": {"polar_bear/1.jpg": 1},
    }
    assert not dataset.problems


def test_prompts_and_names_are_chosen(tmp_path, add_images):
    add_images("photos/n01440764/1.jpg", "photos/n02119789/1.jpg")
    names = tmp_path / "names.txt"
    names.write_text("n01440764 tench, Tinca tinca\nn02119789\tkit fox\n")
    specification = f"image-folder:{tmp_path}/photos?names={names}"
    assert load_dataset(specification + "&prompt=one {name}!").texts == {
        "n01440764": "one tench!",
        "n02119789": "one kit fox!",
    }
    with pytest.raises(UsageError, match=r"no \{name\}"):
        load_dataset(specification + "&prompt=a photo")
    names.write_text("n01440764\n")
    with pytest.raises(UsageError, match=r"names\.txt:1: expected a folder"):
        load_dataset(specification)
    names.unlink()
    with pytest.raises(NotFoundError, match=r"names\.txt"):
        load_dataset(specification)


def test_splits_are_folders(tmp_path, add_images):
    add_images("train/cat/1.jpg", "val/cat/2.jpg", "val/dog/3.jpg")
    specification = f"image-folder:{tmp_path}"
    assert list(load_dataset(specification, "val").images) == ["cat/2.jpg", "dog/3.jpg"]
    with pytest.raises(UsageError, match=r"needs a split.*train \(1\), val \(2\)"):
        load_dataset(specification)
    with pytest.raises(UsageError, match="name one split: train, val"):
        load_dataset(specification, "all")
    with pytest.raises(UsageError, match="has no splits"):
        load_dataset(specification + "/val", "val")
    with pytest.raises(UsageError, match="does not name languages"):
        load_dataset(specification, "val", "en")


def test_every_problem_is_reported(tmp_path, add_images):
    add_images("cat/1.jpg", "cat/2.jpg", "a_b/1.jpg", "a b/1.jpg", "a b/2.jpg", "loose.jpg")
    (tmp_path / "cat" / "notes.txt").write_text("meow")
    (tmp_path / "cat" / ".hidden").write_text("")
    (tmp_path / "cat" / "3.jpg").symlink_to("nowhere")
    (tmp_path / "empty").mkdir()
    dataset = load_dataset(f"image-folder:{tmp_path}")
    assert [(str(problem.kind), problem.where) for problem in dataset.problems] == [
        ("query without relevant item", "a_b/1.jpg"),
        ("file that is not an image", "cat/notes.txt"),
        ("class without images", "empty/"),
        ("image in no class folder", "loose.jpg"),
        ("text of several classes", "a%20b"),
        ("missing image", "cat/3.jpg"),
    ]
    assert list(dataset.texts) == ["a%20b", "a_b", "cat"]


def test_a_folder_without_classes_is_refused(tmp_path, add_images):
    add_images("1.jpg")
    with pytest.raises(UsageError, match="no sub-folder with images"):
        load_dataset(f"image-folder:{tmp_path}")

"""Rows of images and texts, whatever file they come from."""

import pytest

from benchmarks.datasets.table import Columns, TableRow, choose_columns, dataset_from_rows
from retrieval.errors import UsageError


@pytest.mark.parametrize(
    ("available", "given", "expected"),
    [
        (["image", "text"], {}, Columns("image", "text", None, None, None)),
        (["image", "captions"], {}, Columns("image", "captions", None, None, None)),
        (["caption", "image", "split"], {}, Columns("image", "caption", None, "split", None)),
        (["path", "file", "caption"], {}, Columns("file", "caption", None, None, None)),
        (
            ["file", "words", "part", "split"],
            {"image": "file", "text": "words", "splits": "part", "classes": "words"},
            Columns("file", "words", None, "part", "words"),
        ),
    ],
)
def test_columns_have_usual_names(available, given, expected, tmp_path):
    assert choose_columns(available, tmp_path, given) == expected
    assert len(set(expected.used)) == len(expected.used)


@pytest.mark.parametrize("given", [{}, {"image": "text", "text_ids": "id"}])
def test_a_column_that_is_not_there_is_named_with_those_that_are(given, tmp_path):
    with pytest.raises(UsageError, match=r"no column '(image|id)'. Its columns: text, b"):
        choose_columns(["text", "b"], tmp_path, given)


def build(folder, *rows, **options):
    rows = [TableRow(f"t:{number}", *row) for number, row in enumerate(rows, start=2)]
    chosen = {"split": None, "language": None, "images": None, **options}
    return dataset_from_rows(rows, folder / "table.x", **chosen)


def test_texts_are_numbered_by_image_across_rows_and_lists(tmp_path, add_images):
    add_images("images/a.jpg", "images/b.jpg")
    dataset = build(tmp_path, ("a.jpg", ["one", "two"]), ("b.jpg", ["one"]), ("a.jpg", ["three"]))
    assert list(dataset.texts) == ["a.jpg#0", "a.jpg#1", "b.jpg#0", "a.jpg#2"]
    assert list(dataset.texts.values()) == ["one", "two", "one", "three"]
    assert dataset.images["a.jpg"] == tmp_path / "images" / "a.jpg"
    assert not dataset.problems


def test_a_text_with_an_id_is_shared(tmp_path, add_images):
    add_images("a.jpg", "b.jpg")
    dataset = build(
        tmp_path, ("a.jpg", ["a pet"], "7"), ("b.jpg", [" a pet "], "7"), ("b.jpg", ["x"], "")
    )
    assert dataset.captions == (("7", "a.jpg"), ("7", "b.jpg"))
    assert [(str(p.kind), p.where) for p in dataset.problems] == [("unknown id", "t:4")]


def test_only_the_split_is_read_and_its_images_counted_once(tmp_path, add_images):
    add_images("a.jpg", "b.jpg")
    splits = [("a.jpg", "val"), ("a.jpg", "val"), ("b.jpg", "dev")]
    rows = [(image, ["words"], None, split) for image, split in splits]
    assert list(build(tmp_path, *rows, split="val").images) == ["a.jpg"]
    assert len(build(tmp_path, *rows, split="all").texts) == 3
    with pytest.raises(UsageError, match=r"val \(1\), dev \(1\)"):
        build(tmp_path, *rows)


def test_the_first_class_of_an_image_stays(tmp_path, add_images):
    add_images("a.jpg", "b.jpg")
    dataset = build(
        tmp_path,
        ("a.jpg", ["1"], None, None, "big cat"),
        ("b.jpg", ["2"], None, None, "big cat"),
        ("a.jpg", ["3"], None, None, "dog"),
    )
    assert dataset.classes == {"a.jpg": "big%20cat", "b.jpg": "big%20cat"}
    assert [(str(p.kind), p.where) for p in dataset.problems] == [("duplicate id", "t:4")]


def test_rows_without_an_image_and_tables_without_rows(tmp_path, add_images):
    add_images("a.jpg")
    dataset = build(tmp_path, ("", ["words"]), ("a.jpg", ["words"]))
    assert [(str(p.kind), p.where) for p in dataset.problems] == [("missing image", "t:2")]
    with pytest.raises(UsageError, match="has no rows"):
        build(tmp_path)

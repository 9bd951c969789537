"""Datasets entry by entry, and what is wrong with the entries."""

import pytest

from benchmarks.datasets.builder import DatasetBuilder, is_file
from retrieval.errors import NotFoundError


@pytest.fixture
def builder():
    return DatasetBuilder("pets", "val", "en")


def problems(builder):
    return [(str(problem.kind), problem.where) for problem in builder.problems]


def test_entries_become_a_dataset(builder, tmp_path, add_images):
    add_images("my cat.jpg", "dog.jpg")
    cat = builder.add_image("my cat.jpg", tmp_path / "my cat.jpg")
    assert cat == builder.add_image("my cat.jpg", tmp_path / "elsewhere.jpg") == "my%20cat.jpg"
    builder.add_image("dog.jpg", tmp_path / "dog.jpg")
    builder.add_caption("1", "  a cat\n", cat, "f:1")
    dataset = builder.build()
    assert dataset.images[cat] == tmp_path / "my cat.jpg"
    assert (dataset.texts, dataset.captions) == ({"1": "a cat"}, (("1", cat),))
    assert (dataset.name, dataset.split, dataset.language) == ("pets", "val", "en")
    assert problems(dataset) == [("image without text", "dog.jpg")]


def test_empty_repeated_and_broken_texts_are_reported(builder):
    assert not builder.add_text("1", None, "f:1")
    assert not builder.add_text("1", " \n", "f:2")
    assert builder.add_text("1", "a \ud800 cat", "f:3")
    assert not builder.add_text("1", "a ? cat", "f:4")
    assert not builder.add_text("1", "a dog", "f:5")
    assert builder.texts == {"1": "a ? cat"}
    assert problems(builder) == [
        ("empty text", "f:1"),
        ("empty text", "f:2"),
        ("text with broken characters", "f:3"),
        ("duplicate id", "f:4"),
        ("duplicate id", "f:5"),
    ]
    assert "the same text" in builder.problems[3].detail
    assert "another text" in builder.problems[4].detail


def test_images_without_a_file_go_with_their_texts(builder, tmp_path, add_images):
    add_images("dog.jpg")
    for number, name in enumerate(["dog.jpg", "gone.jpg"]):
        builder.add_caption(str(number), "words", builder.add_image(name, tmp_path / name), "f")
    dataset = builder.build()
    assert (list(dataset.images), list(dataset.texts)) == (["dog.jpg"], ["0"])
    assert problems(dataset) == [("missing image", "gone.jpg")]


def test_no_image_at_all_is_an_error_with_the_hint(builder, tmp_path):
    builder.add_image("gone.jpg", tmp_path / "gone.jpg")
    with pytest.raises(NotFoundError, match=r"None of the 1 images of pets.*Get them here"):
        builder.build(fetch_hint="Get them here.")


@pytest.mark.parametrize("name", ["x" * 5000, "nul\0.jpg", "."])
def test_names_that_no_file_can_have_are_no_files(tmp_path, name):
    assert not is_file(tmp_path / name)

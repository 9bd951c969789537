import shutil
from dataclasses import replace
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.datasets import ProblemKind, RetrievalDataset, safe_id
from retrieval.errors import NotFoundError, UsageError


@pytest.fixture
def dataset(tmp_path, add_images):
    """Two cats and a dog; one text describes both cats, the second cat has two texts."""
    add_images("a.jpg", "b.jpg", "c.jpg")
    return RetrievalDataset(
        name="pets",
        split=None,
        language=None,
        images={name: tmp_path / name for name in ("a.jpg", "b.jpg", "c.jpg")},
        texts={"cats": "a cat", "b.jpg#0": "a striped cat", "c.jpg#0": "a dog"},
        captions=(("cats", "a.jpg"), ("cats", "b.jpg"), ("b.jpg#0", "b.jpg"), ("c.jpg#0", "c.jpg")),
        classes={"a.jpg": "cat", "b.jpg": "cat", "c.jpg": "dog"},
    )


@given(st.text(st.characters(codec=None), min_size=1))
def test_ids_hold_no_whitespace_and_give_the_name_back(name):
    identifier = safe_id(name)
    assert identifier.split() == [identifier]
    assert identifier.isascii()
    assert "#" not in identifier
    assert unquote(identifier, errors="surrogatepass") == name


@given(st.lists(st.text(min_size=1), unique=True))
def test_different_names_have_different_ids(names):
    assert len({safe_id(name) for name in names}) == len(names)


def test_plain_names_are_their_own_ids():
    assert safe_id("val2014/COCO_val2014_000000000042.jpg") == (
        "val2014/COCO_val2014_000000000042.jpg"
    )
    assert safe_id("my cat#1.jpg") == "my%20cat%231.jpg"


def test_an_empty_name_is_no_id():
    with pytest.raises(ValueError, match="empty"):
        safe_id("")


def test_qrels_of_each_direction(dataset):
    assert dataset.directions == ("t2i", "i2t", "i2i", "t2t")
    assert dataset.qrels("t2i") == {
        "cats": {"a.jpg": 1, "b.jpg": 1},
        "b.jpg#0": {"b.jpg": 1},
        "c.jpg#0": {"c.jpg": 1},
    }
    assert dataset.qrels("i2t") == {
        "a.jpg": {"cats": 1},
        "b.jpg": {"cats": 1, "b.jpg#0": 1},
        "c.jpg": {"c.jpg#0": 1},
    }
    assert dataset.qrels("i2i") == {"a.jpg": {"b.jpg": 1}, "b.jpg": {"a.jpg": 1}}
    assert dataset.qrels("t2t") == {"cats": {"b.jpg#0": 1}, "b.jpg#0": {"cats": 1}}


def test_queries_and_items_of_each_direction(dataset):
    assert list(dataset.queries("t2i")) == ["cats", "b.jpg#0", "c.jpg#0"]
    assert dataset.items("t2i") == dataset.images
    assert dataset.queries("i2t") == dataset.images
    assert dataset.items("i2t") == dataset.texts
    assert list(dataset.queries("i2i")) == ["a.jpg", "b.jpg"]
    assert dataset.items("i2i") == dataset.images
    assert dataset.queries("t2t") == {"cats": "a cat", "b.jpg#0": "a striped cat"}
    assert dataset.items("t2t") == dataset.texts


def test_undefined_directions_are_refused(dataset):
    flat = replace(dataset, classes={}, captions=(("cats", "a.jpg"), ("c.jpg#0", "c.jpg")))
    assert flat.directions == ("t2i", "i2t")
    for direction in ("i2i", "t2t"):
        for ask in (flat.qrels, flat.queries, flat.items):
            with pytest.raises(UsageError, match=f"{direction} is not defined.*t2i, i2t"):
                ask(direction)
    with pytest.raises(UsageError, match="Unknown direction 't2v'"):
        flat.qrels("t2v")


def test_images_that_cannot_be_decoded_are_named_and_left_out(dataset):
    checked = dataset.without_images({"b.jpg": "it is cut off", "c.jpg": "the file is empty"})
    assert list(checked.images) == ["a.jpg"]
    assert checked.texts == {"cats": "a cat"}, "it still describes the other cat"
    assert checked.captions == (("cats", "a.jpg"),)
    assert checked.problem_counts == {"unreadable image": 2}
    assert [problem.where for problem in checked.problems] == ["b.jpg", "c.jpg"]
    assert str(checked.problems[1]) == (
        "c.jpg: unreadable image: the file is empty; left out together with 1 texts"
    )
    assert checked.directions == ("t2i", "i2t")
    assert len(dataset.images) == 3


def test_good_images_change_nothing(dataset):
    assert dataset.without_images({}) is dataset


def test_not_one_usable_image_is_an_error(dataset):
    reasons = dict.fromkeys(dataset.images, "not an image of a known format")
    with pytest.raises(UsageError, match=r"None of the 3 images.*a\.jpg.*known format"):
        dataset.without_images(reasons)


def test_the_fingerprint_depends_on_content_only(dataset, tmp_path):
    moved = tmp_path / "moved"
    moved.mkdir()
    for path in dataset.images.values():
        shutil.copy(path, moved)
    same = replace(
        dataset,
        name="other",
        images={name: moved / name for name in reversed(dataset.images)},
        texts=dict(reversed(dataset.texts.items())),
        captions=dataset.captions[::-1],
    )
    assert same.fingerprint() == dataset.fingerprint()
    assert len(dataset.fingerprint()) == 32


@pytest.mark.parametrize(
    "change",
    [
        {"texts": {"cats": "a cat", "b.jpg#0": "a striped cat", "c.jpg#0": "a wolf"}},
        {"captions": (("cats", "a.jpg"),)},
        {"classes": {}},
        {"query_texts": {"q": "words"}},
        {"relevance": {"q": {"cats": 2}}},
        {"judgments": {"t2i": {"cats": {"a.jpg": 1}}}},
    ],
)
def test_the_fingerprint_changes_with_every_part(dataset, change):
    assert replace(dataset, **change).fingerprint() != dataset.fingerprint()


def test_the_fingerprint_changes_with_an_image(dataset):
    before = dataset.fingerprint()
    with dataset.images["a.jpg"].open("ab") as file:
        file.write(b"\0")
    assert dataset.fingerprint() != before
    dataset.images["a.jpg"].unlink()
    with pytest.raises(NotFoundError, match="existed when"):
        dataset.fingerprint()


def test_the_first_images_and_captions(dataset):
    small = dataset.first_images(2)
    assert list(small.images) == ["a.jpg", "b.jpg"]
    assert list(small.texts) == ["cats", "b.jpg#0"]
    single = dataset.first_captions(1)
    assert single.captions == (("cats", "a.jpg"), ("cats", "b.jpg"), ("c.jpg#0", "c.jpg"))
    assert list(single.texts) == ["cats", "c.jpg#0"]
    for refuse in (dataset.first_images, dataset.first_captions):
        with pytest.raises(UsageError):
            refuse(0)


def test_judgments_stand_in_place_of_captions_and_classes(dataset):
    judged = replace(
        dataset,
        judgments={
            "t2i": {"cats": {"a.jpg": 1, "c.jpg": 1}, "c.jpg#0": {"c.jpg": 1}},
            "t2t": {"cats": {"b.jpg#0": 1}, "b.jpg#0": {"cats": 1}},
        },
    )
    assert judged.directions == ("t2i", "t2t")
    assert judged.qrels("t2i") == judged.judgments["t2i"]
    assert judged.queries("t2i") == {"cats": "a cat", "c.jpg#0": "a dog"}
    assert list(judged.items("t2i")) == list(dataset.images)
    with pytest.raises(UsageError, match="i2t is not defined for pets"):
        judged.qrels("i2t")
    small = judged.first_images(2)
    assert small.judgments["t2i"] == {"cats": {"a.jpg": 1}}
    assert small.judgments["t2t"] == judged.judgments["t2t"]
    assert judged.first_captions(1).directions == ("t2i",)
    assert judged.without_images({"a.jpg": "too large"}).qrels("t2i")["cats"] == {"c.jpg": 1}


def test_problems_are_counted_by_kind(dataset):
    reported = dataset.without_images({"a.jpg": "too large"}, ProblemKind.MISSING_IMAGE)
    assert reported.problem_counts == {"missing image": 1}

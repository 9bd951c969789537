import json

import pytest

from benchmarks.datasets import FORMATS, load_dataset, options_of
from retrieval.errors import NotFoundError, UsageError


@pytest.fixture
def folder(tmp_path, add_images):
    add_images("images/a.jpg")
    row = {"image": "a.jpg", "split": "val", "en": ["one", "two"]}
    (tmp_path / "captions.jsonl").write_text(json.dumps(row))
    return tmp_path


def test_unknown_formats_are_listed():
    for specification in ("lmdb:somewhere", "jsonl", "jsonl:", ""):
        with pytest.raises(UsageError) as error:
            load_dataset(specification)
        assert all(name in str(error.value) for name in FORMATS)


def test_the_specification_is_kept(folder):
    specification = f"jsonl:{folder}?captions=1"
    dataset = load_dataset(specification)
    assert dataset.specification == specification
    assert (dataset.split, dataset.language) == ("val", "en")
    assert list(dataset.texts.values()) == ["one"]


@pytest.mark.parametrize("options", ["image=a", "images", "images=", "captions=1&captions=2", ""])
def test_unknown_options_are_refused(folder, options):
    with pytest.raises(UsageError, match=r"not an option of format jsonl.*images, captions"):
        load_dataset(f"jsonl:{folder}?{options}")


@pytest.mark.parametrize("count", ["many", "-1", "0", "1.5"])
def test_captions_is_a_number(folder, count):
    with pytest.raises(UsageError, match="captions"):
        load_dataset(f"jsonl:{folder}?captions={count}")


def test_values_may_be_percent_encoded_and_paths_hold_question_marks(folder):
    (folder / "images").rename(folder / "a & b")
    dataset = load_dataset(f"jsonl:{folder}?images={folder}/a %26 b")
    assert dataset.images == {"a.jpg": folder / "a & b" / "a.jpg"}
    odd = folder.rename(folder.with_name("what?captions=1"))
    (odd / "a & b").rename(odd / "images")
    assert len(load_dataset(f"jsonl:{odd}").texts) == 2


def test_beir_has_no_options():
    assert options_of("beir") == []
    assert options_of("vidore") == ["images"]
    assert options_of("karpathy") == ["images", "judgments", "threshold", "captions"]


@pytest.mark.parametrize("format_name", FORMATS)
def test_a_missing_path_is_named(format_name, tmp_path):
    if format_name in {"parquet", "vidore"}:
        pytest.importorskip("pyarrow")
    missing = tmp_path / "nowhere"
    with pytest.raises(NotFoundError, match="nowhere"):
        load_dataset(f"{format_name}:{missing}")


@pytest.mark.parametrize(
    ("format_name", "page"),
    [
        ("karpathy", "cs.stanford.edu/people/karpathy/deepimagesent"),
        ("coco", "cocodataset.org"),
        ("flickr30k-csv", "shannon.cs.illinois.edu/DenotationGraph"),
        ("beir", "github.com/beir-cellar/beir"),
        ("vidore", "huggingface.co/vidore"),
    ],
)
def test_where_public_data_is_had_is_said(format_name, page, tmp_path):
    with pytest.raises(NotFoundError, match=page):
        load_dataset(f"{format_name}:{tmp_path}")

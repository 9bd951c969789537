import json

import pytest

from benchmarks.datasets import languages_of, load_dataset
from retrieval.errors import NotFoundError, UsageError
from retrieval.media.images import read_image


@pytest.fixture
def write(tmp_path, add_images):
    add_images("images/a.jpg", "images/my cat.jpg", "images/c.jpg")

    def write_rows(*rows: dict[str, object]) -> str:
        (tmp_path / "captions.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
        return f"jsonl:{tmp_path}"

    return write_rows


ROWS = (
    {"image": "a.jpg", "split": "val", "en": ["a dog", "a hound"], "zh": ["一只狗"]},
    {"image": "my cat.jpg", "split": "val", "en": [" a cat "], "zh": ["一只猫"]},
    {"image": "c.jpg", "split": "test", "en": ["a bird"], "zh": ["一只鸟"]},
)


def test_images_texts_and_pairs(write, tmp_path):
    dataset = load_dataset(write(*ROWS), split="val")
    assert dataset.images == {
        "a.jpg": tmp_path / "images" / "a.jpg",
        "my%20cat.jpg": tmp_path / "images" / "my cat.jpg",
    }
    assert dataset.texts == {
        "a.jpg#0": "a dog",
        "a.jpg#1": "a hound",
        "my%20cat.jpg#0": "a cat",
    }
    assert dataset.qrels("i2t")["a.jpg"] == {"a.jpg#0": 1, "a.jpg#1": 1}
    assert dataset.directions == ("t2i", "i2t", "t2t")
    assert not dataset.problems
    assert dataset.name == tmp_path.name


def test_languages_and_splits(write):
    specification = write(*ROWS)
    assert load_dataset(specification).split == "test"
    assert load_dataset(specification, "val", "zh").texts["a.jpg#0"] == "一只狗"
    assert len(load_dataset(specification, "all").images) == 3
    with pytest.raises(UsageError, match=r"no split 'dev'.*val \(2\), test \(1\); or 'all'"):
        load_dataset(specification, "dev")
    with pytest.raises(UsageError, match=r"no captions in 'de'.*en, zh"):
        load_dataset(specification, "val", "de")


def test_a_split_must_be_chosen_where_none_is_the_usual_one(write):
    rows = [{**row, "split": name} for row, name in zip(ROWS, "ab", strict=False)]
    with pytest.raises(UsageError, match=r"needs a split.*a \(1\), b \(1\)"):
        load_dataset(write(*rows))


def test_without_splits(write):
    specification = write({"image": "a.jpg", "de": ["ein Hund"]})
    dataset = load_dataset(specification)
    assert (dataset.split, dataset.language) == (None, "de")
    assert dataset.directions == ("t2i", "i2t")
    with pytest.raises(UsageError, match="has no splits"):
        load_dataset(specification, "val")


def test_every_problem_is_reported(write):
    dataset = load_dataset(
        write(
            {"image": "a.jpg", "en": ["a dog", " ", "a \ud800 hound"]},
            {"image": "gone.jpg", "en": ["nobody", "nothing"]},
            {"image": "a.jpg", "en": ["a dog", "a puppy"]},
            {"image": "c.jpg", "zh": ["一只鸟"]},
        ),
        language="en",
    )
    assert [str(problem) for problem in dataset.problems] == [
        "captions.jsonl:1: empty text: a.jpg#1: left out",
        "captions.jsonl:1: text with broken characters: a.jpg#2: read with '?' in their place",
        "captions.jsonl:3: duplicate id: a.jpg again: only new captions are added",
        "c.jpg: image without text: stays among the images to be found",
        f"gone.jpg: missing image: {dataset.images['a.jpg'].parent / 'gone.jpg'} does not exist; "
        "left out together with 2 texts",
    ]
    assert dataset.texts == {"a.jpg#0": "a dog", "a.jpg#2": "a ? hound", "a.jpg#3": "a puppy"}
    assert list(dataset.images) == ["a.jpg", "c.jpg"]


def test_captions_of_further_files_are_added_by_image_name(write, tmp_path):
    specification = write(*ROWS)
    more = tmp_path / "more.jsonl"
    lines = (
        {"image": "my cat.jpg", "split": "train", "de": ["eine Katze"], "en": ["A cat.", "a tom"]},
        {"image": "c.jpg", "de": ["ein Vogel"]},
        {"image": "elsewhere.jpg", "fr": ["rien"]},
    )
    more.write_text("\n".join(map(json.dumps, lines)))
    english = load_dataset(specification, "val", extra=[more])
    assert english.texts == {
        "a.jpg#0": "a dog",
        "a.jpg#1": "a hound",
        "my%20cat.jpg#0": "a cat",
        "my%20cat.jpg#1": "a tom",
    }
    german = load_dataset(specification, "val", "de", extra=[more])
    assert german.captions == (("my%20cat.jpg#0", "my%20cat.jpg"),)
    assert german.problem_counts == {"image without text": 1}
    assert languages_of(specification, "val", [more]) == ("en", "zh", "de")
    assert languages_of(specification, "all") == ("en", "zh")
    with pytest.raises(UsageError, match=r"no captions in 'fr'.*de, en, zh"):
        load_dataset(specification, "val", "fr", extra=[more])


def test_a_further_file_that_does_not_fit_is_refused(write, tmp_path):
    specification = write(*ROWS)
    more = tmp_path / "more.jsonl"
    with pytest.raises(NotFoundError, match=r"more\.jsonl"):
        load_dataset(specification, "val", extra=[more])
    more.write_text('{"image": "elsewhere.jpg", "fr": ["rien"]}')
    with pytest.raises(UsageError, match=r"more\.jsonl has captions of no image"):
        load_dataset(specification, "val", extra=[more])
    for load in (load_dataset, languages_of):
        with pytest.raises(UsageError, match="Only datasets of format jsonl"):
            load(f"coco:{more}", extra=[more])


def test_marks_line_ends_and_blank_lines(write, tmp_path):
    write()
    text = "\r\n\r\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS)
    (tmp_path / "captions.jsonl").write_bytes(b"\xef\xbb\xbf" + text.encode() + b"\r\n")
    assert len(load_dataset(f"jsonl:{tmp_path}/captions.jsonl", "all", "zh").texts) == 3


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"image": "a.jpg", ', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"image": "\xff.jpg"}', "not UTF-8"),
        (b'["a.jpg"]', "JSON object"),
        (b'{"en": ["a dog"]}', "'image'"),
        (b'{"image": "a.jpg", "split": 1}', "'split' is not a string"),
        (b'{"image": "a.jpg", "en": ["a dog"]}', "no 'split'"),
        (b'{"image": "a.jpg", "split": "val", "en": "a dog"}', "'en' is not a list"),
        (b'{"image": "a.jpg", "split": "val", "en": ["a dog", null]}', "'en' is not a list"),
    ],
)
def test_a_bad_line_is_named(tmp_path, add_images, line, reason):
    add_images("images/a.jpg")
    good = json.dumps(ROWS[0]).encode()
    (tmp_path / "captions.jsonl").write_bytes(good + b"\n" + line)
    with pytest.raises(UsageError, match=rf"captions\.jsonl:2: .*{reason}"):
        load_dataset(f"jsonl:{tmp_path}")


@pytest.mark.parametrize("format_name", ["jsonl", "karpathy"])
@pytest.mark.parametrize("name", ["x" * 5000, "x\0.jpg", "x" * 300 + "/a.jpg", "."])
def test_names_that_no_file_can_have_are_missing_images(write, tmp_path, format_name, name):
    write(*({"image": image, "en": ["a dog"]} for image in ("a.jpg", name)))
    entries = [
        {"filename": image, "filepath": "x" * 300, "split": "test", "sentences": [{"raw": "a dog"}]}
        for image in ("a.jpg", name)
    ]
    (tmp_path / "dataset_x.json").write_text(json.dumps({"images": entries}))
    assert load_dataset(f"{format_name}:{tmp_path}").problem_counts == {"missing image": 1}


def test_an_empty_file_is_refused(write):
    with pytest.raises(UsageError, match="is empty"):
        load_dataset(write())


def test_missing_images_are_an_error_only_together(write, tmp_path):
    with pytest.raises(NotFoundError, match=r"no x\.jpg in .*images.*\?images=FOLDER"):
        load_dataset(write({"image": "x.jpg", "en": ["a dog"]}))
    with pytest.raises(NotFoundError, match="elsewhere"):
        load_dataset(write(*ROWS) + f"?images={tmp_path}/elsewhere", "val")


@pytest.mark.parametrize(("language", "first"), [("en", "A child and a woman"), ("zh", "在水边观")])
def test_flickr8k_as_shared(shared_data, language, first):
    dataset = load_dataset(f"jsonl:{shared_data / 'flickr8k'}", "val", language)
    assert (len(dataset.images), len(dataset.texts)) == (1000, 5000)
    assert dataset.problem_counts == {}
    assert next(iter(dataset.texts.values())).startswith(first)
    assert len(dataset.qrels("t2i")) == 5000
    assert {len(texts) for texts in dataset.qrels("i2t").values()} == {5}
    assert {len(texts) for texts in dataset.qrels("t2t").values()} == {4}


def test_imagenet_samples_as_shared(shared_data):
    dataset = load_dataset(f"jsonl:{shared_data / 'imagenet-samples'}")
    assert (len(dataset.images), len(dataset.texts), dataset.split) == (500, 500, "val")
    assert dataset.directions == ("t2i", "i2t")
    assert all(read_image(path) for path in list(dataset.images.values())[:8])

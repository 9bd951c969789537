"""Annotation files: which is meant, how it is decoded, where it is wrong."""

import pytest

from benchmarks.datasets.annotations import (
    annotation_file,
    choose_split,
    image_folder,
    in_split,
    numbered_lines,
    only_language,
    read_json,
    read_json_lines,
    read_text,
)
from retrieval.errors import NotFoundError, UsageError


def test_the_first_pattern_that_a_file_has_decides(tmp_path):
    for name in ("b.json", "captions_x.json", "other.txt"):
        (tmp_path / name).touch()
    patterns = ["captions_*.json", "*.json"]
    assert annotation_file(tmp_path, patterns, "") == tmp_path / "captions_x.json"
    assert annotation_file(tmp_path / "b.json", patterns, "") == tmp_path / "b.json"
    with pytest.raises(UsageError, match=r"several annotation files: b\.json, captions_x\.json"):
        annotation_file(tmp_path, ["*.json"], "")
    with pytest.raises(NotFoundError, match=r"holds no \*\.csv or \*\.tsv\. Get it"):
        annotation_file(tmp_path, ["*.csv", "*.tsv"], "Get it.")


def test_the_folder_is_the_first_that_has_an_image(tmp_path, add_images):
    add_images("images/a.jpg", "more/b.jpg")
    candidates = [tmp_path / "nowhere", tmp_path / "more", tmp_path / "images"]
    assert image_folder(None, candidates, ["gone.jpg", "a.jpg"], "") == tmp_path / "images"
    assert image_folder(str(tmp_path / "more"), [], ["b.jpg"], "") == tmp_path / "more"
    with pytest.raises(NotFoundError, match=r"no b\.jpg in .*images\. Get them.*images=FOLDER"):
        image_folder(str(tmp_path / "images"), candidates, ["b.jpg"], "Get them.")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_byte_order_mark_says_the_encoding(tmp_path, encoding):
    (tmp_path / "a.txt").write_text("été 雪", encoding=encoding)
    assert read_text(tmp_path / "a.txt") == "été 雪"


def test_the_line_that_cannot_be_decoded_is_named(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"one\ntwo\n\xe9t\xe9\n")
    with pytest.raises(UsageError, match=r"a\.txt:3: not utf-8\. Try cp1252"):
        read_text(tmp_path / "a.txt", way_out="Try cp1252.")
    assert read_text(tmp_path / "a.txt", "latin-1").endswith("été\n")
    with pytest.raises(UsageError, match="Unknown encoding 'klingon'"):
        read_text(tmp_path / "a.txt", "klingon")


def test_lines_end_only_where_lines_end():
    text = "one\u2028still one\r\n\n  \rfour\n"
    assert list(numbered_lines(text)) == [(1, "one\u2028still one"), (4, "four")]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"a":\n1,}', r"a\.json:2: not JSON"),
        ("[1]", "expected a JSON object, found list"),
        ("[" * 100_000, "not JSON that can be read"),
    ],
)
def test_what_is_no_object_is_refused(tmp_path, content, reason):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(UsageError, match=reason):
        read_json(tmp_path / "a.json")


def test_lines_of_json_are_numbered_past_blank_ones(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_bytes(b'\xef\xbb\xbf{"a": 1}\n\n{"a": 2}\r\n[]\n')
    lines = read_json_lines(file)
    assert [next(lines), next(lines)] == [("a.jsonl:1", {"a": 1}), ("a.jsonl:3", {"a": 2})]
    with pytest.raises(UsageError, match=r"a\.jsonl:4: expected a JSON object"):
        next(lines)


def test_the_split_is_the_only_one_or_the_usual_one(tmp_path):
    sizes = {"train": 9, "val": 2, "test": 3}
    assert choose_split(sizes, None, tmp_path) == "test"
    assert choose_split({"val": 2}, None, tmp_path) == "val"
    assert choose_split(sizes, "all", tmp_path) == "all"
    assert choose_split({}, None, tmp_path) is None
    with pytest.raises(UsageError, match=r"no split 'dev'.*train \(9\), val \(2\)"):
        choose_split(sizes, "dev", tmp_path)
    with pytest.raises(UsageError, match="needs a split"):
        choose_split({"train": 9, "val": 2}, None, tmp_path)
    with pytest.raises(UsageError, match="has no splits"):
        choose_split({}, "val", tmp_path)
    assert [in_split("val", chosen) for chosen in (None, "all", "val", "test")] == [
        *(True, True, True),
        False,
    ]


def test_a_language_that_is_not_there_is_refused(tmp_path):
    assert only_language(None, "en", tmp_path) == only_language("en", "en", tmp_path) == "en"
    with pytest.raises(UsageError, match="is in 'en' only"):
        only_language("de", "en", tmp_path)
    with pytest.raises(UsageError, match="does not name languages"):
        only_language("de", None, tmp_path)

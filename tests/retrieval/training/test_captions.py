import gzip
import json
from pathlib import Path

import pytest

from retrieval.errors import NotFoundError, UsageError
from retrieval.training.captions import (
    digest_of_photos,
    digest_of_texts,
    read_captioned_photos,
    read_parallel,
)


def test_reads_one_split_in_order(dataset: Path) -> None:
    photos = read_captioned_photos(dataset, "val")
    assert [photo.path.name for photo in photos][:2] == ["red-square-val.png", "red-stripe-val.png"]
    assert photos[0].captions == ("a red square", "a picture of a square that is red")
    assert photos[0].languages == ("en", "en")


def test_no_listing_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"captions\.jsonl"):
        read_captioned_photos(tmp_path, "train")


def test_a_missing_photo_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "captions.jsonl").write_text('{"image": "a.jpg", "split": "train", "en": ["a"]}')
    with pytest.raises(NotFoundError, match=r"captions\.jsonl:1 names .*a\.jpg"):
        read_captioned_photos(tmp_path, "train")


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"split": "train"}', '{"image": 3, "split": "train"}']
)
def test_a_malformed_line_is_an_error(tmp_path: Path, line: str) -> None:
    (tmp_path / "captions.jsonl").write_text(line)
    with pytest.raises(UsageError, match=r"captions\.jsonl:1"):
        read_captioned_photos(tmp_path, "train")


def test_an_unknown_split_or_language_is_an_error(dataset: Path) -> None:
    with pytest.raises(UsageError, match="'test'"):
        read_captioned_photos(dataset, "test")
    with pytest.raises(UsageError, match="captions in: fr"):
        read_captioned_photos(dataset, "val", ("fr",))


def test_captions_of_further_files_are_added_by_image_name(dataset: Path, tmp_path: Path) -> None:
    more = tmp_path / "more"
    more.mkdir()
    lines = [
        {"image": "red-square-val.png", "split": "train", "de": ["ein rotes Quadrat"]},
        {"image": "red-square-val.png", "en": ["A red square .", "a crimson box"]},
        {"image": "elsewhere.png", "de": ["kein Bild"]},
    ]
    (more / "captions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    for extra in (more, more / "captions.jsonl"):
        first, second, *_ = read_captioned_photos(dataset, "val", ("de", "en"), [extra])
        assert first.captions == (
            "ein rotes Quadrat",
            "a red square",
            "a picture of a square that is red",
            "a crimson box",
        )
        assert second == read_captioned_photos(dataset, "val")[1]
        assert len(read_captioned_photos(dataset, "val", ("de",), [extra])) == 1
        # The dataset's own split decides.
        with pytest.raises(UsageError, match="captions in: de"):
            read_captioned_photos(dataset, "train", ("de",), [extra])


def test_a_further_file_that_does_not_fit_is_an_error(dataset: Path, tmp_path: Path) -> None:
    file = tmp_path / "more.jsonl"
    with pytest.raises(NotFoundError, match=r"more\.jsonl"):
        read_captioned_photos(dataset, "val", extra=[file])
    file.write_text('{"image": "elsewhere.png", "de": ["kein Bild"]}')
    with pytest.raises(UsageError, match=r"more\.jsonl has captions of no photo"):
        read_captioned_photos(dataset, "val", extra=[file])
    file.write_text("\n[]")
    with pytest.raises(UsageError, match=r"more\.jsonl:2"):
        read_captioned_photos(dataset, "val", extra=[file])


def test_the_digest_follows_bytes_and_order(dataset: Path) -> None:
    photos = read_captioned_photos(dataset, "val")
    assert digest_of_photos(photos) == digest_of_photos(list(photos))
    assert digest_of_photos(photos) != digest_of_photos(photos[::-1])


def test_parallel_sentences_are_read_from_any_lines_with_two_languages(tmp_path: Path) -> None:
    rows = [
        {"en": "a dog", "de": "ein Hund", "fr": "un chien"},
        {"image": "a.jpg", "split": "train", "en": ["a cat", "cats"], "de": ["eine Katze"]},
        {"image": "b.jpg", "split": "val", "en": ["a cow"], "de": ["eine Kuh"]},
        {"en": "alone", "de": []},
    ]
    lines = "\n".join(map(json.dumps, rows))
    (tmp_path / "a.jsonl").write_text(lines)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    expected = [{"de": "ein Hund", "en": "a dog"}, {"de": "eine Katze", "en": "a cat"}]
    for name in ("a.jsonl", "a.jsonl.gz"):
        assert read_parallel(tmp_path / name, ["de", "en"]) == expected


@pytest.mark.parametrize("line", ["[1]", '{"en": 1, "de": "a"}', '{"en": "a"}', "no json"])
def test_lines_without_parallel_sentences_are_errors(tmp_path: Path, line: str) -> None:
    (tmp_path / "a.jsonl").write_text(line)
    with pytest.raises(UsageError, match=r"a\.jsonl"):
        read_parallel(tmp_path / "a.jsonl", ["de", "en"])
    with pytest.raises(NotFoundError, match="nowhere"):
        read_parallel(tmp_path / "nowhere", ["de", "en"])


def test_texts_with_line_breaks_are_not_taken_for_others() -> None:
    texts = (["a", "b"], ["a\nb"], ["a\\nb"], ["b", "a"])
    assert len({digest_of_texts(each) for each in texts}) == len(texts)

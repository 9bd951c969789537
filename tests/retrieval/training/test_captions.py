from pathlib import Path

import pytest

from retrieval.errors import NotFoundError, UsageError
from retrieval.training.captions import digest_of_photos, read_captioned_photos


def test_reads_one_split_in_order(dataset: Path) -> None:
    photos = read_captioned_photos(dataset, "val")
    assert [photo.path.name for photo in photos][:2] == ["red-square-val.png", "red-stripe-val.png"]
    assert photos[0].captions == ("a red square", "a picture of a square that is red")


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


def test_the_digest_follows_bytes_and_order(dataset: Path) -> None:
    photos = read_captioned_photos(dataset, "val")
    assert digest_of_photos(photos) == digest_of_photos(list(photos))
    assert digest_of_photos(photos) != digest_of_photos(photos[::-1])

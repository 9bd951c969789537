from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retrieval.encoders.base import Encoder
from retrieval.errors import UsageError
from retrieval.media import Modality
from retrieval.training import tokens
from retrieval.training.augmentation import variant_of
from retrieval.training.captions import CaptionedPhoto, read_captioned_photos
from retrieval.training.tokens import caption_tokens, caption_words, photo_tokens

CAPTIONS = ["a dog runs over the wet sand", "snow", "two men in a boat", "a cat", "雪の中の犬", ""]


@pytest.fixture
def few(dataset: Path) -> list[CaptionedPhoto]:
    return read_captioned_photos(dataset, "train")[:5]


def stop_at(row: int) -> Callable[[str, int, int], None]:
    def stop(_: str, done: int, __: int) -> None:
        if done >= row:
            raise KeyboardInterrupt

    return stop


def recorder(steps: list[int]) -> Callable[[str, int, int], None]:
    return lambda _, done, __: steps.append(done)


def files(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_photo_tokens_are_the_encoders(
    few: list[CaptionedPhoto], tiny_encoder: Encoder, tmp_path: Path
) -> None:
    cached = photo_tokens(few, tiny_encoder, variants=3, cache=tmp_path)
    assert cached.values.shape == (3, 5, 16, 64)
    assert cached.values.dtype == np.float16
    for variant in range(3):
        for number, photo in enumerate(few):
            with Image.open(photo.path) as image:
                seen = variant_of(image.convert("RGB"), variant, [number])
            pixels = tiny_encoder.preprocess(seen)[np.newaxis]
            direct = tiny_encoder.image_tokens(pixels).values[0]
            np.testing.assert_allclose(cached.values[variant, number], direct, atol=5e-3)
            if variant == 0:
                vector = tiny_encoder.encode(Modality.IMAGE, pixels)[0]
                np.testing.assert_allclose(cached.vectors[number], vector, atol=1e-3)


@pytest.mark.parametrize("row", [2, 4, 5, 7, 10])
def test_interrupted_photo_tokens_go_on_where_they_stopped(
    row: int,
    few: list[CaptionedPhoto],
    tiny_encoder: Encoder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tokens, "PHOTO_BATCH", 2)
    steps: list[int] = []
    whole = photo_tokens(
        few, tiny_encoder, variants=2, cache=tmp_path / "whole", on_progress=recorder(steps)
    )
    assert steps == [2, 4, 5, 7, 9, 10]
    with pytest.raises(KeyboardInterrupt):
        photo_tokens(
            few, tiny_encoder, variants=2, cache=tmp_path / "cut", on_progress=stop_at(row)
        )
    rest: list[int] = []
    resumed = photo_tokens(
        few, tiny_encoder, variants=2, cache=tmp_path / "cut", on_progress=recorder(rest)
    )
    assert rest == [step for step in steps if step > row]
    np.testing.assert_array_equal(resumed.values, whole.values)
    np.testing.assert_array_equal(resumed.vectors, whole.vectors)


def test_a_finished_cache_is_read_and_left_alone(
    few: list[CaptionedPhoto], tiny_encoder: Encoder, tmp_path: Path
) -> None:
    photo_tokens(few, tiny_encoder, variants=2, cache=tmp_path)
    caption_tokens(CAPTIONS, tiny_encoder, cache=tmp_path)
    before = files(tmp_path)
    assert len(before) == 6
    steps: list[int] = []
    photo_tokens(few, tiny_encoder, variants=2, cache=tmp_path, on_progress=recorder(steps))
    caption_tokens(CAPTIONS, tiny_encoder, cache=tmp_path, on_progress=recorder(steps))
    assert not steps
    assert files(tmp_path) == before


def test_more_variants_are_added_and_fewer_are_a_part(
    few: list[CaptionedPhoto], tiny_encoder: Encoder, tmp_path: Path
) -> None:
    one = np.array(photo_tokens(few, tiny_encoder, variants=1, cache=tmp_path).values)
    steps: list[int] = []
    three = photo_tokens(few, tiny_encoder, variants=3, cache=tmp_path, on_progress=recorder(steps))
    assert steps == [10, 15]
    np.testing.assert_array_equal(three.values[0], one[0])
    assert len({three.values[variant].tobytes() for variant in range(3)}) == 3
    two = photo_tokens(few, tiny_encoder, variants=2, cache=tmp_path, on_progress=recorder(steps))
    assert steps == [10, 15]
    np.testing.assert_array_equal(two.values, three.values[:2])
    assert len(list(tmp_path.iterdir())) == 1


def test_other_photos_and_other_captions_have_other_caches(
    few: list[CaptionedPhoto], tiny_encoder: Encoder, tmp_path: Path
) -> None:
    photo_tokens(few[:2], tiny_encoder, variants=1, cache=tmp_path)
    photo_tokens(few[1::-1], tiny_encoder, variants=1, cache=tmp_path)
    caption_tokens(CAPTIONS, tiny_encoder, cache=tmp_path)
    caption_tokens(CAPTIONS[::-1], tiny_encoder, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 4


def test_a_line_break_does_not_make_two_captions_of_one(
    tiny_encoder: Encoder, tmp_path: Path
) -> None:
    for captions in (["a dog\na cat", "snow"], ["a dog", "a cat\nsnow"]):
        cached = caption_tokens(captions, tiny_encoder, cache=tmp_path)
        expected = tiny_encoder.encode(Modality.TEXT, captions)
        np.testing.assert_allclose(cached.vectors, expected, atol=1e-3)


def test_caption_tokens_are_the_encoders(tiny_encoder: Encoder, tmp_path: Path) -> None:
    cached = caption_tokens([*CAPTIONS, "dog " * 40], tiny_encoder, cache=tmp_path)
    np.testing.assert_array_equal(cached.lengths[:4], [9, 3, 7, 4])
    assert cached.lengths[-1] == tiny_encoder.context_length == 16
    vectors = tiny_encoder.encode(Modality.TEXT, CAPTIONS)
    np.testing.assert_allclose(cached.vectors[:-1], vectors, atol=1e-3)
    for row, text in enumerate(CAPTIONS):
        direct = tiny_encoder.text_tokens([text])
        values, mask = cached.batch(np.array([row]))
        assert mask.all()
        np.testing.assert_allclose(values[0], direct.values[direct.mask], atol=5e-3)


def test_batches_are_padded_on_the_right_with_zeros(tiny_encoder: Encoder, tmp_path: Path) -> None:
    cached = caption_tokens(CAPTIONS, tiny_encoder, cache=tmp_path)
    rows = np.array([1, 0, 5, 1])
    values, mask = cached.batch(rows)
    assert values.shape == (4, 9, 32)
    assert mask.sum(1).tolist() == cached.lengths[rows].tolist() == [3, 9, 2, 3]
    assert (values[~mask] == 0).all()
    for place, row in enumerate(rows):
        alone, _ = cached.batch(np.array([row]))
        np.testing.assert_array_equal(values[place, : alone.shape[1]], alone[0])
        assert mask[place, : alone.shape[1]].all()


@pytest.mark.parametrize("row", [2, 4, 6])
def test_interrupted_caption_tokens_go_on_where_they_stopped(
    row: int, tiny_encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "CAPTION_BATCH", 2)
    whole = caption_tokens(CAPTIONS, tiny_encoder, cache=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        caption_tokens(CAPTIONS, tiny_encoder, cache=tmp_path / "cut", on_progress=stop_at(row))
    steps: list[int] = []
    resumed = caption_tokens(
        CAPTIONS, tiny_encoder, cache=tmp_path / "cut", on_progress=recorder(steps)
    )
    assert steps == list(range(row + 2, 7, 2))
    np.testing.assert_array_equal(resumed.values, whole.values)
    np.testing.assert_array_equal(resumed.vectors, whole.vectors)
    np.testing.assert_array_equal(resumed.offsets, whole.offsets)


def test_a_photo_that_cannot_be_decoded_is_named(tmp_path: Path, tiny_encoder: Encoder) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    photo = CaptionedPhoto(broken, ("a",))
    with pytest.raises(UsageError, match=r"broken\.jpg"):
        photo_tokens([photo], tiny_encoder, variants=1, cache=tmp_path / "cache")


def test_words_of_captions_are_numbered_where_their_tokens_are(
    tiny_encoder: Encoder, tmp_path: Path
) -> None:
    captions = ["a dog, a red ball", "The Dog sleeps", "", "the ball"]
    cached = caption_tokens(captions, tiny_encoder, cache=tmp_path)
    words = caption_words(captions, tiny_encoder, cached.offsets)
    assert words.vocabulary == ("a", "ball", "dog", "the")
    expected = [["a", "dog", None, "a", None, "ball"], ["the", "dog", None], [], ["the", "ball"]]
    rows = np.array([3, 0, 2, 1])
    ids = words.batch(rows)
    assert ids.shape == cached.batch(rows)[1].shape
    for row, numbers in zip(rows, ids.tolist(), strict=True):
        length = int(cached.lengths[row])
        told = [words.vocabulary[number] if number >= 0 else None for number in numbers]
        assert told[:length] == [None, *expected[row], None]
        assert set(told[length:]) <= {None}


def test_captions_of_words_that_stand_once_have_nothing_to_learn(
    tiny_encoder: Encoder, tmp_path: Path
) -> None:
    captions = ["red", "blue ball"]
    offsets = caption_tokens(captions, tiny_encoder, cache=tmp_path).offsets
    with pytest.raises(UsageError, match="occurs twice"):
        caption_words(captions, tiny_encoder, offsets)

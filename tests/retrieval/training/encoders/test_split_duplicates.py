import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retrieval.encoders.base import Encoder
from retrieval.encoders.registry import load_encoder
from retrieval.errors import UsageError
from retrieval.training.captions import CaptionedPhoto, read_captioned_photos
from retrieval.training.encoders.split_duplicates import (
    SplitDuplicate,
    describe_duplicates,
    find_split_duplicates,
    without_duplicates,
)


def photos_of(*paths: Path) -> list[CaptionedPhoto]:
    return [CaptionedPhoto(path, ("a photo",)) for path in paths]


@pytest.fixture
def draw(tmp_path: Path) -> Callable[[str, int], Path]:
    def draw(name: str, seed: int) -> Path:
        noise = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((32, 32)).save(tmp_path / name)
        return tmp_path / name

    return draw


def test_copies_are_found_across_the_splits_only(
    draw: Callable[[str, int], Path], tiny_encoder: Encoder, tmp_path: Path
) -> None:
    training = photos_of(draw("a.png", 1), draw("a-again.png", 1), draw("b.png", 2))
    measured = photos_of(draw("a-val.png", 1), draw("c.png", 3), draw("c-again.png", 3))
    (tmp_path / "damaged.png").write_bytes(b"no image")
    (tmp_path / "damaged-val.png").write_bytes(b"no image")
    training += photos_of(tmp_path / "damaged.png", tmp_path / "gone.png")
    measured += photos_of(tmp_path / "damaged-val.png", tmp_path / "gone.png")
    found = find_split_duplicates(
        training, measured, tiny_encoder, threshold=0.9999, cache=tmp_path / "cache"
    )
    names = [(pair.training.name, pair.measured.name) for pair in found]
    assert names == [("a.png", "a-val.png"), ("a-again.png", "a-val.png")]
    assert found[0].similarity == pytest.approx(1, abs=1e-4)
    left = [photo.path.name for photo in without_duplicates(training, found)]
    assert left == ["b.png", "damaged.png", "gone.png"]


def test_vectors_are_computed_once(
    draw: Callable[[str, int], Path], tiny_encoder: Encoder, tmp_path: Path
) -> None:
    training, measured = photos_of(draw("a.png", 1)), photos_of(draw("b.png", 1))
    stages: list[str] = []

    def find() -> list[SplitDuplicate]:
        stages.clear()
        return find_split_duplicates(
            training,
            measured,
            tiny_encoder,
            cache=tmp_path / "cache",
            on_progress=lambda stage, *_: stages.append(stage),
        )

    first = find()
    assert "vectors for duplicates" in stages
    assert find() == first
    assert "vectors for duplicates" not in stages
    draw("b.png", 2)
    find()
    assert "vectors for duplicates" in stages


@pytest.mark.slow
def test_copies_of_photos_are_found_and_other_photos_are_not(
    shared_data: Path, tmp_path: Path
) -> None:
    folder = shared_data / "flickr8k"
    training = read_captioned_photos(folder, "train")[:24]
    measured = read_captioned_photos(folder, "val")[:16]
    with Image.open(training[3].path) as image:
        image.resize((180, 180)).save(tmp_path / "smaller.jpg", quality=70)
    shutil.copy(training[5].path, tmp_path / "same.jpg")
    measured += photos_of(tmp_path / "smaller.jpg", tmp_path / "same.jpg")
    found = find_split_duplicates(
        training, measured, load_encoder("starter"), cache=tmp_path / "cache"
    )
    assert {(pair.training, pair.measured.name) for pair in found} == {
        (training[3].path, "smaller.jpg"),
        (training[5].path, "same.jpg"),
    }


def test_no_photos_have_no_duplicates(tiny_encoder: Encoder, tmp_path: Path) -> None:
    photos = photos_of(tmp_path / "gone.png")
    assert find_split_duplicates([], photos, tiny_encoder, cache=tmp_path) == []
    assert find_split_duplicates(photos, [], tiny_encoder, cache=tmp_path) == []
    assert find_split_duplicates(photos, photos, tiny_encoder, cache=tmp_path) == []


def test_nothing_left_is_an_error() -> None:
    pair = SplitDuplicate(1.0, Path("a.png"), Path("b.png"))
    with pytest.raises(UsageError, match="are the splits the same"):
        without_duplicates(photos_of(Path("a.png")), [pair])


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_a_threshold_out_of_range_is_an_error(
    threshold: float, tiny_encoder: Encoder, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="cosine between 0 and 1"):
        find_split_duplicates([], [], tiny_encoder, threshold=threshold, cache=tmp_path)


def test_the_warning_names_the_most_similar_pairs() -> None:
    pairs = [SplitDuplicate(1 - n / 100, Path(f"a{n}"), Path(f"b{n}")) for n in range(7)]
    text = describe_duplicates(pairs, left_out=False)
    assert text.startswith("7 training photos are near-duplicates")
    assert "1.000  a0  b0" in text
    assert text.endswith("and 2 pairs more")
    assert "a5" not in text
    assert "left out" in describe_duplicates(pairs, left_out=True)
    assert describe_duplicates([], left_out=True) == ""

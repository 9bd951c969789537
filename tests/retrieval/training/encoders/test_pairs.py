from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from retrieval.errors import UsageError
from retrieval.training.captions import CaptionedPhoto
from retrieval.training.encoders.pairs import (
    DamagedImages,
    PhotoPairs,
    PhotoSet,
    TrainingPair,
    decoded_batches,
)


def photos_at(folder: Path, count: int, captions: int = 2) -> list[CaptionedPhoto]:
    return [
        CaptionedPhoto(folder / f"{n}.png", tuple(f"{n}-{c}" for c in range(captions)))
        for n in range(count)
    ]


def written(photos: Sequence[CaptionedPhoto]) -> Sequence[CaptionedPhoto]:
    for number, photo in enumerate(photos):
        Image.new("RGB", (4, 4), (number, 0, 0)).save(photo.path)
    return photos


def drawn(source: PhotoPairs, epoch: int = 0, size: int = 1, **part: int) -> list[list[str]]:
    return [[pair.caption for pair in batch] for batch in source.batches(epoch, size, **part)]


def flat(batches: Sequence[Sequence[str]]) -> list[str]:
    return [caption for batch in batches for caption in batch]


def photo_of(caption: str) -> int:
    return int(caption.partition("-")[0])


def redness(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image))[0, 0, :1]


@pytest.mark.parametrize("size", [3, 7, 20])
def test_an_epoch_draws_each_caption_once_and_no_photo_twice_in_a_batch(
    tmp_path: Path, size: int
) -> None:
    source = PhotoPairs([PhotoSet(photos_at(tmp_path, 20, captions=3))], seed=4)
    batches = drawn(source, size=size)
    assert source.size == 60
    assert [len(batch) for batch in batches] == [size] * (60 // size)
    assert max(Counter(flat(batches)).values()) == 1
    for batch in batches:
        assert len(set(map(photo_of, batch))) == size


def test_batches_are_the_same_for_a_seed_and_an_epoch_only(tmp_path: Path) -> None:
    sets = [PhotoSet(photos_at(tmp_path, 20))]
    assert drawn(PhotoPairs(sets, seed=1), 3) == drawn(PhotoPairs(sets, seed=1), 3)
    assert drawn(PhotoPairs(sets, seed=1), 3) != drawn(PhotoPairs(sets, seed=1), 4)
    assert drawn(PhotoPairs(sets, seed=1), 3) != drawn(PhotoPairs(sets, seed=2), 3)


def test_processes_get_parts_of_the_same_batches(tmp_path: Path) -> None:
    source = PhotoPairs([PhotoSet(photos_at(tmp_path, 11))])
    whole = drawn(source, 5, 6)
    parts = [drawn(source, 5, 6, rank=rank, world=3) for rank in range(3)]
    for number, batch in enumerate(whole):
        assert sorted(batch) == sorted(flat([part[number] for part in parts]))
        assert {len(part[number]) for part in parts} == {2}
    with pytest.raises(UsageError, match="cannot be divided among 4"):
        drawn(source, 0, 6, rank=0, world=4)
    with pytest.raises(UsageError, match="no process 3 of 3"):
        drawn(source, 0, 6, rank=3, world=3)


def test_few_photos_come_twice_rather_than_make_a_smaller_batch(tmp_path: Path) -> None:
    source = PhotoPairs([PhotoSet(photos_at(tmp_path, 3, captions=4))])
    assert [len(batch) for batch in drawn(source, 0, 6)] == [6, 6]
    assert [len(batch) for batch in drawn(source, 0, 100)] == [12]
    assert [len(batch) for batch in drawn(source, 0, 100, rank=0, world=5)] == [2]
    with pytest.raises(UsageError, match="too few for 13"):
        drawn(source, 0, 130, rank=0, world=13)


def test_one_caption_of_each_photo_is_another_one_in_another_epoch(tmp_path: Path) -> None:
    source = PhotoPairs([PhotoSet(photos_at(tmp_path, 8, captions=5))], captions_a_photo=1)
    epochs = [flat(drawn(source, epoch)) for epoch in range(30)]
    for epoch in epochs:
        assert sorted(map(photo_of, epoch)) == list(range(8))
    assert len({caption for epoch in epochs for caption in epoch}) == 40


def test_weights_are_shares_of_the_pairs(tmp_path: Path) -> None:
    photos = photos_at(tmp_path, 40)
    source = PhotoPairs([PhotoSet(photos[:30], 1), PhotoSet(photos[30:], 3)])
    counts = Counter(map(photo_of, flat(drawn(source))))
    assert sum(counts[n] for n in range(30)) == pytest.approx(20, abs=1)
    assert sum(counts[n] for n in range(30, 40)) == pytest.approx(60, abs=1)
    assert {counts[n] for n in range(30, 40)} <= {5, 6, 7}
    with pytest.raises(UsageError, match="every dataset, or to none"):
        PhotoPairs([PhotoSet(photos[:30]), PhotoSet(photos[30:], 3)])


@pytest.mark.parametrize(("balance", "share"), [(0.0, 0.9), (0.5, 0.75), (1.0, 0.5)])
def test_balance_draws_a_class_by_a_power_of_its_size(
    tmp_path: Path, balance: float, share: float
) -> None:
    classes = ["many"] * 36 + ["few"] * 4
    source = PhotoPairs([PhotoSet(photos_at(tmp_path, 40), classes=classes)], balance=balance)
    assert source.size == 80
    names = [classes[photo_of(caption)] for caption in flat(drawn(source))]
    assert Counter(names)["many"] / 80 == pytest.approx(share, abs=1.5 / 80)


def test_neighbours_share_batches_and_an_epoch_is_still_each_caption_once(tmp_path: Path) -> None:
    photos = photos_at(tmp_path, 40, captions=1)
    source = PhotoPairs(
        [PhotoSet(photos)], neighbours=lambda photo: [photo, photo ^ 1, photo ^ 2], hard_negatives=1
    )
    batches = drawn(source, 0, 8)
    assert sorted(map(photo_of, flat(batches))) == list(range(40))
    for batch in batches:
        numbers = set(map(photo_of, batch))
        assert numbers == {number ^ 1 for number in numbers}
    apart = drawn(PhotoPairs([PhotoSet(photos)]), 0, 8)
    assert any({photo_of(c) ^ 1 for c in batch} != set(map(photo_of, batch)) for batch in apart)


def test_augmentations_get_seeds_that_only_variants_and_epochs_change(tmp_path: Path) -> None:
    written(photos := photos_at(tmp_path, 4, captions=1))

    def tint(image: Image.Image, seed: int, captions: Sequence[str]) -> Image.Image:
        (caption,) = captions
        assert image.getpixel((0, 0)) == (photo_of(caption), 0, 0)
        return Image.new("RGB", (1, 1), (0, seed % 256, seed // 256 % 256))

    def name(captions: Sequence[str], chosen: int, seed: int) -> str:
        return f"{captions[chosen]}/{seed}"

    source = PhotoPairs([PhotoSet(photos)], augment_image=tint, augment_text=name, variants=2)

    def variants(epoch: int) -> dict[str, tuple[int, object, str]]:
        pairs = [pair for batch in source.batches(epoch, 2) for pair in batch]
        return {p.image: (p.variant, p.open().getpixel((0, 0)), p.caption) for p in pairs}

    first, second, third = (variants(epoch) for epoch in range(3))
    for image, (variant, color, caption) in first.items():
        assert (variant, color) == third[image][:2]
        assert second[image][0] == 1
        assert second[image][1] != color
        assert len({caption, second[image][2], third[image][2]}) == 3


def test_the_digest_changes_with_what_the_batches_depend_on(tmp_path: Path) -> None:
    written(photos := photos_at(tmp_path, 4))
    sources = [
        PhotoPairs([PhotoSet(photos)]),
        PhotoPairs([PhotoSet(photos)], seed=1),
        PhotoPairs([PhotoSet(photos[:3])]),
        PhotoPairs([PhotoSet(photos[::-1])]),
        PhotoPairs([PhotoSet(photos[:2], 1), PhotoSet(photos[2:], 2)]),
        PhotoPairs([PhotoSet(photos)], captions_a_photo=1),
        PhotoPairs([PhotoSet(photos)], neighbours=lambda photo: [1 - photo]),
        PhotoPairs([PhotoSet([*photos[:3], CaptionedPhoto(photos[3].path, ("another",))])]),
    ]
    digests = [source.digest for source in sources]
    assert len(set(digests)) == len(digests)
    Image.new("RGB", (40, 40)).save(photos[0].path)
    assert sources[0].digest not in digests


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_batches_are_decoded_and_damaged_images_noted(tmp_path: Path, workers: int) -> None:
    written(photos := photos_at(tmp_path, 8, captions=1))
    photos[3].path.write_bytes(b"no image")
    photos[5].path.unlink()
    damaged = DamagedImages()
    source = PhotoPairs([PhotoSet(photos)], seed=2)
    state = torch.get_rng_state()
    batches = list(decoded_batches(source, 0, 4, redness, workers=workers, damaged=damaged))
    assert torch.equal(torch.get_rng_state(), state)
    assert [len(batch.images) for batch in batches] == [4, 4]
    for batch in batches:
        assert batch.images[:, 0].tolist() == [photo_of(caption) for caption in batch.captions]
        assert list(batch.ids) == [str(photos[photo_of(c)].path) for c in batch.captions]
        for a in range(4):
            for b in range(4):
                assert (batch.groups[a] == batch.groups[b]) == (batch.ids[a] == batch.ids[b])
    seen = {photo_of(caption) for batch in batches for caption in batch.captions}
    assert seen == set(range(8)) - {3, 5}
    assert len(damaged) == 2
    assert "3.png" in str(damaged)
    assert "5.png" in str(damaged)


def test_only_the_first_reasons_are_kept(tmp_path: Path) -> None:
    photos = photos_at(tmp_path, 20, captions=1)
    written(photos[:2])
    damaged = DamagedImages()
    list(decoded_batches(PhotoPairs([PhotoSet(photos)]), 0, 20, redness, damaged=damaged))
    assert len(damaged) == 18
    assert str(damaged).endswith("; and 13 more")
    assert str(DamagedImages()) == ""


def test_a_batch_without_a_readable_image_is_an_error(tmp_path: Path) -> None:
    source = PhotoPairs([PhotoSet(photos_at(tmp_path, 4))])
    with pytest.raises(UsageError, match=r"None of the 2 images of a batch can be read.*\.png"):
        list(decoded_batches(source, 0, 2, redness))


def test_a_pair_of_no_source_is_as_good(tmp_path: Path) -> None:
    class One:
        size = None
        digest = ""

        def batches(self, epoch: int, batch_size: int, **_: int) -> list[list[TrainingPair]]:
            return [[TrainingPair("a", "red", lambda: Image.new("RGB", (1, 1), (epoch, 0, 0)))]]

    [batch] = decoded_batches(One(), 7, 1, redness)  # type: ignore[arg-type]
    assert batch.images.tolist() == [[7]]


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"balance": 1.5}, "balance must be from 0 to 1"),
        ({"balance": 0.5}, "needs a dataset with classes"),
        ({"captions_a_photo": 0}, "captions_a_photo must be at least 1"),
        ({"variants": 0}, "variants must be at least 1"),
        ({"hard_negatives": 0}, "hard_negatives must be at least 1"),
    ],
)
def test_a_setting_out_of_range_is_an_error(
    tmp_path: Path, settings: dict[str, float], reason: str
) -> None:
    with pytest.raises(UsageError, match=reason):
        PhotoPairs([PhotoSet(photos_at(tmp_path, 2))], **settings)  # type: ignore[arg-type]


def test_a_dataset_that_cannot_be_trained_on_is_an_error(tmp_path: Path) -> None:
    photos = photos_at(tmp_path, 2)
    with pytest.raises(UsageError, match="no photo"):
        PhotoPairs([PhotoSet([])])
    with pytest.raises(UsageError, match="has no caption"):
        PhotoPairs([PhotoSet([CaptionedPhoto(tmp_path / "a.png", ())])])
    with pytest.raises(UsageError, match="greater than 0"):
        PhotoSet(photos, weight=0)
    with pytest.raises(UsageError, match="2 photos have 1 classes"):
        PhotoSet(photos, classes=["a"])
    with pytest.raises(UsageError, match="workers must be at least 0"):
        next(decoded_batches(PhotoPairs([PhotoSet(photos)]), 0, 2, redness, workers=-1))

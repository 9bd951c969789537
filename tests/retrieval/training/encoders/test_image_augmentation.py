from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from retrieval.errors import UsageError
from retrieval.training.encoders.image_augmentation import RandomAugmentation, speaks_of_sides


@pytest.fixture(scope="module")
def image() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((80, 60))


def test_the_same_seed_gives_the_same_pixels_also_in_threads(image: Image.Image) -> None:
    augment = RandomAugmentation(side=32)

    def made(seed: int) -> bytes:
        return augment(image, seed, ["a cat"]).tobytes()

    alone = [made(seed) for seed in range(24)]
    with ThreadPoolExecutor(4) as pool:
        assert [*pool.map(made, range(24))] == alone
    assert len(set(alone)) == 24


def test_the_generator_of_the_process_is_left_as_it_was(image: Image.Image) -> None:
    state = torch.get_rng_state()
    RandomAugmentation(side=32)(image, 5, ["a cat"])
    assert torch.equal(torch.get_rng_state(), state)


def test_crops_have_the_side_of_the_encoder_and_parts_of_the_image(image: Image.Image) -> None:
    corners = Image.new("RGB", (90, 60), "red")
    corners.paste("blue", (45, 0, 90, 60))
    augment = RandomAugmentation(side=30, least_area=0.25, flip=0, operations=0)
    shares = [
        float(np.mean(np.array(augment(corners, seed, []))[..., 2] > 127)) for seed in range(40)
    ]
    assert augment(image, 0, []).size == (30, 30)
    assert min(shares) < 0.2
    assert max(shares) > 0.8


def test_nothing_is_changed_where_all_is_off(image: Image.Image) -> None:
    augment = RandomAugmentation(least_area=1, flip=0, operations=0)
    assert augment(image, 3, []).tobytes() == image.tobytes()


def test_images_are_mirrored_as_often_as_asked(image: Image.Image) -> None:
    augment = RandomAugmentation(least_area=1, flip=0.25, operations=0)
    mirrored = ImageOps.mirror(image).tobytes()
    made = [augment(image, seed, ["a cat"]).tobytes() for seed in range(200)]
    assert set(made) == {mirrored, image.tobytes()}
    assert 25 <= made.count(mirrored) <= 75


@pytest.mark.parametrize(
    "caption",
    ["a dog on the LEFT", "his right hand", "Eine Katze links im Bild", "ein Schild", "左边的狗"],
)
def test_what_captions_say_of_sides_stays_right(image: Image.Image, caption: str) -> None:
    augment = RandomAugmentation(least_area=1, flip=1, operations=0)
    assert augment(image, 0, ["a dog", caption]).tobytes() == image.tobytes()
    assert augment(image, 0, ["a dog"]).tobytes() == ImageOps.mirror(image).tobytes()


@pytest.mark.parametrize("captions", [["a bright leftover"], ["eine flinke Katze"], ["一只狗"], []])
def test_other_words_are_none_of_sides(captions: Sequence[str]) -> None:
    assert not speaks_of_sides(captions)


@pytest.mark.parametrize(
    "settings",
    [{"least_area": 0.0}, {"flip": 1.1}, {"operations": -1}, {"magnitude": 31}, {"side": 0}],
)
def test_a_setting_out_of_range_is_an_error(settings: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(settings))} must be from"):
        RandomAugmentation(**settings)  # type: ignore[arg-type]

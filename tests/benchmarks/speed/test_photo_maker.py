from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from benchmarks.speed.photo_maker import make_many, make_photos


@pytest.mark.parametrize("megapixels", [0.05, 2])
def test_photos_have_the_wanted_size_and_their_shape(photos, tmp_path, megapixels):
    made = make_photos([photos["coffee"], photos["cat"]], tmp_path, megapixels)
    for file, original in zip(made, ("coffee", "cat"), strict=True):
        with Image.open(file) as image, Image.open(photos[original]) as before:
            assert image.format == "JPEG"
            assert image.width * image.height == pytest.approx(megapixels * 1e6, rel=0.01)
            assert image.width / image.height == pytest.approx(before.width / before.height, 0.01)


def test_photos_of_12_megapixels_are_as_large_as_a_cameras(photos, tmp_path):
    for file in make_photos([photos["astronaut"], photos["rocket"]], tmp_path, 12):
        assert 2.5e6 < file.stat().st_size < 5.5e6


def test_an_enlarged_photo_still_shows_the_same(photos, tmp_path):
    [file] = make_photos([photos["astronaut"]], tmp_path, 2)
    with Image.open(file) as image, Image.open(photos["astronaut"]) as before:
        enlarged, original = (
            np.asarray(one.convert("L").resize((64, 64)), np.float64) for one in (image, before)
        )
    assert np.abs(enlarged - original).mean() < 3


def test_many_files_all_differ_and_all_decode(tmp_path):
    make_many(tmp_path, 1203, pictures=7)
    files = sorted(tmp_path.rglob("*.jpg"))
    assert len(files) == 1203
    assert len({file.read_bytes() for file in files}) == 1203
    assert len({file.stat().st_size for file in files}) > 300
    pixels = [np.asarray(Image.open(file)) for file in (files[0], files[7], files[-1])]
    assert pixels[0].shape == (120, 160, 3)
    assert (pixels[0] == pixels[1]).all()


def test_the_same_files_are_made_each_time(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        make_many(tmp_path / name, 5)
    contents = [
        [file.read_bytes() for file in sorted((tmp_path / name).rglob("*.jpg"))] for name in "ab"
    ]
    assert contents[0] == contents[1]
    assert all(one != other for one, other in pairwise(contents[0]))

"""Make photos of a given size for measurements of speed and memory."""

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops

from indexer.scan import FoundFile, walk
from retrieval.media.images import read_image

JPEG_QUALITY = 90
_NOISE = 6.0
"""Standard deviation that brings an enlarged photo of 12 megapixels to about 4 MB."""
_NOISE_SIDE = 1024
_FILES_IN_A_FOLDER = 1000
_MOST_FILLING_BYTES = 4096


def found_files(folder: Path) -> list[FoundFile]:
    """List the files that indexing finds below a folder."""
    return [entry for entry in walk(str(folder)) if isinstance(entry, FoundFile)]


def make_photos(
    files: Sequence[str | Path], folder: Path, megapixels: float, *, seed: int = 0
) -> list[Path]:
    """Resize each photo to about `megapixels`, save it as JPEG of quality 90, return the paths.

    Enlarged photos are softer than those of a camera, so their files would have a quarter of the
    size and decode too fast: grey noise is added, so that 12 megapixels have 3 to 5 MB. The
    distribution of detail still differs from that of a camera. Raises as `read_image`.

    Args:
        files: the photos.
        folder: for the JPEG files.
        megapixels: size of each, in millions of pixels.
        seed: of the noise.
    """
    noise = _noise(seed)
    made = []
    for place, file in enumerate(files):
        image = read_image(file)
        scale = (megapixels * 1e6 / (image.width * image.height)) ** 0.5
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        resized = image.resize(size, Image.Resampling.BICUBIC)
        if scale > 1:
            _add(noise, resized, shift=place)
        made.append(folder / f"{place:07}.jpg")
        resized.save(made[-1], quality=JPEG_QUALITY)
    return made


def make_many(folder: Path, count: int, *, pictures: int = 200, seed: int = 0) -> None:
    """Write `count` different small JPEG files, a thousand per folder, in seconds.

    They have `pictures` different images. The file number and padding follow the end of the image,
    where decoders do not read, so that all contents and sizes differ.

    Args:
        folder: for the folders of files.
        count: number of files.
        pictures: number of different images.
        seed: of the images and sizes.
    """
    generator = np.random.default_rng(seed)
    jpegs = []
    for _ in range(min(pictures, count)):
        coarse = Image.fromarray(generator.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        file = folder / "picture.jpg"
        coarse.resize((160, 120), Image.Resampling.BICUBIC).save(file, quality=JPEG_QUALITY)
        jpegs.append(file.read_bytes())
        file.unlink()
    fillings = generator.integers(0, _MOST_FILLING_BYTES, count).tolist()
    for number, filling in enumerate(fillings):
        place = folder / f"{number // _FILES_IN_A_FOLDER:04}"
        if number % _FILES_IN_A_FOLDER == 0:
            place.mkdir()
        end = struct.pack("<Q", number) + bytes(filling)
        (place / f"{number:07}.jpg").write_bytes(jpegs[number % len(jpegs)] + end)


def _noise(seed: int) -> Image.Image:
    values = np.random.default_rng(seed).normal(128, _NOISE, (_NOISE_SIDE, _NOISE_SIDE))
    return Image.fromarray(np.clip(values.round(), 0, 255).astype(np.uint8)).convert("RGB")


def _add(noise: Image.Image, image: Image.Image, shift: int) -> None:
    """Add noise around 128 to an image, tile by tile, shifted differently for each image."""
    noise = ImageChops.offset(noise, 31 * shift, 17 * shift)
    for top in range(0, image.height, _NOISE_SIDE):
        for left in range(0, image.width, _NOISE_SIDE):
            box = (left, top, left + _NOISE_SIDE, top + _NOISE_SIDE)
            image.paste(ImageChops.add(image.crop(box), noise, 1, -128), (left, top))

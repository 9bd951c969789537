"""Find the pages of TIFF files, and decode those whose values have more than 8 bits."""

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from PIL import Image

from retrieval.media.color import scaled_to_8_bits

if TYPE_CHECKING:
    from tifffile import TiffPage

MOST_PAGES = 10_000
"""Pages of one file that are found."""

_THUMBNAIL_SIDE = 512

_NAME = "image.tif"
"""For tifffile, which takes no file that was opened by its descriptor: its name is a number."""

_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}

# Numbers of the TIFF specification, revision 6.0.
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _SEPARATED = 0, 1, 2, 5
_REDUCED, _MASK = 1, 4
_OLD_REDUCED = 2

# What tifffile says of broken files would go to standard error.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


@dataclass(frozen=True, slots=True)
class Page:
    """A page. frame: the number of its directory in the file, from 0."""

    frame: int
    width: int
    height: int


def pages_of(file: BinaryIO) -> list[Page]:
    """List the pages of a TIFF file, without smaller copies, thumbnails and masks of them.

    Empty where the directories cannot be read. The file's position is not kept.
    """
    from tifffile import TiffFile

    found: list[Page] = []
    try:
        file.seek(0)
        with TiffFile(file, name=_NAME) as tiff:
            page: Any
            for frame, page in enumerate(tiff.pages):
                if len(found) == MOST_PAGES:
                    break
                one = Page(frame, page.imagewidth, page.imagelength)
                if not _is_marked_as_copy(page):
                    found.append(one)
    except Exception:  # noqa: BLE001 - broken directories come in every form
        if not found:
            return []
    largest: list[Page] = []
    for one in found:
        if not any(_is_copy(one, other) for other in largest):
            largest.append(one)
    return largest


def deep_page(file: BinaryIO, frame: int) -> Image.Image | None:
    """Decode a page of more than 8 bits a value, or of floats, to 8 bits; None for others.

    Grey, RGB and CMYK are understood, with or without alpha. `info` has the color profile and the
    orientation (`tiff_orientation`). The caller checks the size first. None, too, where the
    compression needs another decoder.
    """
    from tifffile import TiffFile

    try:
        file.seek(0)
        with TiffFile(file, name=_NAME) as tiff:
            page: Any = tiff.pages[frame]
            if page.dtype is None or (page.dtype.itemsize == 1 and page.dtype.kind == "u"):
                return None
            if int(page.photometric) not in {_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _SEPARATED}:
                return None
            values = _rows_columns_channels(page)
            if values is None:
                return None
            return _image(page, values)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - Pillow may still read it
        return None


def why_not_decoded(file: BinaryIO, frame: int) -> str:
    """Explain why a page could not be decoded, by what its directory says of its values."""
    from tifffile import TiffFile

    try:
        file.seek(0)
        with TiffFile(file, name=_NAME) as tiff:
            page: Any = tiff.pages[frame]
            return (
                f"cannot be decoded: a TIFF of {page.dtype or page.bitspersample} values, "
                f"{page.photometric.name} colors and {page.compression.name} compression"
            )
    except Exception:  # noqa: BLE001 - broken directories come in every form
        return "cannot be decoded: its directory is missing; the file is damaged or cut off"


def _rows_columns_channels(page: Any) -> np.ndarray[Any, Any] | None:
    """Decode to (height, width, channels); None for volumes and others of more dimensions."""
    axes, values = page.axes, page.asarray()
    if axes == "YX":
        return np.asarray(values[..., np.newaxis])
    if axes == "SYX":
        return np.asarray(np.moveaxis(values, 0, -1))
    return np.asarray(values) if axes == "YXS" else None


def _image(page: Any, values: np.ndarray[Any, Any]) -> Image.Image | None:
    photometric, channels = int(page.photometric), values.shape[-1]
    colors = {_RGB: 3, _SEPARATED: 4}.get(photometric, 1)
    if channels < colors:
        return None
    has_alpha = channels > colors and 1 <= int((page.extrasamples or (0,))[0]) <= 2
    scaled = scaled_to_8_bits(values[..., :colors])
    if photometric == _WHITE_IS_ZERO:
        scaled = 255 - scaled
    if has_alpha and photometric != _SEPARATED:
        alpha = scaled_to_8_bits(values[..., colors : colors + 1])
        scaled = np.concatenate([scaled, alpha], axis=-1)
    mode = "CMYK" if photometric == _SEPARATED else _MODES[scaled.shape[-1]]
    shaped = scaled[..., 0] if mode == "L" else scaled
    image = Image.fromarray(np.ascontiguousarray(shaped), mode)
    profile, orientation = page.tags.get(34675), page.tags.get(274)
    if profile is not None:
        image.info["icc_profile"] = bytes(profile.value)
    if orientation is not None:
        image.info["tiff_orientation"] = int(orientation.value)
    return image


def _is_marked_as_copy(page: "TiffPage | Any") -> bool:
    """Return whether a directory says that it is a smaller copy or a mask of another."""
    kind, old_kind = page.tags.get(254), page.tags.get(255)
    if kind is not None and int(kind.value) & (_REDUCED | _MASK):
        return True
    return old_kind is not None and int(old_kind.value) == _OLD_REDUCED


def _is_copy(one: Page, other: Page) -> bool:
    """Return whether a page is a level of a pyramid or a stamp of another, by its size."""
    if not 0 < one.width < other.width or not 0 < one.height < other.height:
        return False
    for level in range(1, 16):
        if abs(other.width / 2**level - one.width) < 1 and (
            abs(other.height / 2**level - one.height) < 1
        ):
            return True
    is_like = abs(one.width * other.height / (one.height * other.width) - 1) < 0.02
    return is_like and max(one.width, one.height) <= min(_THUMBNAIL_SIDE, other.width // 4)

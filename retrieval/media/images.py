"""Decode image files of any format and mode to upright RGB images."""

import functools
import importlib
import io
import os
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import xxhash
from PIL import Image, UnidentifiedImageError

from retrieval.errors import MissingExtraError, UnreadableFileError, import_errors_as
from retrieval.machine import memory_bytes
from retrieval.media import MediaKind
from retrieval.media.color import to_rgb
from retrieval.media.raw import CameraRaw
from retrieval.media.registry import FORMATS, HEIC, HEIF, JPEG_XL, RAW, format_of, is_svg, read_head
from retrieval.media.svg import MOST_SVG_BYTES, draw_svg, parse_svg

Source = str | os.PathLike[str] | bytes | BinaryIO

LEAST_SIDE = 1024
"""Pixels that both sides of an image for an encoder or reranker keep when it is reduced.

Twice the input of the largest network.
"""

_AVERAGEABLE_MODES = {"L", "LA", "RGB", "RGBA", "CMYK", "YCbCr"}
"""Modes in which the mean of pixels is a color between theirs, unlike palette indices."""

_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The operation that makes an image of an EXIF orientation upright."""


class UnreadableImageError(UnreadableFileError):
    """Bytes that cannot be read as an image; the message is the reason."""


@dataclass(frozen=True, slots=True)
class Picture:
    """An upright RGB image, possibly reduced, and the size of the upright original in pixels.

    The original of a camera RAW file is its sensor's picture; an SVG drawing is its own, drawn
    with a longer side of `retrieval.media.svg.SVG_SIDE`.
    """

    image: Image.Image
    width: int
    height: int


@functools.cache
def default_max_pixels() -> int:
    """Return the default maximum number of pixels of an image.

    Pillow's limit against decompression bombs (179 million), or as many as fit in a quarter of this
    machine's memory at 12 bytes each: decoded, converted and rotated. At least 20 million.
    """
    most = 2 * Image.MAX_IMAGE_PIXELS if Image.MAX_IMAGE_PIXELS else sys.maxsize
    memory = memory_bytes()
    return most if memory is None else max(min(most, memory // 4 // 12), 20_000_000)


def read_image(
    source: Source,
    *,
    name: str | None = None,
    least_side: int | None = None,
    max_pixels: int | None = None,
) -> Image.Image:
    """Decode the first frame of an image, upright, as RGB: the image of `read_picture`."""
    return read_picture(source, name=name, least_side=least_side, max_pixels=max_pixels).image


def read_picture(
    source: Source,
    *,
    name: str | None = None,
    least_side: int | None = None,
    max_pixels: int | None = None,
) -> Picture:
    """Decode the first frame of an image, upright, as sRGB.

    EXIF orientation and color profile are applied; transparent parts show white; 16-bit and float
    images are scaled to 8 bits. The format is detected by the content, except that of camera RAW
    files, which is detected by the name.

    Args:
        source: Path, content or open file, of which the position does not matter.
        name: Of the file, where the source has none or another.
        least_side: The image is made smaller by whole factors while both sides keep at least this
            many pixels; None: never.
        max_pixels: Larger images are refused by their header alone; None: those of more than
            `default_max_pixels()`.

    Raises:
        UnreadableImageError: Not a whole image.
        MissingExtraError: A package is needed that is not installed.
        OSError: The file itself cannot be opened.
    """
    max_pixels = default_max_pixels() if max_pixels is None else max_pixels
    with opened(source, name) as (stream, known_name), _decoding_errors_explained():
        file = stream if stream.seekable() else io.BytesIO(stream.read())
        head = read_head(file)
        if not head:
            raise UnreadableImageError("the file is empty")
        if format_of(known_name) is RAW:
            return _read_raw(file, least_side, max_pixels)
        if is_svg(head, known_name):
            png = draw_svg(parse_svg(file.read(MOST_SVG_BYTES + 1)))
            return _decode(io.BytesIO(png), least_side, max_pixels)
        return _decode(file, least_side, max_pixels)


def read_unchanged(
    path: str, content_hash: str, *, least_side: int | None = None
) -> Image.Image | None:
    """Decode an image file that still has a known content; None if it changed or is unreadable.

    content_hash: XXH3 of 128 bits in hexadecimal, as the catalog keeps it. least_side: as for
    `read_picture`.
    """
    try:
        # What is a pipe by now would be waited for without end.
        content = Path(path).read_bytes() if Path(path).is_file() else b""
        if xxhash.xxh3_128_hexdigest(content) != content_hash:
            return None
        return read_image(content, name=path, least_side=least_side)
    except (OSError, UnreadableFileError):
        return None


@contextmanager
def opened(source: Source, name: str | None = None) -> Iterator[tuple[BinaryIO, str]]:
    """Open a path, content or open file; yields the file and its name, "" where it has none.

    Only a file opened from a path is closed afterwards. Raises OSError when it cannot be opened.
    """
    if isinstance(source, str | os.PathLike):
        with Path(source).open("rb") as opened_file:
            yield opened_file, name or os.fspath(source)
        return
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    known = getattr(file, "name", "")
    yield file, name or (known if isinstance(known, str) else "")


def open_image(file: BinaryIO) -> Image.Image:
    """Open an image without decoding it, whatever its size; the caller checks that.

    Raises UnreadableImageError where no format fits, MissingExtraError for HEIC without package.
    """
    head = file.read(64)
    if not head:
        raise UnreadableImageError("the file is empty")
    formats = _pillow_formats()
    if head[4:8] == b"ftyp" and (HEIC.begins(head) or HEIF.begins(head)):
        _register_heif()
        formats = ("HEIF", *formats)
    if JPEG_XL.begins(head):
        _register_jpeg_xl()
        formats = ("JXL",)
    # Not by Image.open: that compares with a limit which is one for the whole process, and warns
    # of pictures that we take. Its other work, to find the format, is these lines.
    for name in formats:
        factory, accept = Image.OPEN[name]
        try:
            accepted = accept is None or accept(head[:16])
            if isinstance(accepted, str) or not accepted:
                continue
            file.seek(0)
            return factory(file, "")
        except (SyntaxError, IndexError, TypeError, struct.error):
            continue  # The format's way to say that it is another one.
    raise UnreadableImageError("not an image of a known format")


def reduced(image: Image.Image, least_side: int | None) -> Image.Image:
    """Make an image smaller by a whole factor while both sides keep at least `least_side` pixels.

    The same image where that is None or no such factor is above 1, and in modes such as palettes,
    in which no mean of pixels is a color between theirs.
    """
    if not least_side or image.mode not in _AVERAGEABLE_MODES or "transparency" in image.info:
        return image
    factor = min(image.size) // least_side
    return image.reduce(factor) if factor > 1 else image


@functools.cache
def _pillow_formats() -> tuple[str, ...]:
    """List formats in the order of trying; those without a signature accept anything: last."""
    Image.init()
    known = {one.name for one in FORMATS if one.kind is MediaKind.IMAGE}
    formats = known & set(Image.OPEN) - {"HEIF", "JXL"}
    return tuple(sorted(formats, key=lambda name: (Image.OPEN[name][1] is None, name)))


@functools.cache
def _register_heif() -> None:
    with import_errors_as(MissingExtraError("HEIC images", "heic")):
        import pillow_heif
    pillow_heif.register_heif_opener(thumbnails=False)


@functools.cache
def _register_jpeg_xl() -> None:
    with import_errors_as(MissingExtraError("JPEG XL images", "jxl")):
        importlib.import_module("pillow_jxl")


@contextmanager
def _decoding_errors_explained() -> Iterator[None]:
    """Raise the errors of decoders of broken files as UnreadableImageError with the reason."""
    try:
        yield
    except (UnreadableImageError, MissingExtraError):
        raise
    except UnreadableFileError as error:
        raise UnreadableImageError(str(error)) from error
    except Image.DecompressionBombError as error:
        raise UnreadableImageError(f"refused as too large: {error}") from error
    except UnidentifiedImageError as error:
        raise UnreadableImageError("not an image of a known format") from error
    except MemoryError as error:
        raise UnreadableImageError("not enough memory to decode it") from error
    except Exception as error:
        reason = str(error).strip() or type(error).__name__
        raise UnreadableImageError(f"cannot be decoded: {reason}") from error


def _check_pixels(size: tuple[int, int], max_pixels: int) -> None:
    if size[0] * size[1] > max_pixels:
        raise UnreadableImageError(
            f"refused as too large: {size[0] * size[1] / 1e6:,.1f} megapixels,"
            f" the limit is {max_pixels / 1e6:,.1f}"
        )


def _decode(
    file: BinaryIO, least_side: int | None, max_pixels: int, orientation: int = 1
) -> Picture:
    """Decode by Pillow. orientation: of an image that tells none itself, as EXIF numbers them."""
    with open_image(file) as image:
        _check_pixels(image.size, max_pixels)
        size = image.size
        drafted = (
            least_side is not None
            and image.format in {"JPEG", "MPO"}
            and image.draft(None, (least_side, least_side)) is not None
        )
        _allocate_large_tiff(image, max_pixels)
        image.load()
        if not drafted:
            size = image.size  # TIFF and HEIF are turned while they are decoded.
        orientation = _orientation(image, orientation)
        rgb = reduced(to_rgb(reduced(image, least_side)), least_side)
        upright = _upright(rgb.copy() if rgb is image else rgb, orientation)
    # Left there, the orientation would be applied a second time by whoever looks for it.
    upright.info = {}
    return Picture(upright, *(size[::-1] if orientation >= 5 else size))


def _allocate_large_tiff(image: Image.Image, max_pixels: int) -> None:
    """Allocate large TIFF tiles here: Pillow refuses them, or warns, by its own pixel limit."""
    tile: tuple[int, int] | None = getattr(image, "_tile_size", None)
    if tile and Image.MAX_IMAGE_PIXELS and tile[0] * tile[1] > Image.MAX_IMAGE_PIXELS:
        _check_pixels(tile, max_pixels)
        image.im = Image.new(image.mode, tile, None).im


def _orientation(image: Image.Image, default: int) -> int:
    try:
        value = image.getexif().get(0x0112, default)
    except Exception:  # noqa: BLE001 - broken EXIF is no reason to refuse a picture
        return default
    return value if value in range(1, 9) else default


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    return image.transpose(_TRANSPOSE[orientation]) if orientation in _TRANSPOSE else image


def _read_raw(file: BinaryIO, least_side: int | None, max_pixels: int) -> Picture:
    try:
        raw_file = CameraRaw(file)
    except MissingExtraError:
        raise
    except UnreadableFileError as error:
        file.seek(0)
        try:
            return _decode(file, least_side, max_pixels)
        except UnreadableImageError:
            raise UnreadableImageError(str(error)) from error
    with raw_file as raw:
        _check_pixels(raw.sensor_size, max_pixels)
        preview = _read_raw_preview(raw, least_side, max_pixels)
        if preview is None or 4 * max(preview.width, preview.height) < max(raw.size):
            try:
                return Picture(reduced(raw.developed(), least_side), *raw.size)
            except UnreadableFileError:
                if preview is None:
                    raise
        return Picture(preview.image, *raw.size)


def _read_raw_preview(raw: CameraRaw, least_side: int | None, max_pixels: int) -> Picture | None:
    try:
        stored = raw.preview()
        if stored is None:
            return None
        if isinstance(stored, Image.Image):
            image = _upright(stored, raw.orientation)
            return Picture(reduced(image.convert("RGB"), least_side), *image.size)
        preview = _decode(io.BytesIO(stored), least_side, max_pixels, raw.orientation)
        lies = (preview.width > preview.height) != (raw.stored_size[0] > raw.stored_size[1])
        if raw.orientation >= 5 and not lies:
            # A camera that turned neither the preview nor its EXIF.
            image = _upright(preview.image, raw.orientation)
            return Picture(image, preview.height, preview.width)
    except Exception:  # noqa: BLE001 - the sensor's own values are still there
        return None
    return preview

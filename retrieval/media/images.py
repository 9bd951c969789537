"""Decode image files of any format and mode to upright RGB images."""

import functools
import importlib
import io
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import xxhash
from PIL import ExifTags, Image, ImageChops, UnidentifiedImageError

from retrieval.errors import MissingExtraError, UnreadableFileError, import_errors_as
from retrieval.machine import memory_bytes
from retrieval.media import MediaKind
from retrieval.media.color import has_broken_profile, to_rgb
from retrieval.media.raw import CameraRaw
from retrieval.media.registry import (
    FORMATS,
    HEIC,
    HEIF,
    JPEG_XL,
    RAW,
    TIFF,
    format_of,
    is_svg,
    read_head,
)
from retrieval.media.svg import MOST_SVG_BYTES, draw_svg, parse_svg
from retrieval.objects.opening import open_path, status_of

Source = str | os.PathLike[str] | bytes | BinaryIO

LEAST_SIDE = 1024
"""Pixels that both sides of an image for an encoder or reranker keep when it is reduced.

Twice the input of the largest network.
"""

_MOST_PIXELS = 250_000_000
"""Enough for the largest photos of phones, of 200 million."""

_MOST_REDUCTION = 8
"""How many times the limit a JPEG may have that is reduced while it is decoded."""

_MOST_DAMAGED_BYTES = 1 << 30
_WITH_HIDDEN_DAMAGE = {"PNG", "WEBP", "HEIF", "AVIF"}
_MOST_EMPTY_FRAMES = 100
_MOST_AVIF_HEADER = 1 << 16

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


class TooLargeImageError(UnreadableImageError):
    """An image of more pixels than the limit; the message tells both."""


@dataclass(frozen=True, slots=True)
class Picture:
    """An upright RGB image, possibly reduced, and the size of the upright original in pixels.

    The original of a camera RAW file is its sensor's picture; an SVG drawing is its own, drawn
    with a longer side of `retrieval.media.svg.SVG_SIDE`. notes: what could not be read of it.
    """

    image: Image.Image
    width: int
    height: int
    notes: tuple[str, ...] = ()


@functools.cache
def default_max_pixels() -> int:
    """Return the default maximum number of pixels of an image.

    250 million, or as many as fit in a quarter of this machine's memory at 12 bytes each: decoded,
    converted and rotated. At least 20 million.
    """
    memory = memory_bytes()
    return _MOST_PIXELS if memory is None else max(min(_MOST_PIXELS, memory // 48), 20_000_000)


def read_image(
    source: Source,
    *,
    name: str | None = None,
    least_side: int | None = None,
    max_pixels: int | None = None,
    page: int = 1,
) -> Image.Image:
    """Decode the first frame of an image, upright, as RGB: the image of `read_picture`."""
    return read_picture(
        source, name=name, least_side=least_side, max_pixels=max_pixels, page=page
    ).image


def read_picture(
    source: Source,
    *,
    name: str | None = None,
    least_side: int | None = None,
    max_pixels: int | None = None,
    page: int = 1,
) -> Picture:
    """Decode the first frame of an image that shows something, upright, as sRGB.

    EXIF orientation and color profile are applied; transparent parts show white; 16-bit and float
    images are scaled to 8 bits, and those of high dynamic range tone mapped. The format is detected
    by the content, except that of camera RAW files, which is detected by the name. Of a damaged
    file, what can be decoded is shown, on grey, and the rest noted.

    Args:
        source: Path, content or open file, of which the position does not matter.
        name: Of the file, where the source has none or another.
        least_side: The image is made smaller by whole factors while both sides keep at least this
            many pixels; None: never.
        max_pixels: Images that decode to more are refused by their header alone; None: to more than
            `default_max_pixels()`. JPEGs that are reduced may have eight times as many, progressive
            ones twice.
        page: Of a TIFF file, from 1, as `retrieval.media.tiff_pages` counts them.

    Raises:
        UnreadableImageError: Not an image, or hardly anything of it can be decoded.
        TooLargeImageError: It is larger than the limit.
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
        return _decode(file, least_side, max_pixels, page=page)


def read_unchanged(
    path: str,
    content_hash: str,
    *,
    least_side: int | None = None,
    max_pixels: int | None = None,
    page: int = 1,
) -> Image.Image | None:
    """Decode an image file that still has a known content; None if it changed or is unreadable.

    content_hash: XXH3 of 128 bits in hexadecimal, as the catalog keeps it. Others: as for
    `read_picture`.
    """
    try:
        # What is a pipe by now would be waited for without end.
        with open_path(path, status_of(path)) as file:
            content = file.read()
        if xxhash.xxh3_128_hexdigest(content) != content_hash:
            return None
        return read_image(
            content, name=path, least_side=least_side, max_pixels=max_pixels, page=page
        )
    except (OSError, UnreadableFileError):
        return None


@contextmanager
def opened(source: Source, name: str | None = None) -> Iterator[tuple[BinaryIO, str]]:
    """Open a path, content or open file; yields the file and its name, "" where it has none.

    Only a file opened from a path is closed afterwards. Raises OSError when it cannot be opened.
    """
    if isinstance(source, str | os.PathLike):
        with open_path(os.fspath(source)) as opened_file:
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
        raise TooLargeImageError(
            f"refused as too large: {size[0] * size[1] / 1e6:,.1f} megapixels,"
            f" the limit is {max_pixels / 1e6:,.1f}"
        )


def _decode(
    file: BinaryIO,
    least_side: int | None,
    max_pixels: int,
    orientation: int = 1,
    page: int | None = None,
) -> Picture:
    """Decode by Pillow, and if that fails, as much as can be.

    orientation: of an image that tells none itself, as EXIF numbers them. page: of a TIFF file,
    from 1.
    """
    frame = _frame_of_page(file, page, max_pixels)
    try:
        with _deep_page(file, frame, max_pixels) or open_image(file) as image:
            return _as_picture(image, file, frame, least_side, max_pixels, orientation)
    except (TooLargeImageError, MissingExtraError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - broken files come in every form
        return _decode_part(file, frame, least_side, max_pixels, error)


def _as_picture(
    image: Image.Image,
    file: BinaryIO,
    frame: int,
    least_side: int | None,
    max_pixels: int,
    orientation: int,
) -> Picture:
    if frame and image.format:
        image.seek(frame)
    size = _prepare(image, least_side, max_pixels)
    image.load()
    if not size:
        size = image.size  # TIFF and HEIF are turned while they are decoded.
    notes = ["its color profile is damaged and was left out"] if has_broken_profile(image) else []
    if image.format in _WITH_HIDDEN_DAMAGE or _ends_with_zeros(image, file):
        from retrieval.media.damaged import hidden_damage

        notes += filter(None, [hidden_damage(file)])
    transfer = _transfer(image, file)
    orientation = _orientation(image, image.info.get("tiff_orientation", orientation))
    image = _first_that_shows(image)
    if _is_transparent(image):
        notes.append("it is transparent all over")
    rgb = reduced(to_rgb(reduced(image, least_side)), least_side)
    rgb = _tone_mapped(rgb, transfer)
    if image.format == "TIFF" and image.mode.startswith(("I", "F")) and _is_negative(image):
        rgb = ImageChops.invert(rgb)
    upright = _upright(rgb.copy() if rgb is image else rgb, orientation)
    # Left there, the orientation would be applied a second time by whoever looks for it.
    upright.info = {}
    return Picture(upright, *(size[::-1] if orientation >= 5 else size), tuple(notes))


def _ends_with_zeros(image: Image.Image, file: BinaryIO) -> bool:
    """Return whether a JPEG ends with zeros, which decode to something."""
    if image.format not in {"JPEG", "MPO"}:
        return False
    file.seek(-2, io.SEEK_END)
    return file.read(2) == b"\0\0"


def _prepare(image: Image.Image, least_side: int | None, max_pixels: int) -> tuple[int, int] | None:
    """Check an opened image's size, and make ready for decoding; returns it if it is reduced.

    JPEG is reduced while it is decoded, in little memory, unless it is progressive: that is held
    in memory as a whole, in half of what is reckoned for other pixels.
    """
    size = image.size
    if least_side is None or image.format not in {"JPEG", "MPO"}:
        _check_pixels(size, max_pixels)
        _allocate_large_tiff(image, max_pixels)
        return None
    is_progressive = "progression" in image.info
    _check_pixels(size, (2 if is_progressive else _MOST_REDUCTION) * max_pixels)
    drafted = image.draft(None, (least_side, least_side)) is not None
    _check_pixels(image.size, max_pixels)
    return size if drafted else None


def _decode_part(
    file: BinaryIO, frame: int, least_side: int | None, max_pixels: int, error: Exception
) -> Picture:
    """Decode what can be of an image that raised an error when it was decoded as it is."""
    from retrieval.media import damaged

    file.seek(0)
    content = file.read(_MOST_DAMAGED_BYTES)
    sizes: list[tuple[int, int] | None] = []

    def open_part(content: bytes) -> Any:
        image = open_image(io.BytesIO(content))
        if frame:
            image.seek(frame)
        sizes.append(_prepare(image, least_side, max_pixels))
        return image

    part = damaged.decode_part(content, open_part)
    if part is None and TIFF.begins(content):
        from retrieval.media.tiff_pages import why_not_decoded

        raise UnreadableImageError(why_not_decoded(file, frame)) from error
    if part is None:
        raise error
    if part.share < damaged.LEAST_SHARE:
        raise UnreadableImageError(
            f"hardly anything of it can be decoded: {str(error).strip() or type(error).__name__}"
        ) from error
    size = sizes[-1] or part.image.size
    orientation = _orientation(part.image, 1)
    transfer = _transfer(part.image, file)
    rgb = _tone_mapped(part.filled(to_rgb(part.image)), transfer)
    upright = _upright(reduced(rgb, least_side).copy(), orientation)
    upright.info = {}
    return Picture(upright, *(size[::-1] if orientation >= 5 else size), (part.note,))


def _frame_of_page(file: BinaryIO, page: int | None, max_pixels: int) -> int:
    """Return the number of a page's directory in a TIFF file, from 0; 0 for other formats."""
    if page is None or not TIFF.begins(read_head(file)):
        return 0
    from retrieval.media.tiff_pages import pages_of

    pages = pages_of(file)
    file.seek(0)
    if page > max(len(pages), 1):
        raise UnreadableImageError(f"has no page {page}, only {len(pages)}")
    if not pages:
        return 0
    chosen = pages[page - 1]
    _check_pixels((chosen.width, chosen.height), max_pixels)
    return chosen.frame


def _deep_page(file: BinaryIO, frame: int, max_pixels: int) -> Image.Image | None:
    """Decode a page of a TIFF file that has more than 8 bits a value; None for anything else."""
    if not TIFF.begins(read_head(file)):
        return None
    from retrieval.media.tiff_pages import deep_page

    image = deep_page(file, frame)
    file.seek(0)
    if image is not None:
        _check_pixels(image.size, max_pixels)
    return image


def _transfer(image: Image.Image, file: BinaryIO) -> tuple[int, int] | None:
    """Return transfer and primaries of an image, by the numbers of H.273, where it tells them."""
    if image.format == "AVIF":
        from retrieval.media.hdr import transfer_and_primaries

        file.seek(0)
        return transfer_and_primaries(file.read(_MOST_AVIF_HEADER))
    profile = image.info.get("nclx_profile")  # pillow-heif's
    if not isinstance(profile, dict):
        return None
    return profile.get("transfer_characteristics", 0), profile.get("color_primaries", 0)


def _tone_mapped(rgb: Image.Image, transfer: tuple[int, int] | None) -> Image.Image:
    if transfer is None:
        return rgb
    from retrieval.media.hdr import tone_mapped

    return tone_mapped(rgb, *transfer)


def _is_negative(image: Image.Image) -> bool:
    """Return whether white is 0 in a TIFF page: Pillow turns only values of 8 bits around."""
    return getattr(image, "tag_v2", {}).get(ExifTags.Base.PhotometricInterpretation) == 0


def _is_transparent(image: Image.Image) -> bool:
    """Return whether nothing of an image can be seen."""
    if not image.has_transparency_data:
        return False
    alpha = image if image.mode in {"RGBA", "LA"} else image.convert("RGBA")
    return alpha.getchannel("A").getextrema() == (0, 0)


def _first_that_shows(image: Image.Image) -> Image.Image:
    """Return the first frame of an animation that is not transparent all over, else the first."""
    count = min(getattr(image, "n_frames", 1), _MOST_EMPTY_FRAMES) if image.format else 1
    if count < 2 or image.format == "TIFF" or not _is_transparent(image):
        return image
    for frame in range(1, count):
        try:
            image.seek(frame)
            image.load()
        except Exception:  # noqa: BLE001 - the first frame is there
            break
        if not _is_transparent(image):
            return image
    image.seek(0)
    return image


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

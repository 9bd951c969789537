"""Decode what can be of damaged images: cut files, wrong checksums, oversized chunks."""

import io
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, PngImagePlugin

LEAST_SHARE = 0.05
"""Of the picture, what must be there for it to be worth showing."""

_MISSING = (128, 128, 128)
"""Shown where a picture could not be decoded, as viewers do."""

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_CHUNKS = {b"IHDR", b"PLTE", b"IDAT", b"tRNS", b"iCCP", b"eXIf"}
_PNG_NAMES = {b"zTXt": "text", b"iTXt": "text", b"tEXt": "text", b"iCCP": "color profile"}

_ROWS_AT_ONCE = 512
_ZEROS, _TAIL = 512, 1 << 16

_INTERLACED = 8
"""Rows and columns that interlaced files jump over, at most."""

Open = Callable[[bytes], ImageFile.ImageFile]
"""Opens an image of some content, without decoding it."""


@dataclass(frozen=True, slots=True)
class Mended:
    """The content of a file, made such that decoders take it.

    said: what was mended, for a note; "" if nothing. present: share of the content that is the
    file's own and not filled in, 0..1. guesses: a decoder makes up what is missing.
    """

    content: bytes
    said: str = ""
    present: float = 1.0
    guesses: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """What could be decoded. missing: (height, width) bool, pixels that were not; None: guessed.

    share: of the picture, what is there, 0..1. said: why, for a note. is_coarse: of all of it there
    may be a coarse version alone.
    """

    image: Image.Image
    missing: NDArray[np.bool_] | None
    share: float
    said: str
    is_coarse: bool = False

    @property
    def note(self) -> str:
        """Say what is damaged, and how much of the picture is missing."""
        if self.share > 0.999:
            return f"{self.said}; the picture is there{', perhaps coarser' * self.is_coarse}"
        lost = "less than 1 %" if self.share > 0.99 else f"about {100 * (1 - self.share):.0f} %"
        return f"{self.said}: {lost} of the picture could not be decoded"

    def filled(self, rgb: Image.Image) -> Image.Image:
        """Show grey where pixels are missing, in the image as RGB."""
        if self.missing is None or not self.missing.any():
            return rgb
        pixels, missing = np.array(rgb), self.missing.copy()
        # Interlaced files have some rows of all, or some pixels of each.
        above = _nearest_before(missing.all(axis=1, keepdims=True), 0)[:, 0]
        pixels, missing = pixels[above], missing[above]
        rows, left = np.arange(len(missing))[:, np.newaxis], _nearest_before(missing, 1)
        pixels, missing = pixels[rows, left], missing[rows, left]
        pixels[missing] = _MISSING
        return Image.fromarray(pixels)


def decode_part(content: bytes, open_image: Open) -> Part | None:
    """Decode an image that cannot be decoded as it is; None where nothing of it can be.

    open_image: opens the image of some content, ready to be decoded.
    """
    mended = mend(content)
    whole = _decoded(mended.content, open_image) if mended.content != content else None
    if whole is None:
        own = _decoded_twice(mended.content, open_image) if mended.content != content else None
        own = own or _decoded_twice(content, open_image)
        said = mended.said or "the file is damaged or cut off"
        return Part(own[0], own[1], 1 - float(own[1].mean()), said) if own else None
    if not mended.guesses:
        return Part(whole, None, mended.present, mended.said)
    own = _decoded_twice(content, open_image) if mended.present == 1 else None
    own_share = 1 - float(own[1].mean()) if own else 0.0
    share = max(own_share, _share_until_flat(whole))
    if own and own[1].any() and _last_rows_alone(own[1]):
        share = 1.0  # Decoders keep back the last blocks until they see the end.
    # Progressive JPEG gives nothing until its end is seen.
    is_coarse = mended.present == 1 and own_share == 0
    present = min(mended.present, len(content.rstrip(b"\0")) / len(content))
    return Part(whole, None, min(share, present), mended.said, is_coarse)


def mend(content: bytes) -> Mended:
    """Make the content of a damaged file such that its decoder takes it, if the format is known."""
    if content.startswith(b"\xff\xd8\xff"):
        return Mended(_ended_jpeg(content), "the file is damaged or cut off", guesses=True)
    if content.startswith(_PNG):
        return _mended_png(content)
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return _padded(content, 20, 8 + int.from_bytes(content[4:8], "little"))
    if content[:4] in {b"II*\0", b"MM\0*"}:
        # Without the last bytes of the directory, which are zeros, nothing would be found.
        return Mended(content + bytes(64), "the file is damaged or cut off")
    if content[4:8] == b"ftyp":
        return _padded(content, *_last_box(content))
    return Mended(content)


def hidden_damage(file: BinaryIO) -> str:
    """Find damage that decoders pass over: wrong checksums of PNG, and ends of zeros; "" if none.

    file: PNG, WebP, HEIF, AVIF or JPEG. Its position is not kept.
    """
    file.seek(0)
    if file.read(8) == _PNG:
        file.seek(0)
        return _mended_png(file.read(), "").said
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - _TAIL))
    tail = file.read(_TAIL)
    # Behind the end of a JPEG there may be zeros.
    own = tail.rstrip(b"\0")
    if len(tail) - len(own) >= _ZEROS and not own.endswith(b"\xff\xd9"):
        return "the end of the file is zeros: a part of the picture may be missing"
    return ""


def _ended_jpeg(content: bytes) -> bytes:
    """End a JPEG, before a table or a header of a scan that was cut itself."""
    for marker in (b"\xff\xda", b"\xff\xc4", b"\xff\xdb"):
        at = content.rfind(marker)
        if at > 0 and at + 2 + int.from_bytes(content[at + 2 : at + 4], "big") > len(content):
            content = content[:at]
    return content + b"\xff\xd9"


def _padded(content: bytes, begin: int, end: int) -> Mended:
    """Fill a file that was cut with zeros, unless hardly anything of its pixels is there.

    begin, end: where in the whole file the pixels are.
    """
    present = (len(content) - begin) / max(end - begin, 1)
    if not LEAST_SHARE < present < 1:
        return Mended(content, present=min(max(present, 0.0), 1.0))
    filled = content + bytes(end - len(content))
    return Mended(filled, "the file is cut off", present, guesses=True)


def _last_box(content: bytes) -> tuple[int, int]:
    """Return where the last box of an ISO base media file begins and ends (ISO 14496-12, 4.2)."""
    begin = end = 0
    while end + 16 <= len(content):
        size = int.from_bytes(content[end : end + 4], "big")
        if size == 1:
            size = int.from_bytes(content[end + 8 : end + 16], "big")
        if size < 8:
            return end, len(content)
        begin, end = end, end + size
    return begin, end


def _mended_png(content: bytes, otherwise: str = "the file is damaged or cut off") -> Mended:
    """Keep the chunks that make the picture, with right checksums, and end it.

    What other chunks hold, such as texts, is left out; so is a profile that is too long.
    """
    kept, said, at = [_PNG], [], len(_PNG)
    while at + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, at)
        data = content[at + 8 : at + 8 + length]
        checksum = content[at + 8 + length : at + 12 + length]
        at += 12 + length
        if kind == b"IEND" or not kind.isalpha():
            break
        if len(checksum) == 4 and zlib.crc32(kind + data) != int.from_bytes(checksum, "big"):
            said.append(f"a checksum of its {_PNG_NAMES.get(kind, kind.decode())} is wrong")
        if kind in _PNG_NAMES and _is_oversized(kind, data):
            said.append(f"its {_PNG_NAMES[kind]} is too long and was left out")
        elif kind in _PNG_CHUNKS:
            chunk = kind + data
            kept += [struct.pack(">I", len(data)), chunk, struct.pack(">I", zlib.crc32(chunk))]
    kept.append(b"\0\0\0\0IEND\xaeB`\x82")
    return Mended(b"".join(kept), " and ".join(dict.fromkeys(said)) or otherwise)


def _is_oversized(kind: bytes, data: bytes) -> bool:
    """Return whether a chunk unpacks to more than Pillow takes (PNG, third edition, 11.3.3)."""
    _, _, rest = data.partition(b"\0")
    if kind == b"iTXt":
        if not rest.startswith(b"\1"):
            return False  # it is not compressed
        packed = rest[2:].split(b"\0", 2)[-1]
    elif kind in {b"zTXt", b"iCCP"}:
        packed = rest[1:]
    else:
        return False
    most = PngImagePlugin.MAX_TEXT_CHUNK
    try:
        return len(zlib.decompressobj().decompress(packed, most + 1)) > most
    except zlib.error:
        return False  # Pillow leaves it out


def _decoded(content: bytes, open_image: Open) -> Image.Image | None:
    try:
        image = open_image(content)
        image.load()
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - broken files come in every form
        return None
    return image


def _decoded_twice(
    content: bytes, open_image: Open
) -> tuple[Image.Image, NDArray[np.bool_]] | None:
    """Decode as far as it goes, over black and over white: what differs was not decoded."""
    over_black = _decoded_over(0, content, open_image)
    over_white = _decoded_over(255, content, open_image)
    if over_black is None or over_white is None or over_black.size != over_white.size:
        return None
    missing = [
        _differing(over_black.crop(box), over_white.crop(box))
        for top in range(0, over_black.height, _ROWS_AT_ONCE)
        for box in [(0, top, over_black.width, min(top + _ROWS_AT_ONCE, over_black.height))]
    ]
    return over_black, np.concatenate(missing)


def _decoded_over(value: int, content: bytes, open_image: Open) -> Image.Image | None:
    try:
        image = open_image(content)
        bands = len(image.getbands())
        color = value if bands == 1 else (value,) * bands
        image.im = Image.new(image.mode, image.size, color).im
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - not even its header is right
        return None
    with suppress(Exception):
        image.load()
    if image.tile:
        image.tile = []
        with suppress(Exception):
            image.load_end()
    with suppress(Exception):
        image.load()
        return image
    return None


def _differing(first: Image.Image, second: Image.Image) -> NDArray[np.bool_]:
    differs: NDArray[np.bool_] = np.not_equal(np.asarray(first), np.asarray(second))
    anywhere: NDArray[np.bool_] = np.atleast_3d(differs).max(axis=2)
    return anywhere


def _nearest_before(missing: Any, axis: int) -> NDArray[np.intp]:
    """Return the nearest place before, along an axis, that is there, if it is a few pixels away."""
    places = np.indices(missing.shape)[axis]
    there = np.maximum.accumulate(np.where(missing, -_INTERLACED, places), axis=axis)
    return np.asarray(np.where(places - there < _INTERLACED, there, places))


def _last_rows_alone(missing: NDArray[np.bool_]) -> bool:
    """Return whether nothing is missing but the last two rows of blocks of a JPEG."""
    return not missing[:-32].any() and missing.shape[0] > 64


def _share_until_flat(image: Image.Image) -> float:
    """Return which share of the rows comes before those at the end that are all the same."""
    rows = np.asarray(image.convert("L").reduce(max(1, image.width // 256)), dtype=np.int16)
    differs = np.abs(rows - rows[-1:, :1]) > 2
    if differs.mean() < LEAST_SHARE:
        return 0.0  # Grey all over, but for a block.
    lively = np.flatnonzero(differs.any(axis=1))
    return float(lively[-1] + 1) / len(rows) if len(lively) else 0.0

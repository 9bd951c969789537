"""Find the blocks of metadata in image and video files: EXIF, XMP, IPTC and plain texts.

The containers are walked by their own lengths, without decoding a picture: only blocks are read, of
bounded number and size.
"""

import io
import itertools
import os
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from retrieval.media.tiff_tags import (
    IPTC_BLOCK,
    PHOTOSHOP_BLOCK,
    XMP_PACKET,
    TiffTags,
    is_tiff,
    read_place_directory,
    read_tiff,
)

MOST_BLOCK_BYTES = 4 << 20
"""Maximum size of a block, unpacked; larger ones, such as depth maps, are no descriptions."""

_MOST_BLOCKS = 10_000
_FIRST_BOXES = (b"ftyp", b"jP  ", b"JXL ", b"moov", b"mdat", b"wide", b"free", b"skip")

_EXIF_HEAD = b"Exif\0\0"
_XMP_HEAD = b"http://ns.adobe.com/xap/1.0/\0"
_MORE_XMP_HEAD = b"http://ns.adobe.com/xmp/extension/\0"
_PHOTOSHOP_HEAD = b"Photoshop 3.0\0"
_PNG = b"\x89PNG\r\n\x1a\n"

_PNG_CHUNK = re.compile(rb"eXIf|tEXt|zTXt|iTXt|IDAT|IEND")
_PNG_BLOCKS = (b"xml:com.adobe.xmp", b"raw profile type ")

_TOO_LARGE = "one of its blocks of metadata is too large and was left out"

_XMP_ID = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_CANON_ID = bytes.fromhex("85c0b687820f11e08111f4ce462b6a48")
_JP2_EXIF_ID = b"JpgTiffExif->JP2"
_JP2_IPTC_ID = bytes.fromhex("33c7a4d2b81d4723a0baf1a3e097ad38")

_OF_PDF = (b"http://ns.adobe.com/pdf/1.3/", b"application/pdf")
_IPTC_RESOURCE, _EXIF_RESOURCE, _XMP_RESOURCE = 0x0404, 0x0422, 0x0424


@dataclass
class Blocks:
    """What was found in a file, the first first.

    tiff: tags of EXIF. xmp: packets. iptc: IIM records. texts: of PNG, by keyword in lower case,
    and comments of GIF, by `comment`. problems: what was broken, for a person.
    """

    tiff: list[TiffTags] = field(default_factory=list)
    xmp: list[bytes] = field(default_factory=list)
    iptc: list[bytes] = field(default_factory=list)
    texts: dict[str, str | bytes] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def add_exif(self, block: bytes) -> None:
        """Read an EXIF block, with or without the head that JPEG gives it."""
        tiff = block.removeprefix(_EXIF_HEAD)
        if not is_tiff(tiff):
            self.problems.append("its EXIF block is damaged")
            return
        self.add_tags(read_tiff(io.BytesIO(tiff)))

    def add_tags(self, tags: TiffTags) -> None:
        """Take tags, and the blocks that are among them."""
        self.tiff.append(tags)
        if tags.is_damaged:
            self.problems.append("a part of its EXIF is damaged")
        for tag, into in ((XMP_PACKET, self.xmp), (IPTC_BLOCK, self.iptc)):
            if isinstance(block := tags.picture.get(tag), bytes):
                into.append(block)
        if isinstance(block := tags.picture.get(PHOTOSHOP_BLOCK), bytes):
            self.add_photoshop(block)

    def add_photoshop(self, data: bytes) -> None:
        """Take IPTC, EXIF and XMP from image resources, as Photoshop writes them."""
        at = 0
        while data[at : at + 4] == b"8BIM" and len(data) >= at + 8:
            resource = int.from_bytes(data[at + 4 : at + 6], "big")
            at += 6 + (data[at + 6] + 2) // 2 * 2  # a name with its length, padded to an even size
            size = int.from_bytes(data[at : at + 4], "big")
            block = data[at + 4 : at + 4 + size]
            at += 4 + size + size % 2
            if resource == _IPTC_RESOURCE:
                self.iptc.append(block)
            elif resource == _XMP_RESOURCE:
                self.xmp.append(block)
            elif resource == _EXIF_RESOURCE:
                self.add_exif(block)


def find_blocks(file: BinaryIO) -> Blocks:
    """Find the blocks of an open file by its content; a broken file gives those before its end."""
    blocks = Blocks()
    file.seek(0)
    head = file.read(32)
    try:
        if walk := _walk_of(head):
            walk(file, blocks)
    except (struct.error, zlib.error, OSError, ValueError, IndexError, OverflowError):
        blocks.problems.append("its metadata is damaged")
    return blocks


def find_pdf_packet(file: BinaryIO) -> bytes | None:
    """Find the XMP packet of a PDF document, not of a picture in it, near its begin or its end."""
    size = file.seek(0, os.SEEK_END)
    for start in (max(0, size - MOST_BLOCK_BYTES), 0):
        data = _read(file, start, MOST_BLOCK_BYTES)
        while (begin := data.rfind(b"<?xpacket begin")) >= 0:
            packet = data[begin : data.find(b"<?xpacket end", begin)]
            if any(sign in packet for sign in _OF_PDF):
                return packet
            data = data[:begin]
        if start == 0:
            break
    return None


def _walk_of(head: bytes) -> Callable[[BinaryIO, Blocks], None] | None:
    """Choose by the first bytes; None for files without such blocks."""
    if is_tiff(head):
        return _walk_tiff
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return _walk_webp
    if head[4:8] in _FIRST_BOXES:
        return _walk_boxes
    return next((walk for start, walk in _WALKS.items() if head.startswith(start)), None)


def _walk_tiff(file: BinaryIO, blocks: Blocks) -> None:
    blocks.add_tags(read_tiff(file))


def _walk_jpeg(file: BinaryIO, blocks: Blocks, start: int = 0) -> None:
    """Go through the segments before the first scan."""
    file.seek(start + 2)
    resources = b""
    more_xmp: dict[bytes, list[tuple[int, bytes]]] = {}
    for data in _segments(file):
        if data.startswith(_EXIF_HEAD):
            blocks.add_exif(data)
        elif data.startswith(_XMP_HEAD):
            blocks.xmp.append(data[len(_XMP_HEAD) :])
        elif data.startswith(_PHOTOSHOP_HEAD):
            resources += data[len(_PHOTOSHOP_HEAD) :]
        elif data.startswith(_MORE_XMP_HEAD):
            at = len(_MORE_XMP_HEAD)
            digest, whole, offset = struct.unpack_from(">32sII", data, at)
            if whole <= MOST_BLOCK_BYTES:
                more_xmp.setdefault(digest, []).append((offset, data[at + 40 :]))
    if resources:
        blocks.add_photoshop(resources)
    for parts in more_xmp.values():
        blocks.xmp.append(b"".join(part for _, part in sorted(parts)))


def _segments(file: BinaryIO) -> Iterator[bytes]:
    """Yield the application segments 1 and 13 of a JPEG from its position to its first scan."""
    for _ in range(_MOST_BLOCKS):
        head = file.read(4)
        while head[:2] == b"\xff\xff":  # padding
            head = head[1:] + file.read(1)
        if len(head) < 4 or head[0] != 0xFF or head[1] in {0xD9, 0xDA}:
            return
        size = int.from_bytes(head[2:], "big") - 2
        if head[1] in {0xE1, 0xED}:
            yield file.read(max(size, 0))
        else:
            file.seek(size, os.SEEK_CUR)


def _walk_png(file: BinaryIO, blocks: Blocks) -> None:
    file.seek(len(_PNG))
    left = 4 * MOST_BLOCK_BYTES
    end = file.seek(0, os.SEEK_END)
    at = len(_PNG)
    while len(head := _read(file, at, 8)) == 8:
        size, kind = struct.unpack(">I4s", head)
        if kind == b"IEND":
            break
        at += 8
        if at + size > end:
            blocks.problems.append("one of its chunks is damaged")
            at = _next_chunk(file, at)
            continue
        at += size + 4
        if kind not in {b"eXIf", b"tEXt", b"zTXt", b"iTXt"}:
            continue
        # A long text is cut, as it would be anyhow.
        data = file.read(min(size, left, MOST_BLOCK_BYTES))
        left -= len(data)
        if len(data) < size and (kind == b"eXIf" or data.lower().startswith(_PNG_BLOCKS)):
            blocks.problems.append(_TOO_LARGE)
        elif kind == b"eXIf":
            blocks.add_exif(data)
        else:
            _add_png_text(kind, data, blocks)


def _add_png_text(kind: bytes, data: bytes, blocks: Blocks) -> None:
    """Take the text of a chunk, or the block that is written as one."""
    try:
        key, text = _png_text(kind, data)
        if len(text) >= MOST_BLOCK_BYTES and key.encode().startswith(_PNG_BLOCKS):
            blocks.problems.append(_TOO_LARGE)
        elif key == "xml:com.adobe.xmp":
            blocks.xmp.append(text.encode() if isinstance(text, str) else text)
        elif key.startswith("raw profile type "):
            _add_raw_profile(key.rpartition(" ")[2], text, blocks)
        else:
            blocks.texts.setdefault(key, text)
    except (ValueError, zlib.error, IndexError):
        blocks.problems.append("one of its texts is damaged")


def _next_chunk(file: BinaryIO, at: int) -> int:
    """Find the next chunk behind one whose size is wrong; behind the end where there is none."""
    found = _PNG_CHUNK.search(_read(file, at, MOST_BLOCK_BYTES))
    return at + found.start() - 4 if found else at + MOST_BLOCK_BYTES


def _png_text(kind: bytes, data: bytes) -> tuple[str, str | bytes]:
    """Return keyword and text: as text where the chunk is UTF-8 by its kind, else as bytes."""
    name, _, rest = data.partition(b"\0")
    key = name.decode("latin-1").lower()
    if kind == b"tEXt":
        return key, rest
    if kind == b"zTXt":
        return key, _unpacked(rest[1:])
    packed, rest = rest[0], rest[2:]
    text = rest.split(b"\0", 2)[2]
    return key, (_unpacked(text) if packed else text).decode(errors="replace")


def _unpacked(data: bytes) -> bytes:
    """Decompress as much as a block may have: a text that goes on behind that is cut."""
    return zlib.decompressobj().decompress(data, MOST_BLOCK_BYTES)


def _add_raw_profile(kind: str, text: str | bytes, blocks: Blocks) -> None:
    """Take a block in hexadecimal digits behind its name and size, as ImageMagick writes it."""
    written = text.decode("latin-1") if isinstance(text, bytes) else text
    block = bytes.fromhex(written.strip().split("\n", 2)[2])
    if kind in {"exif", "app1"}:
        if block.startswith(_XMP_HEAD):
            blocks.xmp.append(block[len(_XMP_HEAD) :])
        else:
            blocks.add_exif(block)
    elif kind == "xmp":
        blocks.xmp.append(block)
    elif kind in {"iptc", "8bim"}:
        if block.startswith(b"8BIM"):
            blocks.add_photoshop(block)
        else:
            blocks.iptc.append(block)


def _walk_webp(file: BinaryIO, blocks: Blocks) -> None:
    file.seek(12)
    for _ in range(_MOST_BLOCKS):
        head = file.read(8)
        if len(head) < 8:
            break
        kind, size = struct.unpack("<4sI", head)
        if kind in {b"EXIF", b"XMP "} and size <= MOST_BLOCK_BYTES:
            data = file.read(size)
            file.seek(size % 2, os.SEEK_CUR)
            if kind == b"EXIF":
                blocks.add_exif(data)
            else:
                blocks.xmp.append(data)
        else:
            file.seek(size + size % 2, os.SEEK_CUR)


def _walk_gif(file: BinaryIO, blocks: Blocks) -> None:
    file.seek(10)
    flags = file.read(3)[0]
    file.seek(_color_bytes(flags), os.SEEK_CUR)
    for _ in range(_MOST_BLOCKS):
        kind = file.read(1)
        if kind == b"!":
            label = file.read(1)
            start = file.tell()
            data = b"".join(_sub_blocks(file))
            if label == b"\xfe":
                blocks.texts.setdefault("comment", data)
            elif label == b"\xff" and data.startswith(b"XMP DataXMP"):
                # The packet itself takes the place of sub-blocks, with a tail that ends any walk.
                end = file.tell()
                file.seek(start + 12)
                packet = file.read(min(end - start, MOST_BLOCK_BYTES))
                blocks.xmp.append(packet.partition(b"\x01\xff\xfe\xfd")[0])
                file.seek(end)
        elif kind == b",":
            flags = file.read(9)[8]
            file.seek(_color_bytes(flags) + 1, os.SEEK_CUR)
            for _ in _sub_blocks(file):
                pass
        else:
            break


def _color_bytes(flags: int) -> int:
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _sub_blocks(file: BinaryIO) -> Iterator[bytes]:
    for _ in range(2 * _MOST_BLOCKS):
        size = file.read(1)
        if size in {b"", b"\0"}:
            return
        yield file.read(size[0])
    raise ValueError("too many blocks")


def _walk_fuji(file: BinaryIO, blocks: Blocks) -> None:
    """Read the EXIF of the JPEG that Fujifilm's RAW files hold."""
    file.seek(84)
    _walk_jpeg(file, blocks, struct.unpack(">I", file.read(4))[0])


def _walk_minolta(file: BinaryIO, blocks: Blocks) -> None:
    file.seek(8)
    for _ in range(100):
        kind, size = struct.unpack(">4sI", file.read(8))
        if kind == b"\0TTW":
            blocks.add_tags(read_tiff(file, file.tell()))
            break
        file.seek(size, os.SEEK_CUR)


def _walk_photoshop(file: BinaryIO, blocks: Blocks) -> None:
    file.seek(26)
    file.seek(struct.unpack(">I", file.read(4))[0], os.SEEK_CUR)
    size = struct.unpack(">I", file.read(4))[0]
    blocks.add_photoshop(file.read(min(size, MOST_BLOCK_BYTES)))


def _walk_boxes(file: BinaryIO, blocks: Blocks) -> None:
    """Go through the boxes of ISO base media, QuickTime, JPEG 2000 and JPEG XL."""
    pending = [(0, file.seek(0, os.SEEK_END))]
    seen = 0
    while pending:
        for kind, start, end in _boxes(file, *pending.pop(0)):
            seen += 1
            if seen > _MOST_BLOCKS:
                raise ValueError("too many boxes")
            if kind in {b"moov", b"udta"} or (
                kind == b"uuid" and _read(file, start, 16) == _CANON_ID
            ):
                pending.append((start + 16 if kind == b"uuid" else start, end))
            elif kind in {b"CMT1", b"CMT2"}:
                blocks.add_tags(read_tiff(file, start))
            elif kind == b"CMT4":
                blocks.tiff.append(TiffTags(place=read_place_directory(file, start)))
            elif kind == b"meta":
                _add_items(file, blocks, start + 4, end)
            elif kind in {b"uuid", b"XMP_", b"xml ", b"Exif"} and end - start <= MOST_BLOCK_BYTES:
                _add_box(blocks, kind, _read(file, start, end - start))


def _add_box(blocks: Blocks, kind: bytes, data: bytes) -> None:
    if kind == b"Exif":  # of JPEG XL, behind an offset
        blocks.add_exif(data[4:])
    elif kind != b"uuid":
        blocks.xmp.append(data)
    elif data.startswith(_XMP_ID):
        blocks.xmp.append(data[16:])
    elif data.startswith(_JP2_EXIF_ID):
        blocks.add_exif(data[16:])
    elif data.startswith(_JP2_IPTC_ID):
        blocks.iptc.append(data[16:])


def _boxes(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, begin and end of the content of each box between two offsets."""
    at = start
    while at + 8 <= end:
        size, kind = struct.unpack(">I4s", _read(file, at, 8))
        inner = at + 8
        if size == 1:
            size = struct.unpack(">Q", _read(file, inner, 8))[0]
            inner += 8
        elif size == 0:
            size = end - at
        if size < inner - at:
            return
        yield kind, inner, min(at + size, end)
        at += size


def _add_items(file: BinaryIO, blocks: Blocks, start: int, end: int) -> None:
    """Take the EXIF and XMP items of a HEIF or AVIF file (ISO 14496-12, 8.11)."""
    boxes = {kind: (inner, stop) for kind, inner, stop in _boxes(file, start, end)}
    if b"iinf" not in boxes or b"iloc" not in boxes:
        return
    kinds = _item_kinds(file, *boxes[b"iinf"])
    data_start = boxes.get(b"idat", (0, 0))[0]
    inner, stop = boxes[b"iloc"]
    iloc = _read(file, inner, min(stop - inner, MOST_BLOCK_BYTES))
    for item, extents in _extents(iloc, set(kinds), data_start):
        if sum(size for _, size in extents) > MOST_BLOCK_BYTES:
            continue
        data = b"".join(_read(file, offset, size) for offset, size in extents)
        if kinds[item] == b"Exif":
            blocks.add_exif(data[4 + int.from_bytes(data[:4], "big") :])
        else:
            blocks.xmp.append(data)


def _item_kinds(file: BinaryIO, start: int, end: int) -> dict[int, bytes]:
    """Return which items are EXIF, and which XMP."""
    version = _read(file, start, 1)[0]
    kinds = {}
    boxes = _boxes(file, start + (6 if version == 0 else 8), end)
    for _, inner, stop in itertools.islice(boxes, _MOST_BLOCKS):
        entry = _read(file, inner, min(stop - inner, 300))
        wide = entry[0] >= 3
        item = int.from_bytes(entry[4 : 8 if wide else 6], "big")
        kind, rest = (entry[10:14], entry[14:]) if wide else (entry[8:12], entry[12:])
        if kind == b"Exif" or (kind == b"mime" and b"application/rdf+xml" in rest):
            kinds[item] = kind
    return kinds


def _extents(
    iloc: bytes, wanted: set[int], data_start: int
) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    """Yield where in the file some items lie: offsets and sizes in bytes."""
    version = iloc[0]
    offset_size, length_size = iloc[4] >> 4, iloc[4] & 15
    base_size, index_size = iloc[5] >> 4, (iloc[5] & 15 if version in {1, 2} else 0)
    file = io.BytesIO(iloc[6:])

    def number(size: int) -> int:
        return int.from_bytes(file.read(size), "big")

    for _ in range(min(number(4 if version == 2 else 2), _MOST_BLOCKS)):
        item = number(4 if version == 2 else 2)
        method = number(2) & 15 if version in {1, 2} else 0
        number(2)
        base = number(base_size) + (data_start if method == 1 else 0)
        extents = []
        for _ in range(number(2)):
            number(index_size)
            extents.append((base + number(offset_size), number(length_size)))
        if item in wanted and method in {0, 1}:
            yield item, extents


def _read(file: BinaryIO, offset: int, size: int) -> bytes:
    file.seek(offset)
    return file.read(size)


_WALKS: dict[bytes, Callable[[BinaryIO, Blocks], None]] = {
    b"\xff\xd8": _walk_jpeg,
    _PNG: _walk_png,
    b"GIF87a": _walk_gif,
    b"GIF89a": _walk_gif,
    b"FUJIFILMCCD-RAW": _walk_fuji,
    b"\0MRM": _walk_minolta,
    b"8BPS": _walk_photoshop,
}
"""By the first bytes of a file."""

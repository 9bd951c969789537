import io
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from retrieval.media.blocks import MOST_BLOCK_BYTES, Blocks, find_blocks, find_pdf_packet

PACKET = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"
IIM = b"\x1c\x02\x19\x00\x03dog"
RESOURCES = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(IIM)) + IIM + b"8BIM"
XMP_ID = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")


def exif_block() -> bytes:
    exif = Image.Exif()
    exif[271] = "Acme"
    return exif.tobytes()


EXIF = exif_block()
TIFF = EXIF[6:]


def encoded(kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (16, 16), "red").save(file, kind, **options)
    return file.getvalue()


def segment(marker: int, data: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


def jpeg(*segments: bytes) -> bytes:
    plain = encoded("JPEG")
    return plain[:2] + b"".join(segments) + plain[2:]


def box(kind: bytes, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return struct.pack(">I4s", len(content) + 8, kind) + content


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def heif() -> bytes:
    """The boxes of a HEIC file with an EXIF and an XMP item, one of them in the item data box."""
    exif = struct.pack(">I", 0) + TIFF
    ftyp = box(b"ftyp", b"heic\0\0\0\0heic")
    mdat = box(b"mdat", exif)
    infe = [
        box(b"infe", b"\2\0\0\0", struct.pack(">HH", 1, 0), b"Exif\0"),
        box(b"infe", b"\2\0\0\0", struct.pack(">HH", 2, 0), b"mime\0application/rdf+xml\0"),
    ]
    iinf = box(b"iinf", b"\0\0\0\0\0\2", *infe)
    where = [(1, 0, len(ftyp) + 8, len(exif)), (2, 1, 0, len(PACKET))]
    entries = [struct.pack(">HHHHII", item, how, 0, 1, at, size) for item, how, at, size in where]
    iloc = box(b"iloc", b"\1\0\0\0\x44\0\0\2", *entries)
    return ftyp + mdat + box(b"meta", b"\0\0\0\0", iinf, iloc, box(b"idat", PACKET))


def canon() -> bytes:
    identity = bytes.fromhex("85c0b687820f11e08111f4ce462b6a48")
    shot = b"II*\0" + struct.pack("<IHHHII", 8, 1, 36867, 2, 20, 26) + bytes(4)
    shot += b"2019:07:14 09:30:00\0"
    place = b"II*\0" + struct.pack("<IHHHI4s", 8, 1, 1, 2, 2, b"N\0\0\0") + bytes(4)
    inner = box(b"CMT1", TIFF) + box(b"CMT2", shot) + box(b"CMT4", place)
    moov = box(b"moov", box(b"uuid", identity, inner))
    return box(b"ftyp", b"crx \0\0\0\1crx isom") + moov + box(b"uuid", XMP_ID, PACKET)


def gif(comment: bytes = b"") -> bytes:
    plain = encoded("GIF", comment=comment)
    tail = b"\1" + bytes(range(255, -1, -1)) + b"\0"
    return plain[:-1] + b"!\xff\x0bXMP DataXMP" + PACKET + tail + b";"


def fuji() -> bytes:
    inner = jpeg(segment(0xE1, EXIF))
    return (
        b"FUJIFILMCCD-RAW ".ljust(84, b"\0")
        + struct.pack(">II", 100, len(inner))
        + bytes(8)
        + inner
    )


MAKERS = {
    "jpeg": jpeg(
        segment(0xE1, EXIF),
        segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + PACKET),
        b"\xff",
        segment(0xED, b"Photoshop 3.0\0" + RESOURCES),
    ),
    "png": encoded("PNG")[:-12] + chunk(b"eXIf", TIFF) + encoded("PNG")[-12:],
    "webp": encoded("WEBP", exif=EXIF, xmp=PACKET),
    "tiff": encoded("TIFF", tiffinfo={271: "Acme", 700: PACKET, 33723: IIM}),
    "heif": heif(),
    "avif": encoded("AVIF", exif=EXIF, xmp=PACKET),
    "canon": canon(),
    "fuji": fuji(),
    "minolta": b"\0MRM"
    + bytes(4)
    + b"\0PRD\0\0\0\4abcd\0TTW"
    + struct.pack(">I", len(TIFF))
    + TIFF,
    "jp2": box(b"jP  ", b"\r\n\x87\n") + box(b"uuid", b"JpgTiffExif->JP2", TIFF),
    "jxl": box(b"JXL ", b"\r\n\x87\n") + box(b"Exif", bytes(4), TIFF) + box(b"xml ", PACKET),
    "photoshop": b"8BPS" + bytes(22 + 4) + struct.pack(">I", len(RESOURCES)) + RESOURCES,
    "gif": gif(b"a red square"),
    "mp4": box(b"ftyp", b"isom") + box(b"moov", box(b"udta", box(b"XMP_", PACKET))),
}
WITHOUT_EXIF = {"gif", "photoshop", "mp4"}
WITH_XMP = {"jpeg", "webp", "tiff", "heif", "avif", "canon", "jxl", "gif", "mp4"}
WITH_IPTC = {"jpeg", "tiff", "photoshop"}


@pytest.mark.parametrize("kind", MAKERS)
def test_blocks_of_every_container(kind):
    found = find_blocks(io.BytesIO(MAKERS[kind]))
    makers = [tags.picture[271] for tags in found.tiff if 271 in tags.picture]
    assert makers == ([] if kind in WITHOUT_EXIF else [b"Acme\0"])
    assert found.xmp == ([PACKET] if kind in WITH_XMP else [])
    assert [block.rstrip(b"\0") for block in found.iptc] == ([IIM] if kind in WITH_IPTC else [])
    assert found.problems == []


def test_date_and_place_of_canon_come_from_blocks_of_their_own():
    found = find_blocks(io.BytesIO(canon()))
    assert [tags.picture.get(36867) for tags in found.tiff][1] == b"2019:07:14 09:30:00\0"
    assert found.tiff[2].place == {1: b"N\0"}


def test_comments_and_texts():
    assert find_blocks(io.BytesIO(gif(b"hello"))).texts == {"comment": b"hello"}
    info = PngImagePlugin.PngInfo()
    info.add_text("Creation Time", "2015:08:22")
    info.add_text("Comment", "packed", zip=True)
    info.add_itxt("Title", "雪", zip=True)
    assert find_blocks(io.BytesIO(encoded("PNG", pnginfo=info))).texts == {
        "creation time": b"2015:08:22",
        "comment": b"packed",
        "title": "雪",
    }


@pytest.mark.parametrize("kind", ["exif", "APP1", "iptc", "8bim", "xmp"])
def test_raw_profiles_of_png(kind):
    block = {"iptc": IIM, "8bim": RESOURCES, "xmp": PACKET}.get(kind, EXIF)
    info = PngImagePlugin.PngInfo()
    info.add_text(f"Raw profile type {kind}", f"\n{kind} data\n{len(block):8}\n{block.hex()}\n")
    found = find_blocks(io.BytesIO(encoded("PNG", pnginfo=info)))
    assert len(found.tiff + found.xmp + found.iptc) == 1
    assert found.problems == []


def test_extended_xmp_is_put_together():
    parts = [
        segment(
            0xE1,
            b"http://ns.adobe.com/xmp/extension/\0" + b"A" * 32 + struct.pack(">II", 8, at) + part,
        )
        for at, part in ((4, b"tail"), (0, b"head"))
    ]
    assert find_blocks(io.BytesIO(jpeg(*parts))).xmp == [b"headtail"]


def test_damaged_exif_is_told_and_the_rest_is_read():
    data = jpeg(
        segment(0xE1, b"Exif\0\0garbage"),
        segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + PACKET),
    )
    found = find_blocks(io.BytesIO(data))
    assert found.xmp == [PACKET]
    assert found.problems == ["its EXIF block is damaged"]


@pytest.mark.parametrize(
    "block",
    [
        TIFF[:12],
        TIFF[: TIFF.index(b"Acme")],
        b"II*\0\xff\xff\xff\x7f",
        b"II*\0\x08\0\0\0",
        TIFF[:10] + bytes(len(TIFF) - 10),
    ],
    ids=["cut directory", "cut value", "points outside", "nothing behind", "zeros"],
)
def test_exif_that_is_damaged_inside_is_told(block):
    whole = jpeg(segment(0xE1, b"Exif\0\0" + TIFF))
    assert find_blocks(io.BytesIO(whole)).problems == []
    found = find_blocks(io.BytesIO(jpeg(segment(0xE1, b"Exif\0\0" + block))))
    assert found.problems == ["a part of its EXIF is damaged"]


def png_with(*chunks: bytes) -> Blocks:
    plain = encoded("PNG")
    return find_blocks(io.BytesIO(plain[:33] + b"".join(chunks) + plain[33:]))


LONG = b"word " * (MOST_BLOCK_BYTES // 4)
XMP_TEXT = b"XML:com.adobe.xmp\0"


@pytest.mark.parametrize(
    ("large", "problem"),
    [
        (chunk(b"tEXt", b"Comment\0" + LONG), None),
        (chunk(b"zTXt", b"Comment\0\0" + zlib.compress(LONG)), None),
        (chunk(b"tEXt", b"workflow\0" + LONG), None),
        (chunk(b"iTXt", XMP_TEXT + b"\0\0\0\0" + LONG), "too large"),
        (chunk(b"iTXt", XMP_TEXT + b"\1\0\0\0" + zlib.compress(LONG)), "too large"),
        (struct.pack(">I4s", 2_000_000_000, b"tEXt") + b"Comment\0Hello1234", "damaged"),
    ],
    ids=["comment", "compressed", "unknown", "XMP", "compressed XMP", "size beyond the end"],
)
def test_a_large_chunk_of_png_costs_no_other(large, problem):
    found = png_with(large, chunk(b"eXIf", TIFF), chunk(b"tEXt", b"Title\0Snow"))
    assert [tags.picture[271] for tags in found.tiff] == [b"Acme\0"]
    assert found.texts["title"] == b"Snow"
    assert found.texts.get("comment", b"word ")[:5] == b"word "
    assert [problem in told for told in found.problems] == ([True] if problem else [])


def test_a_text_that_unpacks_to_much_is_cut():
    bomb = b"Comment\0\0" + zlib.compress(bytes(40 << 20))
    data = encoded("PNG")[:-12] + chunk(b"zTXt", bomb) + encoded("PNG")[-12:]
    assert len(find_blocks(io.BytesIO(data)).texts["comment"]) == MOST_BLOCK_BYTES


def test_boxes_without_end_are_bounded():
    data = box(b"ftyp", b"isom") + box(b"free") * 20_000
    assert find_blocks(io.BytesIO(data)).problems == ["its metadata is damaged"]


def test_the_packet_of_a_document_and_not_of_its_picture():
    def wrapped(inner: bytes) -> bytes:
        return b"<?xpacket begin=''?>" + inner + b"<?xpacket end='w'?>"

    own = wrapped(b"<a xmlns:pdf='http://ns.adobe.com/pdf/1.3/'/>")
    data = b"%PDF-1.7\n" + own + b" x " + wrapped(b"<picture/>") + b"%%EOF"
    assert find_pdf_packet(io.BytesIO(data)) == own[: -len(b"<?xpacket end='w'?>")]
    assert find_pdf_packet(io.BytesIO(b"%PDF-1.7")) is None


@pytest.mark.parametrize("kind", MAKERS)
@given(data=st.data())
def test_broken_files_never_raise(kind, data):
    content = bytearray(MAKERS[kind])
    places = st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255))
    for position, value in data.draw(st.lists(places, max_size=10)):
        content[position] = value
    find_blocks(io.BytesIO(bytes(content[: data.draw(st.integers(0, len(content)))])))

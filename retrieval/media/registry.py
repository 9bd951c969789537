"""The registry of file formats that can be indexed: one `Format` object a format.

To add one, add a `Format` here, and its reader in `indexer.decode` where the usual reader
of its kind does not read it. Nothing else lists endings or signatures.
"""

import os
import re
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, BinaryIO

from retrieval.media import MediaKind, Modality

if TYPE_CHECKING:
    from PIL import Image

    from retrieval.catalog import Item

UNKNOWN_TYPE = "application/octet-stream"

Renderer = Callable[[str | BinaryIO, "Item", int | None, int | None], "Image.Image"]
"""Renders an item from its file as RGB: path or open file, item, least side in pixels or None, and
limit of pixels or None for the default."""


def _render_image(
    source: str | BinaryIO, item: "Item", least_side: int | None, max_pixels: int | None
) -> "Image.Image":
    from retrieval.media.images import read_image

    return read_image(
        source,
        name=item.path,
        least_side=least_side,
        max_pixels=max_pixels,
        page=item.page or 1,
    )


def _render_sound(
    source: str | BinaryIO, item: "Item", _least_side: int | None, _max_pixels: int | None
) -> "Image.Image":
    from retrieval.media.waveform import draw_sound

    return draw_sound(source, item.time_s or 0.0, item.end_s)


def _render_frame(
    source: str | BinaryIO, item: "Item", least_side: int | None, max_pixels: int | None
) -> "Image.Image":
    if item.modality is Modality.AUDIO:
        return _render_sound(source, item, least_side, max_pixels)
    from retrieval.media.video import frame_at

    return frame_at(source, item.time_s or 0.0, max_pixels=max_pixels)


def _render_page(
    source: str | BinaryIO, item: "Item", least_side: int | None, _max_pixels: int | None
) -> "Image.Image":
    from retrieval.media.pdf import LONGER_SIDE, MAX_LONGER_SIDE, render_page

    longer_side = max(LONGER_SIDE, min(least_side or 0, MAX_LONGER_SIDE))
    return render_page(source, item.page or 1, longer_side)


@dataclass(frozen=True, slots=True)
class Format:
    """A file format.

    name: as Pillow spells it, of images that Pillow decodes.
    endings: of file names, in lower case with the dot; uploads without one of them get the first.
    content_type: for HTTP. HTML and other markup is plain text, so that no browser runs it.
    magic: regular expression of a file's first bytes; empty: detected by the file's name.
    kind: the family that users filter by.
    render: decodes an item's image, frame or page, or draws its sound; None: its items have no
        images.
    extra: of the packages that read it, as in `pip install 'mmsearch[pdf]'`.
    only_signed: a folder's files of these endings are taken only if they have the signature, since
        other formats share the endings.
    no_upload: why a service takes no uploads of it, as the end of "is HTML, which ..."; None: it
        takes them.
    """

    name: str
    endings: tuple[str, ...]
    content_type: str = UNKNOWN_TYPE
    magic: bytes = b""
    _: KW_ONLY
    kind: MediaKind
    render: Renderer | None = None
    extra: str | None = None
    no_upload: str | None = None
    only_signed: bool = False

    def begins(self, head: bytes) -> bool:
        """Return whether a file with these first bytes has the format's signature."""
        return bool(self.magic) and _signature(self.magic).match(head) is not None


@cache
def _signature(magic: bytes) -> re.Pattern[bytes]:
    return re.compile(magic, re.DOTALL)


_image = partial(Format, kind=MediaKind.IMAGE, render=_render_image)
_video = partial(Format, kind=MediaKind.VIDEO, render=_render_frame, extra="video")
_audio = partial(Format, kind=MediaKind.AUDIO, render=_render_sound, extra="audio")
_text = partial(Format, content_type="text/plain; charset=utf-8", kind=MediaKind.TEXT)
_table = partial(_text, kind=MediaKind.TABLE, no_upload="describes other files")

TIFF = _image("TIFF", (".tif", ".tiff"), "image/tiff", rb"II[*+]\0|MM\0[*+]")
HEIC = _image("HEIC", (".heic", ".heics"), "image/heic", rb".{4}ftyphe[iv]", extra="heic")
HEIF = _image(
    "HEIF",
    (".heif", ".heifs", ".hif"),
    "image/heif",
    rb".{4}ftyp(?:mif1|msf1)(?!.{4}(?:.{4}){0,11}?avif)",
    extra="heic",
)
JPEG_XL = _image(
    "JXL",
    (".jxl",),
    "image/jxl",
    rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n",
    extra="jxl",
)
SVG = _image(
    "SVG",
    (".svg", ".svgz"),
    "image/svg+xml",
    rb"(?:\xef\xbb\xbf)?\s*(?=<).*?<(?:[\w-]+:)?svg[\s>]",
    extra="svg",
    no_upload="can carry scripts",
)
# Told by name: many are TIFF inside, of which Pillow would read a stamp.
RAW = _image(
    "camera RAW",
    tuple(
        re.findall(
            r"\S+",
            ".3fr .arw .cr2 .cr3 .crw .dcr .dng .erf .fff .iiq .k25 .kdc .mef .mos .mrw .nef .nrw"
            " .orf .pef .raf .rw2 .rwl .sr2 .srf .srw .x3f",
        )
    ),
    extra="raw",
)
PDF = Format(
    "PDF",
    (".pdf",),
    "application/pdf",
    rb".{0,1019}%PDF-",
    kind=MediaKind.DOCUMENT,
    render=_render_page,
    extra="pdf",
)
MARKDOWN = _text("Markdown", (".md", ".markdown"))
HTML = _text("HTML", (".html", ".htm", ".xhtml"), no_upload="can carry scripts")
JSON_LINES = _table("JSON Lines", (".jsonl", ".ndjson"))
JSON_ARRAY = _table(
    "JSON array", (".json",), magic=rb"(?:\xef\xbb\xbf)?\s*\[\s*\{", only_signed=True
)
CSV = _table("CSV", (".csv",))
TSV = _table("TSV", (".tsv",))
PARQUET = _table("Parquet", (".parquet",), content_type=UNKNOWN_TYPE, extra="tables")

UNNAMED_IMAGE = _image("image", ())
"""The format of a file that was given as a source and whose name has no known ending."""

# Name and endings. Nothing that Pillow names but cannot draw by itself: EPS, which would start an
# interpreter, WMF, MPEG, FITS, HDF5, BUFR and GRIB.
_RARE_IMAGES = (
    "BLP.blp CUR.cur DCX.dcx DDS.dds DIB.dib FLI.fli.flc FTEX.ftc.ftu GBR.gbr ICNS.icns ICO.ico"
    " IM.im IPTC.iim MSP.msp PCD.pcd PCX.pcx PIXAR.pxr PPM.ppm.pbm.pfm.pgm.pnm PSD.psd QOI.qoi"
    " SGI.sgi.bw.rgb.rgba SUN.ras TGA.tga.icb.vda.vst XBM.xbm XPM.xpm"
)

FORMATS: list[Format] = []
"""Every format, in the order in which signatures are compared: the first that fits tells."""
_by_ending: dict[str, Format] = {}


def register(*formats: Format) -> None:
    """Add formats; their signatures are compared after those of earlier ones."""
    FORMATS.extend(formats)
    _by_ending.update((ending, one) for one in formats for ending in one.endings)


register(
    _image("JPEG", (".jpg", ".jpeg", ".jpe", ".jfif"), "image/jpeg", rb"\xff\xd8\xff"),
    _image("PNG", (".png", ".apng"), "image/png", rb"\x89PNG\r\n\x1a\n"),
    _image("GIF", (".gif",), "image/gif", rb"GIF8[79]a"),
    _image("WEBP", (".webp",), "image/webp", rb"RIFF.{4}WEBP"),
    # With the size of the header that follows: many a text begins with BM.
    _image("BMP", (".bmp",), "image/bmp", rb"BM.{12}[\x0c-\x80]\0\0\0"),
    TIFF,
    _image(
        "AVIF",
        (".avif", ".avifs"),
        "image/avif",
        rb".{4}ftypavi[fs]|.{4}ftyp(?:mif1|msf1).{4}(?:.{4}){0,11}?avif",
    ),
    HEIC,
    HEIF,
    JPEG_XL,
    _image(
        "JPEG2000",
        (".jp2", ".j2c", ".j2k", ".jpc", ".jpf", ".jpx"),
        "image/jp2",
        rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51",
    ),
    SVG,
    RAW,
    *(
        _image(
            name,
            tuple(f".{ending}" for ending in endings),
            no_upload="is no format that people share photos in",
        )
        for name, *endings in (one.split(".") for one in _RARE_IMAGES.split())
    ),
    _audio("WAVE", (".wav", ".wave"), "audio/wav", rb"(?:RIFF|RF64).{4}WAVE"),
    _audio("FLAC", (".flac",), "audio/flac", rb"fLaC"),
    # Streams of these codecs alone; beside video they come second.
    _audio(
        "Ogg audio",
        (".ogg", ".oga", ".opus", ".spx"),
        "audio/ogg",
        rb"OggS.{24}(?:\x01vorbis|OpusHead|\x7fFLAC|Speex   )",
    ),
    _audio("M4A", (".m4a", ".m4b"), "audio/mp4", rb".{4}ftypM4[AB] "),
    _audio("AIFF", (".aif", ".aiff", ".aifc"), "audio/aiff", rb"FORM.{4}AIF[FC]"),
    # A header of ASF that declares a stream of sound, and none of video.
    _audio(
        "WMA",
        (".wma",),
        "audio/x-ms-wma",
        rb"\x30\x26\xb2\x75(?!.*\xc0\xef\x19\xbc\x4d\x5b\xcf\x11)"
        rb".*\x40\x9e\x69\xf8\x4d\x5b\xcf\x11",
    ),
    _video("QuickTime", (".mov", ".qt"), "video/quicktime", rb".{4}ftypqt  "),
    _video("MP4", (".mp4", ".m4v", ".3gp", ".3g2", ".f4v"), "video/mp4", rb".{4}ftyp(?!crx )"),
    _video("WebM", (".webm",), "video/webm", rb"\x1a\x45\xdf\xa3.{0,56}webm"),
    _video("Matroska", (".mkv", ".mk3d"), "video/x-matroska", rb"\x1a\x45\xdf\xa3"),
    _video("AVI", (".avi", ".divx"), "video/x-msvideo", rb"RIFF.{4}AVI "),
    _video(
        "MPEG",
        (".mpg", ".mpeg", ".mpe", ".m1v", ".m2v", ".vob"),
        "video/mpeg",
        rb"\0\0\x01[\xba\xb3]",
    ),
    # Modules of Go, of Fortran and of trackers have this ending, too.
    _video("MPEG of camcorders", (".mod",), "video/mpeg", rb"\0\0\x01\xba", only_signed=True),
    # Not `.ts`: most files of that name are TypeScript. Packets of 188 bytes, or 4 more for a time.
    _video(
        "MPEG-TS",
        (".mts", ".m2ts", ".m2t", ".tod"),
        "video/mp2t",
        rb"G.{187}G.{187}G|.{4}G.{191}G.{191}G",
    ),
    _video("Ogg", (".ogv",), "video/ogg", rb"OggS"),
    _video("FLV", (".flv",), "video/x-flv", rb"FLV\x01"),
    _video("WMV", (".wmv", ".asf"), "video/x-ms-wmv", rb"\x30\x26\xb2\x75"),
    # After all others: two bytes tell little. ID3 tags stand before AAC and FLAC, too.
    _audio("MP3", (".mp3", ".mp2"), "audio/mpeg", rb"ID3[\x02-\x04]|\xff[\xfa-\xfd\xf2-\xf5]"),
    _audio("AAC", (".aac",), "audio/aac", rb"\xff[\xf0\xf1\xf8\xf9]"),
    PDF,
    _text("plain text", (".txt", ".text")),
    MARKDOWN,
    _text("reStructuredText", (".rst",)),
    HTML,
    JSON_LINES,
    JSON_ARRAY,
    CSV,
    TSV,
    PARQUET,
)


def format_of(name: str) -> Format | None:
    """Return the format of a file name's ending, in any case; None: it cannot be indexed."""
    return _by_ending.get(os.path.splitext(name)[1].lower())  # noqa: PTH122 - may not be valid text


def kind_of(name: str) -> MediaKind | None:
    """Return the kind of a file name's ending, in any case; None: it cannot be indexed."""
    found = format_of(name)
    return None if found is None else found.kind


def format_of_indexed(path: str) -> Format:
    """Return the format of an indexed file by its name; without a known ending it is an image."""
    return format_of(path) or UNNAMED_IMAGE


def is_svg(head: bytes, name: str) -> bool:
    """Return whether a file with these first bytes (some thousand) and this name may be an SVG."""
    begins = (b"<", b"\x1f\x8b", b"\xff\xfe", b"\xfe\xff")  # XML, compressed, in UTF-16
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    return SVG.begins(head) or (format_of(name) is SVG and text.startswith(begins))


def read_head(file: BinaryIO) -> bytes:
    """Read the first 4,096 bytes of an open file, which show its format; rewinds it."""
    file.seek(0)
    head = file.read(4096)
    file.seek(0)
    return head


def format_of_content(head: bytes, name: str, kind: MediaKind | None = None) -> Format | None:
    """Detect a file's format by its content, and by its name for formats without a signature.

    Args:
        head: What `read_head` gives of the file.
        name: Name or path of the file.
        kind: What it was indexed as; None: it may be of any kind.
    """
    signed = next((one for one in FORMATS if kind in {None, one.kind} and one.begins(head)), None)
    named = format_of(name)
    if named is None or named.magic or kind not in {None, named.kind}:
        return signed
    return named if signed is None or (named is RAW and signed is TIFF) else signed

"""Read PDF documents: an image and the text of each page."""

import re
from datetime import UTC, datetime, timedelta, timezone

from indexer.media.base import Decoded, Locator, Piece, ReadOptions
from retrieval.errors import UnreadableFileError
from retrieval.media import NO_METADATA, Metadata, Modality, clock_seconds, metadata_notes
from retrieval.media.blocks import Blocks, find_pdf_packet
from retrieval.media.dates import parse_date
from retrieval.media.exif import descriptions_of, joined, metadata_of
from retrieval.media.images import reduced
from retrieval.media.pdf import Document, open_document
from retrieval.objects.opening import open_path

_PAGES_A_CALL = 16
_MOST_TEXT = 10_000
_PDF_DATE = re.compile(
    r"(?:D:)?(\d{4})(\d\d)?(\d\d)?(\d\d)?(\d\d)?(\d\d)?(?:(Z)|([+-])(\d\d)'?(\d\d)?)?"
)


def read(path: str, start: int, options: ReadOptions) -> Decoded:
    """Render pages and extract their text, at most 16 a call, after the first `start` pages.

    A page gives a picture and, if it has any, its text, both of the same part. Pages that cannot be
    read are noted. Raises as the readers of `indexer.media.base` do; UnreadableFileError too
    when not one of the first 16 pages can be read.
    """
    pieces: list[Piece] = []
    notes: list[str] = []
    problem = "has no pages"
    with open_document(path) as document:
        end = min(start + _PAGES_A_CALL, len(document))
        for page in range(start + 1, end + 1):
            try:
                pieces += _page(document, page, options)
            except UnreadableFileError as error:
                problem = str(error)
                notes.append(f"page {page} could not be read: {problem}")
        if not pieces and start == 0:
            raise UnreadableFileError(problem)
        go_on = end if end < len(document) else None
        metadata: Metadata = NO_METADATA
        if start == 0:
            metadata, problems = read_metadata(document, path)
            notes += metadata_notes(problems)
        return Decoded(tuple(pieces), metadata, go_on, notes=tuple(notes))


def read_metadata(document: Document, path: str) -> tuple[Metadata, list[str]]:
    """Read the creation date, title, subject and keywords of a document, and its XMP.

    path: of the file, which is read for XMP. Returns what of it is damaged, too.
    """
    with open_path(path) as file:
        packet = find_pdf_packet(file)
    blocks = Blocks(xmp=[packet] if packet else [])
    metadata = joined(_of_information(document), metadata_of(descriptions_of(blocks)))
    return metadata, blocks.problems


def _of_information(document: Document) -> Metadata:
    information = document.information
    lines = (" ".join(information.get(key, "").split()) for key in ("Title", "Subject", "Keywords"))
    text = "\n".join(dict.fromkeys(line for line in lines if line))[:_MOST_TEXT]
    taken_at, taken_local = parse_pdf_date(information.get("CreationDate", "")) or (None, None)
    return Metadata(
        taken_at=taken_at,
        text="".join(c for c in text if c.isprintable() or c == "\n") or None,
        taken_local=taken_local,
        date_source=None if taken_at is None else "pdf",
    )


def parse_pdf_date(text: str) -> tuple[int, int | None] | None:
    """Read a date such as `D:20240229134500+02'00'` (ISO 32000-1, 7.9.4).

    All after the year may be missing. Returns `taken_at` and `taken_local` of `Metadata`: without a
    zone the instant is taken as UTC, and `Z` tells nothing of the local time. Other dates, which
    some programs write, as `retrieval.media.dates` reads them; None for anything else.
    """
    found = _PDF_DATE.match(text.strip())
    if not found or "-" in text[:8]:
        return parse_date(text)
    year, month, day, hour, minute, second = (
        int(value) if value else least
        for value, least in zip(found.groups()[:6], (0, 1, 1, 0, 0, 0), strict=True)
    )
    is_utc, sign, zone_hours, zone_minutes = found.groups()[6:]
    ahead = timedelta(hours=int(zone_hours or 0), minutes=int(zone_minutes or 0))
    try:
        zone = timezone(-ahead if sign == "-" else ahead) if sign else UTC
        moment = datetime(year, month, day, hour, minute, second, tzinfo=zone)
        return int(moment.timestamp()), None if is_utc else clock_seconds(moment)
    except (ValueError, OverflowError):
        return None


def _page(document: Document, page: int, options: ReadOptions) -> list[Piece]:
    part = f"p{page}"
    pieces = []
    if options.pictures:
        image = document.picture(page)
        width, height = image.size
        locator = Locator(part, width, height, page)
        pieces.append(Piece(Modality.IMAGE, reduced(image, options.least_side), locator))
    if text := document.text(page):
        pieces.append(Piece(Modality.TEXT, text, Locator(part, page=page)))
    return pieces

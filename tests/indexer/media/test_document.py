import ctypes
import os
from datetime import UTC, datetime
from pathlib import Path

import pypdfium2
import pypdfium2.raw as pdfium
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from indexer.media.base import ReadOptions
from indexer.media.document import parse_pdf_date, read
from retrieval.errors import UnreadableFileError
from retrieval.media import Metadata


def write_pdf(path: Path, *texts: str) -> Path:
    document = pypdfium2.PdfDocument.new()
    for text in texts:
        page = document.new_page(600, 800)
        words = pdfium.FPDFPageObj_NewTextObj(document, b"Helvetica", 20)
        letters = (text + "\0").encode("utf-16-le")
        pdfium.FPDFText_SetText(
            words, ctypes.cast(ctypes.c_char_p(letters), pdfium.FPDF_WIDESTRING)
        )
        pdfium.FPDFPageObj_Transform(words, 1, 0, 0, 1, 20, 700)
        pdfium.FPDFPage_InsertObject(page, words)
        page.gen_content()
        page.close()
    document.save(os.fspath(path))
    document.close()
    return path


def test_each_page_gives_a_picture_and_its_text(tmp_path):
    path = write_pdf(tmp_path / "words.pdf", "Cats sleep", "Dogs bark")
    reading = read(str(path), 0, ReadOptions())
    assert reading.next is None
    assert [(p.modality, p.locator.part, p.locator.page) for p in reading.pieces] == [
        ("image", "p1", 1),
        ("text", "p1", 1),
        ("image", "p2", 2),
        ("text", "p2", 2),
    ]
    assert [p.payload for p in reading.pieces if p.modality == "text"] == [
        "Cats sleep",
        "Dogs bark",
    ]
    picture = reading.pieces[0]
    assert picture.modality == "image"
    assert picture.payload.size == (picture.locator.width, picture.locator.height) == (1152, 1536)


def test_long_documents_come_sixteen_pages_a_call(tmp_path):
    path = write_pdf(tmp_path / "book.pdf", *[f"Page {n}" for n in range(1, 36)])
    texts, start, starts = [], 0, []
    while start is not None:
        starts.append(start)
        reading = read(str(path), start, ReadOptions(least_side=50))
        texts += [p.payload for p in reading.pieces if p.modality == "text"]
        start = reading.next
    assert starts == [0, 16, 32]
    assert texts == [f"Page {n}" for n in range(1, 36)]


def test_scanned_pages_give_pictures_only(tmp_path):
    path = tmp_path / "scan.pdf"
    page = Image.new("RGB", (100, 140), "red")
    page.save(path, save_all=True, append_images=[page])
    assert [p.modality for p in read(str(path), 0, ReadOptions()).pieces] == ["image"] * 2


def test_pictures_are_reduced_by_whole_factors(tmp_path):
    path = write_pdf(tmp_path / "words.pdf", "Cats")
    picture = read(str(path), 0, ReadOptions(least_side=500)).pieces[0]
    assert picture.modality == "image"
    assert picture.payload.size == (576, 768)
    assert (picture.locator.width, picture.locator.height) == (1152, 1536)


def test_what_the_document_says_of_itself_is_read(tmp_path):
    path = tmp_path / "told.pdf"
    Image.new("RGB", (100, 140)).save(
        path,
        title="A  trip to Åland",
        subject="Sailing\x07",
        keywords="sea, boats",
        creationDate=datetime(2024, 2, 29, 12, tzinfo=UTC).timetuple(),
    )
    metadata = read(str(path), 0, ReadOptions()).metadata
    assert metadata == Metadata(
        taken_at=1_709_208_000, text="A trip to Åland\nSailing\nsea, boats", date_source="pdf"
    )


def test_damaged_document_is_unreadable(tmp_path):
    path = tmp_path / "broken.pdf"
    path.write_bytes(b"%PDF-1.7 and no more")
    with pytest.raises(UnreadableFileError, match="damaged"):
        read(str(path), 0, ReadOptions())


def test_document_without_pages_is_unreadable(tmp_path):
    path = tmp_path / "empty.pdf"
    document = pypdfium2.PdfDocument.new()
    document.save(os.fspath(path))
    document.close()
    with pytest.raises(UnreadableFileError, match=r"has no pages|damaged"):
        read(str(path), 0, ReadOptions())


def test_broken_page_is_noted(tmp_path):
    path = write_pdf(tmp_path / "words.pdf", "Cats", "Dogs")
    content = path.read_bytes()
    assert content.count(b"/Kids[ 4 0 R ") == 1
    path.write_bytes(content.replace(b"/Kids[ 4 0 R ", b"/Kids[99 0 R "))
    decoded = read(str(path), 0, ReadOptions())
    assert [piece.locator.part for piece in decoded.pieces] == ["p2", "p2"]
    assert [note.partition(":")[0] for note in decoded.notes] == ["page 1 could not be read"]


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("D:20240229140000+02'00'", (1_709_208_000, 1_709_215_200)),
        ("D:20240229140000+02'00", (1_709_208_000, 1_709_215_200)),
        ("D:20240229073000-04'30'", (1_709_208_000, 1_709_191_800)),
        ("D:20240229120000Z", (1_709_208_000, None)),
        ("D:20240229120000Z00'00'", (1_709_208_000, None)),
        ("20240229120000", (1_709_208_000, 1_709_208_000)),
        ("D:20240229", (1_709_164_800, 1_709_164_800)),
        ("D:2024", (1_704_067_200, 1_704_067_200)),
        ("D:20230229120000Z", None),
        ("D:20241329", None),
        ("D:00000101", None),
        ("D:20240229120000+99'00'", None),
        ("2024-02-29T14:00:00+02:00", (1_709_208_000, 1_709_215_200)),
        ("2024-02-29T12:00:00Z", (1_709_208_000, None)),
        ("2024-02-29", (1_709_164_800, 1_709_164_800)),
        ("Thu, 29 Feb 2024 14:00:00 +0200", (1_709_208_000, 1_709_215_200)),
        ("yesterday", None),
        ("", None),
    ],
)
def test_pdf_dates_are_read_with_their_zone(text, moment):
    assert parse_pdf_date(text) == moment


@given(st.text() | st.from_regex(r"D:\d{0,16}[+-]?[\d']*"))
def test_no_date_raises(text):
    moment = parse_pdf_date(text)
    assert moment is None or isinstance(moment[0], int)

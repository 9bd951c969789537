import ctypes
import os
import sys
import threading
from pathlib import Path

import numpy as np
import pypdfium2
import pypdfium2.raw as pdfium
import pytest
from PIL import Image

from retrieval.errors import MissingExtraError, UnreadableFileError
from retrieval.media.pdf import open_document, render_page

RED = (200, 30, 40)


def write_pdf(path: Path, *texts: str, width: float = 300, height: float = 200) -> Path:
    """A page for each text, in Helvetica."""
    document = pypdfium2.PdfDocument.new()
    for text in texts:
        page = document.new_page(width, height)
        for number, line in enumerate(text.splitlines()):
            words = pdfium.FPDFPageObj_NewTextObj(document, b"Helvetica", 20)
            letters = (line + "\0").encode("utf-16-le")
            pdfium.FPDFText_SetText(
                words, ctypes.cast(ctypes.c_char_p(letters), pdfium.FPDF_WIDESTRING)
            )
            pdfium.FPDFPageObj_Transform(words, 1, 0, 0, 1, 20, height - 40 - 30 * number)
            pdfium.FPDFPage_InsertObject(page, words)
        page.gen_content()
        page.close()
    document.save(os.fspath(path))
    document.close()
    return path


def raw_pdf(path: Path, page: str, *objects: str, trailer: str = "", content: str = "") -> Path:
    """A PDF of one page, written out by hand."""
    bodies = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        f"<< /Type /Page /Parent 2 0 R /Contents 4 0 R {page} >>",
        f"<< /Length {len(content)} >>\nstream\n{content}\nendstream",
        *objects,
    ]
    text, places = "%PDF-1.7\n", []
    for number, body in enumerate(bodies, 1):
        places.append(len(text))
        text += f"{number} 0 obj\n{body}\nendobj\n"
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    start = len(text)
    text += f"xref\n0 {len(bodies) + 1}\n0000000000 65535 f \n{table}"
    text += f"trailer\n<< /Root 1 0 R /Size {len(bodies) + 1} {trailer} >>\n"
    path.write_bytes((text + f"startxref\n{start}\n%%EOF\n").encode("latin-1"))
    return path


def is_near(image: Image.Image, colour: tuple[int, int, int]) -> bool:
    return bool(np.abs(np.asarray(image, float).mean(axis=(0, 1)) - colour).max() < 12)


def test_page_is_drawn_dark_on_white_at_the_size_asked_for(tmp_path):
    path = write_pdf(tmp_path / "words.pdf", "Cats sleep")
    image = render_page(str(path), 1, 600)
    assert image.mode == "RGB"
    assert image.size == (600, 400)
    pixels = np.asarray(image)
    assert pixels[-1, -1].tolist() == [255, 255, 255]
    assert pixels.min() < 50
    assert max(render_page(str(path), 1).size) == 1536


def page_text(path: str, page: int) -> str:
    with open_document(path) as document:
        return document.text(page)


def test_text_of_a_page_is_its_own(tmp_path):
    path = write_pdf(tmp_path / "words.pdf", "Cats sleep\nin the sun", "Übermut 猫")
    assert page_text(str(path), 1) == "Cats sleep\nin the sun"
    assert page_text(str(path), 2).startswith("Übermut")


def test_scanned_page_has_a_picture_and_no_text(tmp_path):
    path = tmp_path / "scan.pdf"
    Image.new("RGB", (100, 140), RED).save(path)
    assert is_near(render_page(str(path), 1), RED)
    assert page_text(str(path), 1) == ""


def test_page_is_drawn_upright(tmp_path):
    page = "/MediaBox [0 0 300 100] /Rotate 90"
    path = raw_pdf(tmp_path / "turned.pdf", page, content="1 0 0 rg 0 0 100 100 re f")
    image = render_page(str(path), 1, 300)
    assert image.size == (100, 300)
    assert is_near(image.crop((10, 10, 90, 90)), (255, 0, 0))
    assert is_near(image.crop((10, 110, 90, 290)), (255, 255, 255))


def test_annotations_are_drawn(tmp_path):
    appearance = "1 0 0 rg 0 0 100 100 re f"
    path = raw_pdf(
        tmp_path / "annotated.pdf",
        "/MediaBox [0 0 200 200] /Annots [5 0 R]",
        "<< /Type /Annot /Subtype /Square /Rect [0 0 100 100] /F 4 /AP << /N 6 0 R >> >>",
        f"<< /Type /XObject /Subtype /Form /BBox [0 0 100 100] /Length {len(appearance)} >>\n"
        f"stream\n{appearance}\nendstream",
    )
    image = render_page(str(path), 1, 200)
    assert is_near(image.crop((10, 110, 90, 190)), (255, 0, 0))


@pytest.mark.parametrize(
    ("box", "size"),
    [("0 0 14400 1", (200, 1)), ("0 0 1000000 1000000", (200, 200)), ("0 0 1 2", (100, 200))],
)
def test_pages_of_any_size_give_pictures_of_bounded_size(tmp_path, box, size):
    path = raw_pdf(tmp_path / "page.pdf", f"/MediaBox [{box}]")
    assert render_page(str(path), 1, 200).size == size


def test_page_that_is_not_there_is_named(tmp_path):
    path = write_pdf(tmp_path / "words.pdf", "Cats", "Dogs")
    for page in (0, 3, -1):
        with pytest.raises(UnreadableFileError, match=f"has no page {page}, only 2"):
            render_page(str(path), page)


def test_protected_document_is_told_apart_from_a_damaged_one(tmp_path):
    zeros = "0" * 64
    path = raw_pdf(
        tmp_path / "secret.pdf",
        "/MediaBox [0 0 200 200]",
        trailer=f"/ID [<00> <00>] /Encrypt << /Filter /Standard /V 1 /R 2 /O <{zeros}> "
        f"/U <{zeros}> /P -4 >>",
    )
    with pytest.raises(UnreadableFileError, match="is protected by a password"):
        render_page(str(path), 1)


@pytest.mark.parametrize("content", [b"no document", b"%PDF-1.7\n%%EOF", b"%PDF-1.7\n" + bytes(99)])
def test_damaged_document_says_so(tmp_path, content):
    path = tmp_path / "broken.pdf"
    path.write_bytes(content)
    with pytest.raises(UnreadableFileError, match="is not a PDF document, or a damaged one"):
        render_page(str(path), 1)


def test_empty_file_and_missing_file_say_so(tmp_path):
    (tmp_path / "empty.pdf").touch()
    with pytest.raises(UnreadableFileError, match="the file is empty"):
        render_page(str(tmp_path / "empty.pdf"), 1)
    with pytest.raises(FileNotFoundError):
        render_page(str(tmp_path / "none.pdf"), 1)


def test_cut_off_document_gives_pages_or_a_reason(tmp_path):
    whole = write_pdf(tmp_path / "words.pdf", "Cats", "Dogs", "Birds").read_bytes()
    for length in range(1, len(whole), len(whole) // 25):
        path = tmp_path / "cut.pdf"
        path.write_bytes(whole[:length])
        try:
            assert render_page(str(path), 1, 50).size == (50, 34)
        except UnreadableFileError as error:
            assert str(error)  # noqa: PT017 - either outcome is fine


def test_many_threads_may_draw(tmp_path):
    path = write_pdf(tmp_path / "words.pdf", *["Cats sleep"] * 8)
    drawn: dict[int, bytes] = {}

    def draw(page: int) -> None:
        for _ in range(5):
            drawn[page] = render_page(str(path), page, 100).tobytes()

    threads = [threading.Thread(target=draw, args=(page,)) for page in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(drawn) == 8
    assert len(set(drawn.values())) == 1


def test_error_in_between_leaves_no_lock_behind(tmp_path):
    path = write_pdf(tmp_path / "words.pdf", "Cats")
    with pytest.raises(UnreadableFileError), open_document(str(path)) as document:
        document.picture(2)
    assert page_text(str(path), 1) == "Cats"


@pytest.mark.skipif(os.name == "nt", reason="names are Unicode there")
def test_name_need_not_be_valid_text(tmp_path):
    odd = tmp_path / os.fsdecode(b"caf\xe9.pdf")
    write_pdf(tmp_path / "words.pdf", "Cats").rename(odd)
    assert page_text(str(odd), 1) == "Cats"


def test_missing_package_says_how_to_get_it(tmp_path, monkeypatch):
    path = write_pdf(tmp_path / "words.pdf", "Cats")
    monkeypatch.setitem(sys.modules, "pypdfium2", None)
    with pytest.raises(MissingExtraError, match=r"PDF documents need .*mmsearch\[pdf\]"):
        render_page(str(path), 1)

"""Render pages of PDF files, and extract their text."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from PIL import Image

from retrieval.errors import MissingExtraError, UnreadableFileError, import_errors_as
from retrieval.objects.opening import open_path

if TYPE_CHECKING:
    from pypdfium2 import PdfDocument, PdfPage

LONGER_SIDE = 1536
"""Default longer side of a rendered page in pixels."""

MAX_LONGER_SIDE = 2560
"""Longer side of a page that is rendered to be read on a screen, in pixels."""

_PDFIUM = threading.Lock()
"""PDFium may only be called from one thread at a time, whatever the document."""

_LINE_END_HYPHEN = re.compile("[\x02\ufffe]\\s*")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


class Document:
    """An open PDF document, valid inside `open_document`."""

    def __init__(self, pdf: "PdfDocument") -> None:
        self._pdf = pdf

    def __len__(self) -> int:
        return len(self._pdf)

    @property
    def information(self) -> dict[str, str]:
        """Return the document information: Title, Subject, Keywords, CreationDate and so on."""
        from pypdfium2 import PdfiumError

        try:
            return dict(self._pdf.get_metadata_dict(skip_empty=True))
        except (PdfiumError, UnicodeError):
            return {}

    def picture(self, page: int, longer_side: int = LONGER_SIDE) -> Image.Image:
        """Render a page, counted from 1, upright on white, with its annotations and form fields.

        The longer side has `longer_side` pixels, the other at least one. Raises UnreadableFileError
        for a page that does not exist or cannot be rendered.
        """
        with self._page(page) as opened:
            width, height = opened.get_size()
            longest = max(width, height)
            if not 0 < longest < float("inf"):
                raise UnreadableFileError(f"page {page} has no size")
            bitmap = opened.render(scale=longer_side / longest, rev_byteorder=True)
            try:
                # The bitmap's memory goes when it is closed; converting copies.
                image: Image.Image = bitmap.to_pil().convert("RGB")
            finally:
                bitmap.close()
        return image.crop((0, 0, min(longer_side, image.width), min(longer_side, image.height)))

    def text(self, page: int) -> str:
        """Extract the text of a page, counted from 1, in the file's order; "" if it has none.

        Words divided at line ends are joined. Raises as `picture`.
        """
        with self._page(page) as opened:
            layer = opened.get_textpage()
            try:
                text: str = layer.get_text_bounded()
            finally:
                layer.close()
        joined = _LINE_END_HYPHEN.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
        return _CONTROL.sub("", joined).strip()

    @contextmanager
    def _page(self, page: int) -> Iterator["PdfPage"]:
        from pypdfium2 import PdfiumError

        if not 1 <= page <= len(self):
            raise UnreadableFileError(f"has no page {page}, only {len(self)}")
        try:
            opened = self._pdf[page - 1]
            try:
                yield opened
            finally:
                opened.close()
        except (PdfiumError, MemoryError) as error:
            raise UnreadableFileError(f"page {page} cannot be read: {error}") from error


@contextmanager
def open_document(source: str | BinaryIO) -> Iterator[Document]:
    """Open a PDF file by its path, or take an open one; other threads wait until it is closed.

    Raises UnreadableFileError for what is damaged or protected by a password, MissingExtraError
    without pypdfium2, OSError when the file cannot be opened.
    """
    with import_errors_as(MissingExtraError("PDF documents", "pdf")):
        from pypdfium2 import PdfDocument, PdfiumError
    # An open file instead of its name: names need not be valid text.
    with open_path(source) if isinstance(source, str) else source as file, _PDFIUM:
        if not file.read(1):
            raise UnreadableFileError("the file is empty")
        try:
            pdf = PdfDocument(file)
        except PdfiumError as error:
            raise UnreadableFileError(_why_not_opened(error)) from None
        try:
            pdf.init_forms()
            yield Document(pdf)
        finally:
            pdf.close()


def render_page(source: str | BinaryIO, page: int, longer_side: int = LONGER_SIDE) -> Image.Image:
    """Render a page of a PDF file, counted from 1: RGB; raises as `open_document` and `picture`."""
    with open_document(source) as document:
        return document.picture(page, longer_side)


def _why_not_opened(error: Exception) -> str:
    if "password" in str(error).lower():
        return "is protected by a password"
    return "is not a PDF document, or a damaged one"

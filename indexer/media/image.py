"""Read image files: one image each, or the pages of a TIFF file."""

from dataclasses import replace
from typing import BinaryIO

from indexer.media.base import Decoded, Locator, Piece, ReadOptions
from retrieval.errors import UnreadableFileError
from retrieval.media import NO_METADATA, Metadata, Modality, metadata_notes
from retrieval.media.exif import read_noted
from retrieval.media.images import Picture, read_picture
from retrieval.media.registry import RAW, TIFF, format_of, read_head
from retrieval.objects.opening import open_path

_PAGES_A_CALL = 16


def read(path: str, start: int, options: ReadOptions) -> Decoded:
    """Read a whole image file, of an animation one frame: one piece, with the part "".

    A TIFF file of several pages gives a piece a page, at most 16 a call, after the first `start`.
    Satisfies `base.Reader`.
    """
    with open_path(path) as file:
        return read_opened(file, path, options, start)


def read_opened(file: BinaryIO, path: str, options: ReadOptions, start: int = 0) -> Decoded:
    """Read an image from an open file, or from its content in memory, as `read` does."""
    pages = count_pages(file, path)
    if pages > 1:
        from retrieval.media.tiff_pages import MOST_PAGES

        left_out = f"pages after the first {MOST_PAGES:,} were left out"
        decoded = _pages(file, path, options, start, pages)
        is_cut = pages == MOST_PAGES and decoded.next is None
        return replace(decoded, notes=(*decoded.notes, left_out)) if is_cut else decoded
    if start > 0:
        return Decoded(())
    picture = _picture(file, path, options)
    locator = Locator("", picture.width, picture.height)
    piece = Piece(Modality.IMAGE, picture.image, locator)
    metadata, notes = read_noted(file, name=path)
    return Decoded((piece,), metadata, notes=picture.notes + metadata_notes(notes))


def count_pages(file: BinaryIO, path: str) -> int:
    """Count the pages of an image file: 1, but for TIFF."""
    if format_of(path) is RAW or not TIFF.begins(read_head(file)):
        return 1
    from retrieval.media.tiff_pages import pages_of

    return len(pages_of(file))


def _pages(file: BinaryIO, path: str, options: ReadOptions, start: int, count: int) -> Decoded:
    """Read some pages; those that cannot be read are noted. Raises if none of the first can be."""
    pieces, notes, problem = [], [], ""
    end = min(start + _PAGES_A_CALL, count)
    for page in range(start + 1, end + 1):
        try:
            picture = _picture(file, path, options, page)
        except UnreadableFileError as error:
            problem = str(error)
            notes.append(f"page {page} could not be read: {problem}")
            continue
        locator = Locator(f"p{page}", picture.width, picture.height, page)
        pieces.append(Piece(Modality.IMAGE, picture.image, locator))
        notes += [f"page {page}: {note}" for note in picture.notes]
    if not pieces and start == 0:
        raise UnreadableFileError(problem)
    go_on = end if end < count else None
    metadata: Metadata = NO_METADATA
    of_metadata: tuple[str, ...] = ()
    if start == 0:
        metadata, of_metadata = read_noted(file, name=path)
    return Decoded(tuple(pieces), metadata, go_on, notes=(*notes, *metadata_notes(of_metadata)))


def _picture(file: BinaryIO, path: str, options: ReadOptions, page: int = 1) -> Picture:
    return read_picture(
        file,
        name=path,
        least_side=options.least_side,
        max_pixels=options.max_pixels,
        page=page,
    )

"""Read image files: one image each."""

from pathlib import Path
from typing import BinaryIO

from indexer.media.base import Decoded, Locator, Piece, ReadOptions
from retrieval.media import Modality
from retrieval.media.exif import read_noted
from retrieval.media.images import read_picture


def read(path: str, start: int, options: ReadOptions) -> Decoded:
    """Read a whole image file, an animation's first frame: one piece, with the part "".

    Satisfies `base.Reader`.
    """
    if start > 0:
        return Decoded(())
    with Path(path).open("rb") as file:
        return read_opened(file, path, options)


def read_opened(file: BinaryIO, path: str, options: ReadOptions) -> Decoded:
    """Read an image from an open file, or from its content in memory, as `read` does."""
    picture = read_picture(
        file,
        name=path,
        least_side=options.least_side,
        max_pixels=options.max_pixels,
    )
    piece = Piece(Modality.IMAGE, picture.image, Locator("", picture.width, picture.height))
    metadata, notes = read_noted(file, name=path)
    return Decoded((piece,), metadata, notes=notes)

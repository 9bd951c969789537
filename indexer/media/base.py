"""What every reader of files gives: pieces of any modality, and what is known of their file."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from PIL import Image

from retrieval.media import NO_METADATA, Metadata, Modality, SoundInput

Columns = dict[str, Any]
"""Values of a table's row that JSON can hold: text, numbers, booleans, None, lists of these."""


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How files are read.

    least_side: pictures may be made smaller by whole factors while both sides keep at least this
    many pixels; None: never. max_pixels: larger pictures are refused by their header.
    preprocess: makes an encoder's input of each picture; importable by module and name; None: they
    stay pictures.
    pictures: the encoder takes pictures; False: readers need not decode or draw any. sound: what an
    encoder hears at once; None: it takes no sound.
    seconds: after which a call ends with what it has read so far, if that is anything; None: never.
    text_column, image_column: of tables; None: found by their usual names. text_encoding: of texts
    and tables that are not UTF-8 and have no byte order mark; None: detected.
    """

    least_side: int | None = None
    max_pixels: int | None = None
    preprocess: Callable[[Image.Image], Any] | None = None
    seconds: float | None = None
    text_column: str | None = None
    image_column: str | None = None
    text_encoding: str | None = None
    pictures: bool = True
    sound: SoundInput | None = None


@dataclass(frozen=True)
class Locator:
    """Where in its file a piece is.

    part: names the piece inside its file and modality for good, of letters and digits: "" for a
    whole file, `t12480` for the frame at 12,480 ms, `p3` for the third page, `r17` for a table's
    seventeenth row, with `r17n2` for the second text of that row, `s20000` for the window of sound
    that begins at 20,000 ms. What a recogniser found has the part of its origin, a hyphen, the task
    and a number: `p3-ocr0`, `-speech12480`. width, height: of an upright original image, in pixels.
    page counts from 1. time_s: the moment that is shown; start_s, end_s: from when to when it
    lasts; all in seconds from the beginning. columns: the other values of a table's row.
    """

    part: str = ""
    width: int | None = None
    height: int | None = None
    page: int | None = None
    time_s: float | None = None
    columns: Columns | None = None
    start_s: float | None = None
    end_s: float | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a file that becomes an item, or several where it is a long text.

    payload: an upright RGB image, possibly reduced, or what `preprocess` made of it; a text of any
    length; of any other modality what `Encoder.encode` takes.
    """

    modality: Modality
    payload: Any
    locator: Locator = Locator()


@dataclass(frozen=True, slots=True)
class Annotation:
    """What a table says of an image file: absolute path, and the values of its row."""

    image_path: str
    columns: Columns


@dataclass(frozen=True, slots=True)
class Decoded:
    """Some pieces of a file, in its order. `next` is where to go on; None: these were the last.

    notes: what could not be read of the file, a sentence each without a full stop, such as "the
    lower 12 % are missing: the file ends early". They join those of earlier calls for the file.
    """

    pieces: tuple[Piece, ...]
    metadata: Metadata = NO_METADATA
    next: int | None = None
    annotations: tuple[Annotation, ...] = field(default=())
    notes: tuple[str, ...] = ()

    def preprocessed(self, preprocess: Callable[[Image.Image], Any]) -> "Decoded":
        """Turn the images into an encoder's input."""
        pieces = tuple(
            replace(piece, payload=preprocess(piece.payload))
            if piece.modality is Modality.IMAGE
            else piece
            for piece in self.pieces
        )
        return replace(self, pieces=pieces)


Reader = Callable[[str, int, ReadOptions], Decoded]
"""Reads a file by its path, from the beginning (0) or where an earlier call said to go on.

Gives at most a few dozen pieces a call, so that memory stays flat for files of any length. Raises
UnreadableFileError with the reason when the content cannot be read, MissingExtraError when a
package that is not installed would be needed, OSError when the file cannot be opened.
"""

"""Show pictures in a terminal: by sixels or kitty's protocol where it has them, else in blocks."""

import logging
import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from rich.console import Console

from api.cli.options import complain
from retrieval.errors import UnreadableFileError

if TYPE_CHECKING:
    from PIL import Image

    from retrieval.catalog import Item

_ROWS = 12
_MARGIN = 6
"""Columns left of a picture, as wide as the ranks."""


def picture_printer(
    console: Console, picture_of: "Callable[[Item], Image.Image]"
) -> "Callable[[Item], None] | None":
    """Return what prints the picture of an item; None, with a note, where none can be shown."""
    if not console.is_terminal or console.is_dumb_terminal or not _has_size():
        complain("No pictures are shown, since the output is no terminal that can show them.")
        return None
    # A terminal that says nothing of its cells is no news, and no traceback.
    logging.getLogger("textual_image").setLevel(logging.ERROR)
    try:
        # The first asks the terminal what it can show, and reads the answer where one is typed.
        module = "textual_image.renderable" + ("" if sys.stdin.isatty() else ".halfcell")
        kind: Any = import_module(module).Image
    except ModuleNotFoundError as error:
        if error.name != "textual_image":
            raise
        complain("Pictures in the terminal need a package: pip install 'mmsearch[preview]'")
        return None

    def show(item: "Item") -> None:
        from rich.padding import Padding

        try:
            picture = picture_of(item)
        except (OSError, UnreadableFileError) as error:
            console.print(f"{'':{_MARGIN}}(no picture: {error})", style="dim", markup=False)
            return
        shown = kind(picture, width="auto", height=_rows(picture.size, console.width - _MARGIN))
        console.print(Padding(shown, (0, 0, 0, _MARGIN)), soft_wrap=False)

    return show


def _has_size() -> bool:
    """Return whether the terminal of the output, if it is one, says how large it is."""
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns > 0
    except (OSError, ValueError):
        return True


def _rows(size: tuple[int, int], columns: int) -> int:
    """Choose the rows of a picture so that it is no wider than some columns.

    size: width and height in pixels. A cell of a terminal is about twice as high as wide.
    """
    width, height = size
    return max(1, min(_ROWS, int(columns / 2 * height / width)))

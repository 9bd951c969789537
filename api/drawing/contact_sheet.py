"""Draw a contact sheet: the hits side by side, with rank, score and file name."""

from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageOps

from api.drawing.text import fit, font_for, save_picture, wrap
from retrieval.catalog import Item
from retrieval.errors import UnreadableFileError, UsageError
from retrieval.media.items import read_item_image
from retrieval.search.answer import Hit

_CELL = 220
_GAP = 12
_CAPTION = 40
_LINE = 28
_COLUMNS = 5
_INK = "#1d1d1f"
_FAINT = "#6e6e73"


def write_contact_sheet(
    hits: Sequence[Hit],
    title: str,
    output: Path,
    read: Callable[[Item], Image.Image] = read_item_image,
) -> None:
    """Draw hits in ranked order into an image file; its ending sets the format.

    read: gives the picture of an item, or raises as `read_item_image`. Files that cannot be read
    any more leave their place empty. Raises UsageError for no hits or an unknown ending,
    MMSearchError when the file cannot be written.
    """
    if not hits:
        raise UsageError("There are no hits to draw.")
    columns = min(_COLUMNS, len(hits))
    rows = -(-len(hits) // columns)
    width = columns * (_CELL + _GAP) + _GAP
    lines = wrap(ImageDraw.Draw(Image.new("1", (1, 1))), title, width - 2 * _GAP, 22, lines=2)
    head = _CAPTION + (len(lines) - 1) * _LINE + 2 * _GAP
    sheet = Image.new("RGB", (width, head + rows * (_CELL + _CAPTION + _GAP)), "white")
    draw = ImageDraw.Draw(sheet)
    for number, line in enumerate(lines):
        draw.text((_GAP, _GAP + number * _LINE), line, _INK, font_for(title, 22))
    for position, hit in enumerate(hits):
        row, column = divmod(position, columns)
        left = _GAP + column * (_CELL + _GAP)
        top = head + row * (_CELL + _CAPTION + _GAP)
        sheet.paste(_tile(hit.item, read), (left, top))
        name = f"{hit.rank}. {Path(hit.path).name}"
        draw.text((left, top + _CELL + 4), fit(draw, name, _CELL, 14), _INK, font_for(name, 14))
        draw.text((left, top + _CELL + 21), f"{hit.similarity:.3f}", _FAINT, font_for("", 13))
    save_picture(sheet, output)


def _tile(item: Item, read: Callable[[Item], Image.Image]) -> Image.Image:
    tile = Image.new("RGB", (_CELL, _CELL), "#f2f2f4")
    try:
        fitted = ImageOps.contain(read(item), (_CELL, _CELL))
    except (OSError, UnreadableFileError):
        return tile
    tile.paste(fitted, ((_CELL - fitted.width) // 2, (_CELL - fitted.height) // 2))
    return tile

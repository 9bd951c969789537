"""Draw text in any script, and save image files."""

from contextlib import suppress
from functools import cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from retrieval.errors import MMSearchError, UsageError

Font = ImageFont.ImageFont | ImageFont.FreeTypeFont

_ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
_WIDE_FONTS = (
    "NotoSansCJK-Regular.ttc",
    "PingFang.ttc",
    "msyh.ttc",
    "wqy-microhei.ttc",
    "wqy-zenhei.ttc",
    "DroidSansFallbackFull.ttf",
    "Arial Unicode.ttf",
    "DejaVuSans.ttf",
)
"""System fonts for scripts that the default font of Pillow lacks."""


def require_drawable(output: Path) -> None:
    """Raise UsageError if no image can be written to a path, before the work is done."""
    if output.suffix.lower() not in _ENDINGS:
        raise UsageError(f"{output}: the file name must end in .png, .jpg or .webp.")
    try:
        has_folder, is_folder = output.absolute().parent.is_dir(), output.is_dir()
    except OSError as error:
        raise UsageError(f"{output} cannot be written: {error.strerror}.") from error
    if not has_folder:
        raise UsageError(
            f"{output} cannot be written: the directory {output.parent} does not exist."
        )
    if is_folder:
        raise UsageError(f"{output} cannot be written: it is a directory.")


def save_picture(picture: Image.Image, output: Path) -> None:
    """Save an image; the ending of the file sets the format.

    Raises UsageError as `require_drawable`, MMSearchError when the file cannot be written.
    """
    require_drawable(output)
    try:
        picture.save(output)
    except OSError as error:
        raise MMSearchError(f"{output} cannot be written: {error.strerror or error}.") from error


@cache
def _font(size: int, script: str = "latin") -> Font:
    """Load the default font of Pillow, or a system font for other scripts."""
    if script != "latin":
        for name in _WIDE_FONTS:
            with suppress(OSError):
                return ImageFont.truetype(name, size)
    return ImageFont.load_default(size)


def font_for(text: str, size: int) -> Font:
    """Return a font of a size in pixels that has the letters of a text, if one is installed."""
    return _font(size, "latin" if max(text, default=" ") < "\u0250" else "any")


def fit(draw: ImageDraw.ImageDraw, text: str, width: int, size: int) -> str:
    """Truncate a text to a width in pixels; unprintable characters become question marks."""
    [line] = wrap(draw, text, width, size, lines=1)
    return line


def wrap(draw: ImageDraw.ImageDraw, text: str, width: int, size: int, lines: int) -> list[str]:
    """Break a text between words into lines of a width in pixels, of which the last is truncated.

    All are as wide as they may be in `font_for` of the whole text. Unprintable characters become
    question marks.
    """
    font = font_for(text, size)
    rest = "".join(letter if letter.isprintable() else "?" for letter in text)
    broken: list[str] = []
    while len(broken) < lines - 1 and draw.textlength(rest, font) > width:
        line, _, after = rest.rpartition(" ")
        while line and draw.textlength(line, font) > width:
            line, _, word = line.rpartition(" ")
            after = f"{word} {after}"
        if not line:
            break
        broken.append(line)
        rest = after
    return [*broken, _cut(draw, rest, width, font)]


def _cut(draw: ImageDraw.ImageDraw, text: str, width: int, font: Font) -> str:
    if draw.textlength(text, font) <= width:
        return text
    while text and draw.textlength(f"{text}...", font) > width:
        text = text[:-1]
    return f"{text}..."

"""Measure text recognition: characters right on rendered pages, and the time that photos take."""

import time
import tomllib
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from benchmarks.metrics.character_error_rate import character_error_rate
from retrieval.errors import UnreadableFileError, UsageError
from retrieval.media.images import read_image
from retrieval.recognition.ocr import RapidOcr

SIZES = (12, 16, 24, 48)
"""Heights of the font, in pixels."""
ANGLES = (0, 3, -8, 90, 180, 270)
"""Degrees by which a page is turned counterclockwise."""

FONTS = {
    "en": ("DejaVuSans.ttf", "LiberationSans-Regular.ttf", "Arial.ttf", "arial.ttf"),
    "zh": (
        "wqy-microhei.ttc",
        "NotoSansCJK-Regular.ttc",
        "wqy-zenhei.ttc",
        "PingFang.ttc",
        "msyh.ttc",
    ),
}
"""Font files that are looked for where the system has fonts, by language."""

_PAPER = "#f7f4ec"
_INK = "#1c1c1e"


@dataclass(frozen=True)
class PageResult:
    """A rendered page that was read.

    right: 1 - character error rate, at least 0. size: of the font, in pixels. angle: degrees.
    """

    language: str
    size: int
    angle: float
    right: float
    seconds: float


@dataclass(frozen=True)
class PhotosResult:
    """Photos that were looked at.

    skipped: of which the reduced picture shows no text. with_text: in which text was recognised.
    skipping_s, reading_s: seconds, of all that were skipped and all that were read.
    """

    photos: int
    skipped: int
    with_text: int
    failed: int
    skipping_s: float
    reading_s: float

    @property
    def seconds_a_photo(self) -> float:
        """Mean of all photos, without decoding."""
        return (self.skipping_s + self.reading_s) / self.photos


@cache
def page_lines(language: str) -> tuple[str, ...]:
    """Return what the page of a language says."""
    texts = tomllib.loads((resources.files(__package__) / "pages.toml").read_text("utf-8"))
    return tuple(texts[language])


def find_font(language: str) -> str | None:
    """Return the first font of a language that is installed."""
    for name in FONTS[language]:
        with suppress(OSError):
            ImageFont.truetype(name, 10)
            return name
    return None


def render_page(lines: Sequence[str], font: str, size: int, angle: float = 0) -> Image.Image:
    """Draw lines of text on a page, with a margin, and turn it counterclockwise.

    Args:
        lines: What it says.
        font: A file of `FONTS`.
        size: Height of the font, in pixels.
        angle: Degrees; the corners that appear have the colour of the paper.
    """
    drawn = ImageFont.truetype(font, size)
    margin, step = 2 * size, round(1.7 * size)
    width = round(max(map(drawn.getlength, lines))) + 2 * margin
    page = Image.new("RGB", (width, step * len(lines) + 2 * margin), _PAPER)
    draw = ImageDraw.Draw(page)
    for number, line in enumerate(lines):
        draw.text((margin, margin + number * step), line, _INK, drawn)
    return page.rotate(angle, Image.Resampling.BICUBIC, expand=True, fillcolor=_PAPER)


def measure_pages(
    recognizer: RapidOcr,
    languages: Sequence[str],
    sizes: Sequence[int] = SIZES,
    angles: Sequence[float] = ANGLES,
    *,
    on_page: Callable[[PageResult], None] = lambda _: None,
) -> list[PageResult]:
    """Read rendered pages of each language, size and angle.

    Raises UsageError for a language without a font.
    """
    results = []
    for language in languages:
        font = find_font(language)
        if font is None:
            raise UsageError(
                f"There is no font for {language!r} here. Install one of: "
                f"{', '.join(FONTS[language])} (Debian: fonts-dejavu-core, fonts-wqy-microhei)."
            )
        lines = page_lines(language)
        for size in sizes:
            for angle in angles:
                page = render_page(lines, font, size, angle)
                began = time.perf_counter()
                [read] = recognizer.recognize([page])
                seconds = time.perf_counter() - began
                wrong = character_error_rate([" ".join(lines)], [read.text or ""])
                results.append(PageResult(language, size, angle, max(0.0, 1 - wrong), seconds))
                on_page(results[-1])
    return results


def measure_photos(recognizer: RapidOcr, photos: Iterable[Path]) -> PhotosResult:
    """Read photos as indexing does, and count those that the first look skips.

    Raises UsageError if no photo can be read.
    """
    skipped = read = with_text = failed = 0
    skipping_s = reading_s = 0.0
    for path in photos:
        try:
            photo = read_image(path, least_side=recognizer.least_side)
        except (OSError, UnreadableFileError):
            failed += 1
            continue
        began = time.perf_counter()
        is_skipped = not recognizer.may_have_text(photo)
        looked_s = time.perf_counter() - began
        if is_skipped:
            skipped += 1
            skipping_s += looked_s
            continue
        began = time.perf_counter()
        [found] = recognizer.recognize([photo])
        reading_s += time.perf_counter() - began
        read += 1
        with_text += found.text is not None
    if not skipped + read:
        raise UsageError("No photo could be read: give a folder with images.")
    return PhotosResult(skipped + read, skipped, with_text, failed, skipping_s, reading_s)

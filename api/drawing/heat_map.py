"""Draw an explanation: the image with heat maps, one of all words and one per word."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from api.drawing.text import fit, font_for, save_picture
from retrieval.recognition.base import Box as Corners
from retrieval.rerankers.explanation import Box, Explanation, HeatMap, WordExplanation
from retrieval.search.found_text import FoundText

MAX_WORDS = 12
"""Maximum number of words with a panel."""

_PANEL = 220
_NARROWEST = 120
_GAP = 12
_TITLE = 40
_CAPTION = 42
_BAR = 4
_INK = "#1d1d1f"
_FAINT = "#6e6e73"
_FOR = "#b5367a"
_AGAINST = "#8e8e93"
_MAGMA = np.array(
    [
        (0, 0, 4),
        (28, 16, 68),
        (79, 18, 123),
        (129, 37, 129),
        (181, 54, 122),
        (229, 80, 100),
        (251, 135, 97),
        (254, 194, 135),
        (252, 253, 191),
    ],
    np.float32,
)
"""Equally spaced colours of matplotlib's perceptually uniform colour map `magma`."""


def write_heat_map(
    explanation: Explanation,
    image: Image.Image,
    output: Path,
    found: Sequence[FoundText] = (),
) -> None:
    """Draw an explanation into an image file; its ending sets the format.

    Args:
        explanation: What is drawn.
        image: The upright RGB image that was explained.
        output: The file.
        found: Lines of text in the image whose boxes are drawn.

    Raises as `save_picture`.
    """
    save_picture(draw_heat_map(explanation, image, found), output)


def draw_heat_map(
    explanation: Explanation, image: Image.Image, found: Sequence[FoundText] = ()
) -> Image.Image:
    """Draw an explanation as an RGB image.

    image: the upright RGB image that was explained. It is drawn at left with the heat map of all
    words, followed by a panel for each of the 12 words that contribute most, in the order of the
    text, with the word and its contribution. found: lines of text in the image, whose boxes are
    drawn at left.
    """
    words = words_to_draw(explanation)
    rows = 1 if not words else 2 if len(words) <= 8 else 3
    columns = -(-len(words) // rows)
    panel = _scaled(image.size, _PANEL)
    cell = (max(panel[0], _NARROWEST), panel[1] + _CAPTION + _GAP)
    main = _scaled(image.size, 2 * _PANEL + _CAPTION)
    main_width = max(main[0], 2 * _NARROWEST)
    top = _TITLE + 2 * _GAP
    sheet = Image.new(
        "RGB",
        (
            _GAP + main_width + _GAP + columns * (cell[0] + _GAP),
            top + max(main[1] + _CAPTION + _GAP, rows * cell[1] if words else 0),
        ),
        "white",
    )
    draw = ImageDraw.Draw(sheet)
    title = _one_line(explanation.text)
    draw.text((_GAP, _GAP), fit(draw, title, sheet.width - 2 * _GAP, 22), _INK, font_for(title, 22))
    whole = overlay(image, explanation.heat, explanation.view, main)
    _outline(whole, [one.segment.box for one in found])
    sheet.paste(whole, (_GAP, top))
    scores = f"match {explanation.match:.2f}   similarity {explanation.similarity:.3f}"
    draw.text(
        (_GAP, top + main[1] + 6), fit(draw, scores, main_width, 15), _FAINT, font_for(scores, 15)
    )
    longest = max((abs(word.contribution) for word in words), default=0.0)
    for position, word in enumerate(words):
        row, column = divmod(position, columns)
        left = _GAP + main_width + _GAP + column * (cell[0] + _GAP)
        under = top + row * cell[1] + panel[1]
        sheet.paste(overlay(image, word.heat, explanation.view, panel), (left, under - panel[1]))
        _caption(draw, word, (left, under + 4), cell[0], longest)
    return sheet


def _outline(picture: Image.Image, boxes: Iterable[Corners | None]) -> None:
    """Draw the boxes of text, fractions of the picture."""
    draw = ImageDraw.Draw(picture)
    for box in boxes:
        if box is not None:
            corners = [(x * picture.width, y * picture.height) for x, y in box]
            draw.line([*corners, corners[0]], "white", 5, "curve")
            draw.line([*corners, corners[0]], _FOR, 3, "curve")


def words_to_draw(explanation: Explanation) -> list[WordExplanation]:
    """Select the 12 words that contribute most, in the order of the text."""
    by_contribution = sorted(explanation.words, key=lambda word: -word.contribution)
    return sorted(by_contribution[:MAX_WORDS], key=lambda word: word.start)


def overlay(image: Image.Image, heat: HeatMap, view: Box, size: tuple[int, int]) -> Image.Image:
    """Overlay a heat map on an RGB image, scaled to size (width, height); returns RGB.

    Everything outside the view is faded. Colours range from the minimum to the maximum of the map,
    but a map whose range is smaller than its mean is not stretched to full contrast.
    """
    photo = np.asarray(image.resize(size, Image.Resampling.LANCZOS), np.float32)
    grey = photo @ np.array([0.299, 0.587, 0.114], np.float32)
    faded = 0.35 * grey + 0.65 * 255.0
    result = np.repeat(faded[..., np.newaxis], 3, axis=2)
    left, top, right, bottom = _inside(view, image.size, size)
    strength = _upsample(heat, (right - left, bottom - top))[..., np.newaxis]
    part = np.s_[top:bottom, left:right]
    opacity = 0.3 + 0.4 * strength
    # Half of the saturation is removed, so that colours of the photo are not read as heat.
    pale = 0.5 * photo[part] + 0.5 * grey[part][..., np.newaxis]
    result[part] = (1 - opacity) * pale + opacity * _colours(strength[..., 0])
    return Image.fromarray(np.clip(np.round(result), 0, 255).astype(np.uint8))


def _inside(view: Box, image: tuple[int, int], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Convert a view to whole pixels of the scaled image, at least one in each direction."""
    edges = []
    for low, high, whole, pixels in (
        (view[0], view[2], image[0], size[0]),
        (view[1], view[3], image[1], size[1]),
    ):
        start = min(max(round(low * pixels / whole), 0), pixels - 1)
        edges.append((start, min(max(round(high * pixels / whole), start + 1), pixels)))
    (left, right), (top, bottom) = edges
    return left, top, right, bottom


def _upsample(heat: HeatMap, size: tuple[int, int]) -> NDArray[np.float32]:
    """Upsample a heat map to size (width, height), scaled to 0..1: (height, width) float32."""
    spread = max(float(heat.max() - heat.min()), float(heat.mean()))
    scaled = (heat - heat.min()) / np.float32(spread or 1.0)
    smooth = Image.fromarray(scaled.astype(np.float32)).resize(size, Image.Resampling.BICUBIC)
    # Bicubic interpolation overshoots beside a peak.
    return np.clip(np.asarray(smooth, np.float32), 0.0, 1.0)


def _colours(strength: NDArray[np.float32]) -> NDArray[np.float32]:
    """Map values of 0..1 to colours: (h, w) -> (h, w, 3), 0..255."""
    anchors = np.linspace(0.0, 1.0, len(_MAGMA))
    channels = [np.interp(strength, anchors, channel) for channel in _MAGMA.T]
    return np.stack(channels, axis=-1).astype(np.float32)


def _scaled(size: tuple[int, int], longer_side: int) -> tuple[int, int]:
    scale = longer_side / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _caption(
    draw: ImageDraw.ImageDraw,
    word: WordExplanation,
    corner: tuple[int, int],
    width: int,
    longest: float,
) -> None:
    left, top = corner
    contribution = f"{word.contribution:+.2f}"
    room = width - round(draw.textlength(contribution, font_for(contribution, 14))) - 8
    name = _one_line(word.word)
    draw.text((left, top), fit(draw, name, room, 16), _INK, font_for(name, 16))
    draw.text(
        (left + width, top + 1), contribution, _FAINT, font_for(contribution, 14), anchor="ra"
    )
    length = round(width * abs(word.contribution) / longest) if longest else 0
    if length:
        bar = (left, top + 24, left + length - 1, top + 24 + _BAR - 1)
        draw.rectangle(bar, _FOR if word.contribution > 0 else _AGAINST)


def _one_line(text: str) -> str:
    """Join lines, and truncate to what could fit: `fit` measures each letter."""
    return " ".join(text[:400].split())

"""The order in which people read lines of text, from the boxes around them."""

import numpy as np
from numpy.typing import NDArray

Corners = NDArray[np.float32]
"""(n, 4, 2): the corners (x, y) of boxes in pixels, clockwise from the upper left of the text."""

_SAME_LINE = 0.5
"""Boxes are of one line where their centres lie closer than this share of their height."""
_SPANNING = 0.6
"""A box that is wider than this share of the text runs over all columns."""
_LEAST_LINES = 3
"""A column has at least as many lines."""
_LONG_LINE = 8.0
"""Lines of columns are longer than this many times their height; those of tables are not."""


def reading_order(corners: Corners) -> list[int]:
    """Order boxes by columns, then lines, then from left to right; tilted text is levelled first.

    Returns the places of the boxes. Columns are parted by a gap that runs through a band of text
    between the boxes that span it. What looks like a table is read line by line.
    """
    if len(corners) < 2:
        return list(range(len(corners)))
    level = _levelled(corners)
    left, right = level[..., 0].min(1), level[..., 0].max(1)
    middle, height = level[..., 1].mean(1), heights(corners)
    spans = right - left > _SPANNING * (right.max() - left.min())
    order: list[int] = []
    band: list[int] = []
    for place in [*np.argsort(middle, kind="stable").tolist(), None]:
        if place is not None and not spans[place]:
            band.append(place)
            continue
        for column in _columns(band, left, right, height):
            order += _by_lines(column, left, middle, height)
        band = []
        if place is not None:
            order.append(place)
    return order


def heights(corners: Corners) -> NDArray[np.float32]:
    """Measure the height of the text in boxes, in pixels: (n,) float32."""
    found: NDArray[np.float32] = np.linalg.norm(corners[:, 0] - corners[:, 3], axis=1)
    return found


def lengths(corners: Corners) -> NDArray[np.float32]:
    """Measure the length of the lines in boxes, in pixels: (n,) float32."""
    found: NDArray[np.float32] = np.linalg.norm(corners[:, 0] - corners[:, 1], axis=1)
    return found


def _levelled(corners: Corners) -> Corners:
    """Turn boxes about the origin by the angle of the longest half of them."""
    along = corners[:, 1] - corners[:, 0]
    length = lengths(corners)
    longest = along[length >= np.median(length)]
    angle = np.median(np.arctan2(longest[:, 1], longest[:, 0]))
    cosine, sine = np.cos(angle), np.sin(angle)
    turned: Corners = corners @ np.array([[cosine, -sine], [sine, cosine]], np.float32)
    return turned


def _columns(
    band: list[int],
    left: NDArray[np.float32],
    right: NDArray[np.float32],
    height: NDArray[np.float32],
) -> list[list[int]]:
    """Part a band at gaps that no box crosses, between columns of long lines."""
    by_left = sorted(band, key=lambda place: left[place])
    for cut in range(_LEAST_LINES, len(by_left) - _LEAST_LINES + 1):
        before, after = by_left[:cut], by_left[cut:]
        gap = min(left[after]) - max(right[before])
        if gap > 0.5 * np.median(height[band]) and all(
            np.median(right[part] - left[part]) > _LONG_LINE * np.median(height[part])
            for part in (before, after)
        ):
            return [before, *_columns(after, left, right, height)]
    return [band] if band else []


def _by_lines(
    places: list[int],
    left: NDArray[np.float32],
    middle: NDArray[np.float32],
    height: NDArray[np.float32],
) -> list[int]:
    lines: list[list[int]] = []
    for place in sorted(places, key=lambda place: middle[place]):
        if lines:
            first = lines[-1][0]
            room = _SAME_LINE * min(height[first], height[place])
            if abs(middle[place] - middle[first]) < room:
                lines[-1].append(place)
                continue
        lines.append([place])
    return [place for line in lines for place in sorted(line, key=lambda place: left[place])]

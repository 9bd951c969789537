import math
import random

import numpy as np
import pytest

from retrieval.recognition.reading_order import heights, lengths, reading_order


def box(x: float, y: float, width: float, height: float = 20) -> list[tuple[float, float]]:
    return [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]


def order(boxes, angle: float = 0.0) -> list[int]:
    """Order boxes that were shuffled and turned; returns their places in the list."""
    places = list(range(len(boxes)))
    random.Random(3).shuffle(places)
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    turned = np.array(boxes, np.float32) @ np.array([[cosine, sine], [-sine, cosine]], np.float32)
    return [places[place] for place in reading_order(turned[places])]


RECEIPT = [
    *(box(x, y + x / 50, w) for y in (0, 40, 80, 120) for x, w in ((0, 150), (420, 60))),
    box(0, 160, 480),
]
"""Names and prices: lines that are read across, as their boxes are too short for columns."""

COLUMNS = [
    box(0, 0, 900, 40),
    *(box(0, 60 + 30 * line, 400) for line in range(6)),
    *(box(450, 58 + 30 * line, 400) for line in range(6)),
    box(0, 300, 850),
]
"""A heading over all, two columns, and a line below them."""


@pytest.mark.parametrize("angle", [0, 4, -8])
@pytest.mark.parametrize("boxes", [RECEIPT, COLUMNS, RECEIPT[:1], []])
def test_lines_are_read_as_people_do(boxes, angle):
    boxes = np.array(boxes, np.float32).reshape(-1, 4, 2)
    assert order(boxes, angle) == list(range(len(boxes)))


def test_three_columns_are_read_one_after_the_other():
    columns = [box(x, 30 * line, 200) for x in (0, 250, 500) for line in range(4)]
    assert order(columns) == list(range(12))


def test_boxes_are_measured_along_their_text():
    turned = np.array([[(0, 0), (3, 4), (-5, 10), (-8, 6)]], np.float32)
    assert lengths(turned).tolist() == [5]
    assert heights(turned).tolist() == [10]

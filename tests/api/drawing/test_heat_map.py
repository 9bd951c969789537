import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from api.drawing.heat_map import MAX_WORDS, draw_heat_map, overlay, words_to_draw, write_heat_map
from retrieval.errors import MMSearchError, UsageError
from retrieval.recognition.base import Segment, Task
from retrieval.rerankers.explanation import Explanation, WordExplanation
from retrieval.search.found_text import FoundText


def spot(row: int, column: int, size: int = 9) -> np.ndarray:
    heat = np.full((size, size), 0.001, np.float32)
    heat[row, column] = 1
    return heat / heat.sum()


def explanation_of(text: str, size: tuple[int, int], contributions=None) -> Explanation:
    words, place = [], 0
    for number, word in enumerate(text.split()):
        start = text.index(word, place)
        place = start + len(word)
        contribution = contributions[number] if contributions else 1.0 / (number + 1)
        words.append(WordExplanation(word, start, place, contribution, spot(number % 9, 4)))
    return Explanation(text, 1.5, 0.25, tuple(words), spot(4, 4), (0, 0, *size))


@pytest.mark.parametrize(
    ("size", "view"),
    [
        ((600, 400), (100, 0, 500, 400)),
        ((400, 600), (0, 100, 400, 500)),
        ((300, 300), (0, 0, 300, 300)),
        ((640, 427), (53.3, 0, 586.7, 427)),
    ],
)
@pytest.mark.parametrize("place", [(0, 0), (1, 7), (4, 4), (8, 8)])
def test_the_hot_spot_lies_where_the_heat_is(size, view, place):
    drawn = overlay(Image.new("RGB", size, (60, 60, 60)), spot(*place), view, size)
    left, top, right, bottom = view
    rows, columns = np.mgrid[: size[1], : size[0]] + 0.5
    seen = (columns > left) & (columns < right) & (rows > top) & (rows < bottom)
    light = np.where(seen, np.asarray(drawn, np.float32).sum(axis=2), 0)
    hottest = light > 0.95 * light.max()
    row = (rows[hottest].mean() - top) / (bottom - top) * 9
    column = (columns[hottest].mean() - left) / (right - left) * 9
    assert (int(row), int(column)) == place


def test_what_the_model_does_not_see_is_faded_and_has_no_colour():
    photo = Image.new("RGB", (600, 400), (200, 30, 30))
    drawn = np.asarray(overlay(photo, spot(4, 4), (100, 0, 500, 400), (600, 400)))
    for outside in (drawn[:, :98], drawn[:, 502:]):
        assert np.ptp(outside, axis=2).max() == 0
        assert outside.min() > 150
    assert np.ptp(drawn[:, 102:498], axis=2).min() > 0


def test_boxes_of_found_text_are_outlined():
    image, explanation = Image.new("RGB", (400, 300), "grey"), explanation_of("exit", (400, 300))
    box = ((0.25, 0.5), (0.75, 0.5), (0.75, 0.8), (0.25, 0.8))
    found = [FoundText(Task.OCR, Segment("EXIT", 0.9, box), ("exit",))]
    found.append(FoundText(Task.CAPTION, Segment("an exit"), ("exit",)))
    plain = np.asarray(draw_heat_map(explanation, image), np.int16)
    changed = np.abs(np.asarray(draw_heat_map(explanation, image, found), np.int16) - plain).max(2)
    rows, columns = np.nonzero(changed > 40)
    width, height = columns.max() - columns.min(), rows.max() - rows.min()
    assert width / height == pytest.approx((0.5 * 400) / (0.3 * 300), rel=0.1)
    middle = changed[rows.min() + 8 : rows.max() - 8, columns.min() + 8 : columns.max() - 8]
    assert not middle.any()


def test_an_even_look_stays_even_and_a_nearly_even_one_is_not_stretched():
    photo = Image.new("RGB", (90, 90), "grey")
    even = np.full((9, 9), 1 / 81, np.float32)
    nearly = even.copy()
    nearly[4, 4] *= 1.1
    flat, near, peaked = (
        np.asarray(overlay(photo, heat, (0, 0, 90, 90), (90, 90)), np.int16)
        for heat in (even, nearly, spot(4, 4))
    )
    assert np.ptp(flat, axis=(0, 1)).max() == 0
    assert np.abs(near - flat).max() < 0.3 * np.abs(peaked - flat).max()


@pytest.mark.parametrize("size", [(600, 400), (400, 600)])
@pytest.mark.parametrize("count", [0, 1, 2, 5, 8, 9, 12, 30])
def test_every_word_has_a_panel_up_to_twelve(size, count):
    text = " ".join(f"word{number}" for number in range(count)) or "?"
    explanation = explanation_of(text, size)
    if not count:
        explanation = Explanation(text, 0.0, 0.0, (), spot(4, 4), (0, 0, *size))
    sheet = draw_heat_map(explanation, Image.new("RGB", size, (80, 80, 255)))
    red, _, blue = np.moveaxis(np.asarray(sheet, np.int16), 2, 0)
    assert panels(blue - red > 30) == 1 + min(count, MAX_WORDS)


def panels(mask: np.ndarray) -> int:
    """Connected parts of more than a thousand pixels."""
    from skimage.measure import label

    return int((np.bincount(label(mask).ravel())[1:] > 1000).sum())


def test_words_that_contribute_most_are_drawn_in_the_order_of_the_text():
    text = " ".join(f"w{number:02}" for number in range(20))
    explanation = explanation_of(text, (60, 40), [-5, 3, *[0.0] * 7, *range(1, 12)])
    drawn = [word.word for word in words_to_draw(explanation)]
    assert drawn == ["w01", *(f"w{number:02}" for number in range(9, 20))]


@pytest.mark.parametrize(
    "text",
    [
        "雪の中の 犬が 走る",
        "собака бежит по снегу",
        "कुत्ता बर्फ में",
        "كلب في الثلج",
        "a\x1b[31m \ud800 \u202e 🐕‍🦺",
        "x" * 10_000,
        "line\none\n\nline two",
    ],
    ids=["japanese", "russian", "hindi", "arabic", "odd", "long", "lines"],
)
def test_words_of_any_script_are_drawn(text):
    sheet = draw_heat_map(explanation_of(text, (60, 40)), Image.new("RGB", (60, 40)))
    assert sheet.width > sheet.height > 100


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1)])
def test_photos_of_any_shape_are_drawn(size):
    sheet = draw_heat_map(explanation_of("a dog", size), Image.new("RGB", size))
    assert max(sheet.size) < 2000


@st.composite
def heats_and_views(draw):
    heat = draw(
        arrays(
            np.float32,
            array_shapes(min_dims=2, max_dims=2, max_side=16),
            elements=st.floats(0, 1, width=32),
        )
    )
    total = np.float64(heat.sum())
    heat = heat / total if total > 1e-30 else np.full_like(heat, 1 / heat.size)
    width, height = draw(st.tuples(st.integers(1, 200), st.integers(1, 200)))
    left, right = sorted(draw(st.tuples(*[st.floats(0, width)] * 2)))
    top, bottom = sorted(draw(st.tuples(*[st.floats(0, height)] * 2)))
    return heat.astype(np.float32), (width, height), (left, top, right, bottom)


@settings(max_examples=100)
@given(heats_and_views(), st.tuples(st.integers(1, 64), st.integers(1, 64)))
def test_any_heat_map_gives_colours_between_the_photo_and_the_scale(case, size):
    """A warning of numpy (an invalid or overflowing cast) would be an error here."""
    heat, image_size, view = case
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = np.asarray(overlay(Image.new("RGB", image_size, "black"), heat, view, size))
    assert drawn.shape == (size[1], size[0], 3)
    # 70% of the brightest colour of the scale, or the grey of a faded black photo.
    assert drawn.max() <= round(0.7 * 253)


def test_the_ending_names_the_format(tmp_path):
    photo = Image.new("RGB", (60, 40))
    for ending, name in ((".png", "PNG"), (".jpg", "JPEG"), (".webp", "WEBP")):
        write_heat_map(explanation_of("a dog", photo.size), photo, tmp_path / f"map{ending}")
        with Image.open(tmp_path / f"map{ending}") as drawn:
            assert drawn.format == name


def test_what_cannot_be_drawn_is_told(tmp_path):
    photo = Image.new("RGB", (60, 40))
    explanation = explanation_of("a dog", photo.size)
    for name in ("map.xyz", "map", "map.psd"):
        with pytest.raises(UsageError, match=r"must end in \.png"):
            write_heat_map(explanation, photo, tmp_path / name)
    with pytest.raises(UsageError, match="does not exist"):
        write_heat_map(explanation, photo, tmp_path / "nowhere" / "map.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(UsageError, match="it is a directory"):
        write_heat_map(explanation, photo, tmp_path / "folder.png")
    with pytest.raises(UsageError, match="cannot be written: File name too long"):
        write_heat_map(explanation, photo, tmp_path / ("x" * 300 + ".png"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_told(tmp_path):
    photo = Image.new("RGB", (60, 40))
    (tmp_path / "map.png").symlink_to("/dev/full")
    with pytest.raises(MMSearchError, match="cannot be written: No space left"):
        write_heat_map(explanation_of("a dog", photo.size), photo, tmp_path / "map.png")

"""Text in any script, cut to a width, and the names that pictures are saved under."""

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from api.drawing.text import fit, font_for, require_drawable, save_picture, wrap
from retrieval.errors import MMSearchError, UsageError

DRAW = ImageDraw.Draw(Image.new("RGB", (1, 1)))


@settings(max_examples=50)
@given(st.text(max_size=40), st.integers(40, 200), st.integers(8, 24))
@example("\u202e" * 5, 40, 22)
def test_a_text_is_as_wide_as_it_may_be_and_no_wider(text, width, size):
    """In the font that its caller draws with, which is chosen by the whole text."""
    shown = fit(DRAW, text, width, size)
    font = font_for(text, size)
    assert DRAW.textlength(shown, font) <= width
    assert shown.isprintable()
    if len(shown.removesuffix("...")) < len(text):
        kept = len(shown) - len("...")
        longer = "".join(c if c.isprintable() else "?" for c in text[: kept + 1])
        assert DRAW.textlength(f"{longer}...", font) > width


@settings(max_examples=50)
@given(st.text(max_size=30))
def test_a_text_with_room_is_whole_but_for_what_cannot_be_printed(text):
    shown = fit(DRAW, text, 100_000, 14)
    assert len(shown) == len(text)
    assert all(a == b if b.isprintable() else a == "?" for a, b in zip(shown, text, strict=True))


@settings(max_examples=50)
@given(st.text(max_size=80), st.integers(80, 300), st.integers(1, 4))
@example("a woman in an orange suit", 200, 2)
def test_lines_are_no_wider_than_they_may_be_and_lose_no_word_but_at_the_end(text, width, lines):
    broken = wrap(DRAW, text, width, 22, lines)
    assert 1 <= len(broken) <= lines
    font = font_for(text, 22)
    assert all(DRAW.textlength(line, font) <= width for line in broken)
    whole = "".join(c if c.isprintable() else "?" for c in text)
    kept = " ".join(broken)
    assert kept == whole or (kept.endswith("...") and whole.startswith(kept.removesuffix("...")))


@pytest.mark.parametrize("name", ["x.png", "x.JPG", "x.jpeg", "x.webp"])
def test_a_picture_is_saved_in_the_format_of_its_name(tmp_path, name):
    require_drawable(tmp_path / name)
    assert not (tmp_path / name).exists()
    save_picture(Image.new("RGB", (30, 20), "red"), tmp_path / name)
    with Image.open(tmp_path / name) as saved:
        assert saved.format == {"png": "PNG", "ebp": "WEBP"}.get(name[-3:], "JPEG")
        assert saved.size == (30, 20)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("x.gif", r"must end in \.png"),
        ("png", r"must end in \.png"),
        ("nowhere/x.png", "does not exist"),
        ("folder.png", "it is a directory"),
        ("x" * 300 + ".png", "File name too long"),
    ],
)
def test_names_that_nothing_can_be_saved_under(tmp_path, name, message):
    (tmp_path / "folder.png").mkdir()
    for attempt in (require_drawable, lambda path: save_picture(Image.new("RGB", (1, 1)), path)):
        with pytest.raises(UsageError, match=message):
            attempt(tmp_path / name)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_told_with_its_reason(tmp_path):
    (tmp_path / "x.png").symlink_to("/dev/full")
    with pytest.raises(MMSearchError, match="No space left"):
        save_picture(Image.new("RGB", (9, 9)), tmp_path / "x.png")

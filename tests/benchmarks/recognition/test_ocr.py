import pytest
from PIL import Image

from benchmarks.recognition import ocr
from retrieval.errors import UsageError
from retrieval.recognition.base import Recognized, Segment


class HalfReader:
    """Reads the first half of the lines of every page, and skips pictures that are black."""

    least_side = 1400

    def __init__(self, language: str = "en") -> None:
        self.lines = ocr.page_lines(language)

    def may_have_text(self, image: Image.Image) -> bool:
        return image.getpixel((0, 0)) != (0, 0, 0)

    def recognize(self, images):
        lines = self.lines[: len(self.lines) // 2]
        return [Recognized([Segment(line) for line in lines]) for _ in images]


def test_pages_of_each_size_and_angle_are_measured():
    if ocr.find_font("en") is None:
        pytest.skip("no font for en: apt-get install fonts-dejavu-core")
    told = []
    found = ocr.measure_pages(HalfReader(), ["en"], [10, 12], [0, 90], on_page=told.append)
    assert [(page.size, page.angle) for page in found] == [(10, 0), (10, 90), (12, 0), (12, 90)]
    assert told == found
    lines = ocr.page_lines("en")
    share = len(" ".join(" ".join(lines[:6]).split())) / len(" ".join(" ".join(lines).split()))
    assert found[0].right == pytest.approx(share, abs=0.02)


def test_a_language_without_a_font_is_told(monkeypatch):
    monkeypatch.setitem(ocr.FONTS, "zh", ("no such font.ttf",))
    assert ocr.find_font("zh") is None
    with pytest.raises(UsageError, match=r"no font for 'zh'.*no such font"):
        ocr.measure_pages(HalfReader(), ["zh"])


def test_photos_are_counted_by_what_the_first_look_says(tmp_path):
    for name, color in {"a": "white", "b": "black", "c": "black"}.items():
        Image.new("RGB", (20, 20), color).save(tmp_path / f"{name}.png")
    (tmp_path / "d.png").write_bytes(b"no picture")
    found = ocr.measure_photos(HalfReader(), sorted(tmp_path.iterdir()))
    assert (found.photos, found.skipped, found.with_text, found.failed) == (3, 2, 1, 1)
    assert found.seconds_a_photo == pytest.approx((found.skipping_s + found.reading_s) / 3)
    with pytest.raises(UsageError, match="No photo"):
        ocr.measure_photos(HalfReader(), [tmp_path / "d.png"])


def test_pages_say_as_much_in_each_language():
    assert {len(ocr.page_lines(language)) for language in ocr.FONTS} == {12}

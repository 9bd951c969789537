import socket
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

pytest.importorskip("rapidocr", reason="the extra `ocr` is not installed")

import itertools

from benchmarks.metrics.character_error_rate import character_error_rate
from benchmarks.recognition.ocr import find_font, page_lines, render_page
from retrieval.errors import EncoderUnavailableError, MissingExtraError, UsageError
from retrieval.recognition import ocr
from retrieval.recognition.base import PictureRecognizer, Task
from retrieval.recognition.registry import load_recognizer

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def reader():
    return ocr.RapidOcr(threads=1)


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*_: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def font(language: str) -> str:
    found = find_font(language)
    if found is None:
        pytest.skip(f"no font for {language}: apt-get install fonts-dejavu-core fonts-wqy-microhei")
    return found


def read(reader: ocr.RapidOcr, image: Image.Image):
    [found] = reader.recognize([image])
    assert found.failure is None
    return found


@pytest.mark.parametrize(
    ("language", "size", "angle"),
    [("en", 14, 0), ("en", 20, 90), ("zh", 16, 180), ("zh", 28, -6), ("en", 40, 270)],
)
def test_pages_are_read_at_every_size_and_angle(reader, language, size, angle):
    lines = page_lines(language)[:4]
    found = read(reader, render_page(lines, font(language), size, angle))
    # Two of 72 characters may be wrong: blanks before numbers are lost now and then.
    assert character_error_rate([" ".join(lines)], [found.text or ""]) <= 0.03
    assert all(segment.confidence >= ocr.LEAST_CONFIDENCE for segment in found.segments)


@pytest.mark.parametrize("turns", range(4))
def test_boxes_enclose_the_text_and_begin_at_its_upper_left(reader, turns):
    image = Image.new("RGB", (600, 300), "white")
    draw = ImageDraw.Draw(image)
    drawn = ImageFont.truetype(font("en"), 48)
    left, top, right, bottom = draw.textbbox((180, 120), "STOP HERE", font=drawn)
    draw.text((180, 120), "STOP HERE", "black", drawn)
    turned = image.rotate(90 * turns, expand=True)
    [segment] = read(reader, turned).segments
    assert segment.text == "STOP HERE"
    width, height = turned.size
    corners = np.array(segment.box) * (width, height)
    # Back in the picture that was not turned, whose sides are 600 and 300 pixels.
    for _ in range(turns):
        corners = np.stack([height - corners[:, 1], corners[:, 0]], axis=1)
        width, height = height, width
    assert np.abs(corners - [(left, top), (right, top), (right, bottom), (left, bottom)]).max() < 30


def test_long_receipts_are_read_in_tiles_each_line_once(reader, monkeypatch):
    cut, tiles_of = [], ocr._tiles
    for name, value in {"MOST_PIXELS": 150_000, "_TILE": 400, "_OVERLAP": 100}.items():
        monkeypatch.setattr(ocr, name, value)
    monkeypatch.setattr(ocr, "_tiles", lambda length: cut.extend(tiles_of(length)) or cut)
    lines = [f"Item number {number}: {number * 7}.50 EUR" for number in range(24)]
    found = read(reader, render_page(lines, font("en"), 20))
    assert len(cut) >= 2
    assert character_error_rate([" ".join(lines)], [found.text or ""]) <= 0.02


def test_columns_of_characters_are_read_downwards(reader):
    drawn = ImageFont.truetype(font("zh"), 60)
    sign = Image.new("RGB", (300, 420), "#ffe9a8")
    for place, character in enumerate("海港面包店"):
        ImageDraw.Draw(sign).text((120, 40 + 66 * place), character, "black", drawn)
    assert "海港面包店" in (read(reader, sign).text or "")


def test_pictures_without_text_are_skipped_at_the_first_look(reader, monkeypatch):
    def refuse(*_: object) -> None:
        raise AssertionError("it was read")

    monkeypatch.setattr(reader, "_read", refuse)
    shades = np.linspace(0, 255, 900 * 1200 * 3).astype(np.uint8).reshape(900, 1200, 3)
    for picture in (Image.new("RGB", (1200, 900), "navy"), Image.fromarray(shades)):
        assert read(reader, picture).segments == ()
        assert not reader.may_have_text(picture)


@pytest.mark.parametrize("size", [(1, 1), (3, 2000), (2000, 3), (31, 33)])
def test_odd_sizes_are_no_trouble(reader, size):
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    read(reader, Image.fromarray(noise))
    reader._read(Image.fromarray(noise), np.array([[(0, 0), (1, 0), (1, 1), (0, 1)]], np.float32))


def test_tiles_cover_a_side_and_overlap():
    for length in (1700, 2600, 5000, 20_000):
        tiles = ocr._tiles(length)
        assert tiles[0][0] == 0
        assert tiles[-1][1] == length
        assert all(b[0] <= a[1] - ocr._OVERLAP // 2 for a, b in itertools.pairwise(tiles))


def test_what_an_edge_cuts_gives_way_to_the_whole():
    whole, half = [(0, 0), (90, 0), (90, 9), (0, 9)], [(0, 0), (40, 0), (40, 9), (0, 9)]
    other = [(0, 30), (90, 30), (90, 39), (0, 39)]
    boxes = np.array([half, whole, other, whole], np.float32)
    kept = ocr._once(boxes, np.array([True, False, True, False]))
    assert sorted(kept.tolist()) == sorted(np.array([whole, other], np.float32).tolist())


def test_a_failure_of_the_network_is_of_one_picture(reader, monkeypatch):
    def fail(_: object) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(reader, "_glancer", fail)
    [found] = reader.recognize([Image.effect_noise((50, 50), 60).convert("RGB")])
    assert (found.segments, found.failure) == ((), "its text cannot be recognised: no room")


def test_threads_read_side_by_side(reader):
    pages = [render_page([f"Page number {n}"], font("en"), 24) for n in range(3)]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda page: read(reader, page).text, pages))
    assert found == [f"Page number {n}" for n in range(3)]


def test_nothing_is_asked_of_the_network_or_said(no_network, capfd):
    loaded = load_recognizer(Task.OCR, "rapidocr")
    assert isinstance(loaded, PictureRecognizer)
    [found] = loaded.recognize([render_page(["No download"], font("en"), 24)])
    assert found.text == "No download"
    assert capfd.readouterr() == ("", "")
    assert "PP-OCRv6" in loaded.identity
    assert len(loaded.identity) <= 200


def test_missing_models_are_told_and_not_downloaded(no_network, tmp_path):
    with pytest.raises(EncoderUnavailableError, match=r"PP-OCRv6_det_small\.onnx.*pip install"):
        ocr.RapidOcr(models=tmp_path)
    for name in (ocr.DETECTOR, ocr.READER):
        (tmp_path / name).write_bytes(b"no model")
    with pytest.raises(EncoderUnavailableError, match="Cannot load the model PP-OCRv6"):
        ocr.RapidOcr(models=tmp_path)


def test_a_missing_package_and_another_name_are_told(monkeypatch):
    with pytest.raises(UsageError, match="there is: rapidocr"):
        ocr.load_recognizer("tesseract")
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'mmsearch\[ocr\]'"):
        ocr.load_recognizer("rapidocr")

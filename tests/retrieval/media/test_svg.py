import base64
import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from retrieval.media.images import UnreadableImageError, read_image, read_picture
from retrieval.media.svg import SVG_SIDE, parse_xml

RED = (200, 30, 40)


def drawing(body: str, attributes: str = 'width="40" height="20"', before: str = "") -> bytes:
    spaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return f"{before}<svg {spaces} {attributes}>{body}</svg>".encode()


HALF = '<rect width="20" height="20" fill="#c81e28"/>'


@pytest.mark.parametrize(
    "data",
    [
        drawing(HALF),
        drawing(HALF, before='<?xml version="1.0"?>\n<!-- by hand -->\n'),
        drawing(
            HALF,
            before='<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/svg11.dtd">',
        ),
        drawing(HALF, before='<!DOCTYPE svg [<!ENTITY ns "http://example.com/">]>'),
        drawing(HALF, 'viewBox="0 0 40 20"'),
        drawing(HALF, 'width="1in" height="0.5in" viewBox="0 0 40 20"'),
        drawing("<style>rect { fill: #c81e28 }</style>" + HALF.replace("fill", "x-fill")),
    ],
)
def test_a_drawing_is_drawn_on_white(data):
    picture = read_picture(data)
    assert picture.image.mode == "RGB"
    assert picture.image.size == (picture.width, picture.height) == (SVG_SIDE, SVG_SIDE // 2)
    assert picture.image.getpixel((10, 10)) == RED
    assert picture.image.getpixel((SVG_SIDE - 10, 10)) == (255, 255, 255)


def test_a_compressed_drawing_is_read_and_can_be_reduced(tmp_path):
    path = tmp_path / "a.svgz"
    path.write_bytes(gzip.compress(drawing(HALF)))
    picture = read_picture(path, least_side=200)
    assert picture.image.size == (512, 256)
    assert (picture.width, picture.height) == (1024, 512)


def test_a_drawing_reads_no_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "secret.png"
    Image.new("RGB", (8, 8), RED).save(path)
    inside = base64.b64encode(path.read_bytes()).decode()
    for attribute in ("href", "xlink:href"):
        for target in ("secret.png", str(path), path.as_uri(), f" {path} "):
            body = f'<image {attribute}="{target}" width="40" height="20"/>'
            assert read_image(drawing(body)).getpixel((9, 9)) == (255, 255, 255)
    body = f'<image href="data:image/png;base64,{inside}" width="40" height="40"/>'
    assert read_image(drawing(body)).getpixel((9, 9)) == RED


@pytest.mark.parametrize(
    "data",
    [
        drawing("<g>" * 5000 + "</g>" * 5000),
        drawing(
            "<text>&x;</text>", before='<!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
        ),
        drawing(
            "<text>&b;</text>",
            before='<!DOCTYPE svg [<!ENTITY a "haha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;">]>',
        ),
        drawing(
            '<g transform="scale(1000000)"><pattern id="p" width="1" height="1"'
            ' patternUnits="userSpaceOnUse"><rect width="1" height="1"/></pattern>'
            '<rect width="1" height="1" fill="url(#p)"/></g>'
        ),
        drawing(HALF)[:-3],
        b"<html><svg width='4'/></html>",
    ],
)
def test_hostile_and_broken_drawings_are_refused(data):
    with pytest.raises(UnreadableImageError):
        read_image(data)


def test_a_drawing_of_enormous_size_is_drawn_small():
    size = 'width="1000000" height="1000000"'
    assert read_image(drawing(HALF, size)).size == (SVG_SIDE, SVG_SIDE)


@given(st.text(max_size=60))
def test_xml_keeps_any_text_or_says_that_it_cannot(text):
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    try:
        parsed = parse_xml(f"<a>{escaped}</a>".encode(errors="surrogatepass"), doctype=False)
    except ValueError:
        assert any(
            ord(one) < 32 or 0xD800 <= ord(one) < 0xE000 or ord(one) & ~1 == 0xFFFE for one in text
        )
    else:
        assert (parsed.text or "") == text.replace("\r\n", "\n").replace("\r", "\n")

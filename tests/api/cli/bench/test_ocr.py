"""`mmsearch bench ocr` as users call it."""

import json

import pytest
from PIL import Image

from benchmarks.recognition.ocr import FONTS, find_font
from retrieval.errors import NotFoundError, UsageError


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--language", "en,tlh"], "--language takes en, zh, not 'tlh'"),
        (["--sizes", "0"], "--sizes takes"),
        (["--angles", "nan"], "--angles takes"),
    ],
)
def test_what_cannot_be_measured_is_told(run, options, told):
    with pytest.raises(UsageError, match=told):
        raise run("ocr", *options).exception


def test_a_missing_folder_is_told(run):
    with pytest.raises(NotFoundError, match="nothing at nowhere"):
        raise run("ocr", "nowhere").exception


@pytest.mark.slow
def test_pages_and_photos_are_measured(run, tmp_path, monkeypatch):
    pytest.importorskip("rapidocr", reason="the extra `ocr` is not installed")
    if find_font("en") is None:
        pytest.skip("no font for en: apt-get install fonts-dejavu-core")
    monkeypatch.setitem(FONTS, "zh", ("no such font.ttf",))
    Image.new("RGB", (64, 64), "navy").save(tmp_path / "sea.png")
    options = ["ocr", tmp_path, "--sizes", "16", "--angles", "0", "--threads", 1]
    result = run(*options, "--json")
    assert result.exit_code == 0, result.output
    body = json.loads(result.stdout)
    [page] = body["pages"]
    assert (page["language"], page["size"], page["angle"]) == ("en", 16, 0)
    assert page["right"] > 0.98
    assert "PP-OCRv6" in body["model"]
    photos = body["photos"]
    assert (photos["photos"], photos["skipped"], photos["with_text"]) == (1, 1, 0)
    assert "zh is left out" in result.stderr

"""Receipts, signs, slides and scans, from files to what a search and the service show."""

from pathlib import Path

import pytest
from PIL import Image, ImageDraw, ImageFont
from starlette.testclient import TestClient

pytest.importorskip("rapidocr", reason="the extra `ocr` is not installed")

from api.http.app import create_app
from benchmarks.recognition.ocr import find_font, render_page
from indexer.enrichment.run import enrich
from indexer.pipeline import index_sources
from retrieval.library import create_library
from retrieval.recognition.base import Task
from retrieval.recognition.ocr import RapidOcr

pytestmark = pytest.mark.slow

SAID = {
    "exit.jpg": "emergency exit",
    "wet.jpg": "小心地滑",
    "receipt.png": "blueberry",
    "receipt-zh.png": "全麦面包",
    "slide.png": "momentum",
    "slide-zh.png": "牛顿法",
}
"""Words that one picture alone says."""
PLAIN = {"sea.png", "sky.png"}


def make_folder(folder: Path, english: str, chinese: str) -> None:
    for name, font in (("exit.jpg", english), ("wet.jpg", chinese)):
        sign = Image.effect_noise((640, 480), 60).convert("RGB")
        draw = ImageDraw.Draw(sign)
        draw.rectangle((40, 150, 600, 260), "#0a7a33")
        draw.text((60, 180), SAID[name].upper(), "white", ImageFont.truetype(font, 48))
        sign.save(folder / name, quality=90)
    receipt = ["Harbour Bakery", "Blueberry muffin   3.25", "Total EUR 12.85"]
    render_page(receipt, english, 18, 90).save(folder / "receipt.png")
    render_page(["海港路面包店", "全麦面包  9.60", "合计12.85元"], chinese, 20, 4).save(
        folder / "receipt-zh.png"
    )
    render_page(["Gradients", "Step sizes & momentum"], english, 44).save(folder / "slide.png")
    render_page(["梯度与动量", "牛顿法二次收敛"], chinese, 44).save(folder / "slide-zh.png")
    pages = [
        render_page(["Your lease ends on 30 June.", "Kind regards"], english, 24),
        render_page(["租约将于六月三十日到期。"], chinese, 24, 180),
    ]
    pages[0].save(folder / "scan.pdf", save_all=True, append_images=pages[1:])
    for name, color in zip(sorted(PLAIN), ("navy", "skyblue"), strict=True):
        Image.new("RGB", (320, 240), color).save(folder / name)


@pytest.fixture(scope="module")
def library(tmp_path_factory, tiny_encoder):
    fonts = find_font("en"), find_font("zh")
    if None in fonts:
        pytest.skip("no font: apt-get install fonts-dejavu-core fonts-wqy-microhei")
    folder = tmp_path_factory.mktemp("paper")
    make_folder(folder, *fonts)
    library = create_library(tmp_path_factory.mktemp("ocr") / "library", tiny_encoder.space)
    index_sources(library, tiny_encoder, [folder])
    summary = enrich(library, tiny_encoder, Task.OCR, lambda: RapidOcr(threads=1))
    assert (summary.looked_at, summary.with_text, summary.failed) == (10, 8, 0)
    return library


@pytest.fixture(scope="module")
def client(library):
    with TestClient(create_app(library.path, device="cpu"), base_url="http://localhost") as client:
        yield client


def names(hits) -> list[str]:
    return [Path(hit["path"]).name for hit in hits]


def search(client, text: str, **asked) -> list[dict]:
    answer = client.post("/v1/search", json={"text": text, "mode": "text", **asked})
    assert answer.status_code == 200, answer.text
    return answer.json()["hits"]


@pytest.mark.parametrize(("name", "words"), SAID.items())
def test_what_a_picture_says_finds_it(client, name, words):
    hits = search(client, words, k=5)
    assert names(hits)[0] == name
    assert hits[0]["words"] > 0
    [read] = client.get(f"/v1/items/{hits[0]['item_id']}/texts").json()["texts"]
    assert words in read["text"].lower()
    for segment in read["segments"]:
        assert segment["confidence"] > 0.6
        assert all(0 <= value <= 1 for corner in segment["box"] for value in corner)


@pytest.mark.parametrize(("words", "page"), [("lease", 1), ("租约", 2)])
def test_scanned_pages_are_found_by_their_number(client, words, page):
    [hit] = search(client, words, modality="image", k=1)
    assert (Path(hit["path"]).name, hit["page"]) == ("scan.pdf", page)


def test_passages_are_items_of_the_picture_that_they_were_found_in(client):
    hits = search(client, "momentum", modality="text", k=1)
    assert (names(hits), hits[0]["found_by"]) == (["slide.png"], "ocr")
    assert hits[0]["text"] == "Gradients\nStep sizes & momentum"


def test_only_what_shows_text_passes_the_filter(client):
    with_text = client.get("/v1/items", params={"where": '{"has_text": true}', "limit": 100})
    assert set(names(with_text.json()["items"])) == {*SAID, "scan.pdf"}
    others = client.get("/v1/items", params={"where": '{"has_text": false}', "limit": 100})
    assert set(names(others.json()["items"])) == PLAIN
    asked = {"text": "sea", "mode": "vector", "k": 20, "where": {"has_text": False}}
    assert set(names(client.post("/v1/search", json=asked).json()["hits"])) == PLAIN
    counted = client.get("/v1/facets", params={"where": '{"has_text": true}'}).json()["kinds"]
    assert {one["value"]: one["count"] for one in counted} == {"image": 6, "document": 2}

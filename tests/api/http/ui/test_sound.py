"""Sounds on the page, in a real Chromium: cards, the player with its waveform, and queries."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import expect

from indexer.pipeline import index_sources
from retrieval.library import create_library
from tests.api.http.routes.test_page import drop, opened, serving
from tests.api.http.routes.test_page_viewer import film
from tests.api.http.ui.test_found_texts import viewing
from tests.tiny_clap import make_clap, tones, write_sound

pytestmark = pytest.mark.slow

PITCHES = (220, 440, 880, 1760, 3520)


@pytest.fixture(scope="module")
def library(tmp_path_factory, tiny_encoder):
    """Two sounds of windows of a second, and a picture, in the spaces of two encoders."""
    pytest.importorskip("av", reason="the test needs sounds (PyAV)")
    pytest.importorskip("transformers", reason="the test needs CLAP (transformers)")
    from retrieval.encoders.registry import load_encoder

    folder = tmp_path_factory.mktemp("sounds")
    write_sound(folder / "scale.wav", tones(*PITCHES))
    write_sound(folder / "bell.mp3", tones(660, 990), codec="libmp3lame")
    Image.new("RGB", (60, 40), "green").save(folder / "green.png")
    clap = load_encoder(make_clap(tmp_path_factory.mktemp("clap")), device="cpu")
    library = create_library(tmp_path_factory.mktemp("library") / "library", tiny_encoder.space)
    library.add_space(clap.space)
    for encoder in (tiny_encoder, clap):
        index_sources(library, encoder, [folder])
    yield library
    library.close()


@pytest.fixture(scope="module")
def address(library, served) -> Iterator[str]:
    with serving(served, library, rate_limit="1000/second", rerank="none") as address:
        yield address


@pytest.fixture(scope="module")
def windows(library) -> list[int]:
    """The ids of the windows of the scale, by time."""
    space = next(id_ for id_ in library.space_ids() if "clap" in library.space(id_).encoder)
    with library.catalog.snapshot() as snapshot:
        items = [
            item
            for item in snapshot.items(space, limit=100)
            if Path(item.path).name == "scale.wav" and item.modality == "audio"
        ]
    return [item.id for item in sorted(items, key=lambda item: item.time_s)]


@pytest.mark.parametrize(("scheme", "locale"), [("light", "en-US"), ("dark", "zh-CN")])
def test_sounds_have_cards_with_their_waveform_name_and_time(browser, address, scheme, locale):
    with opened(browser, address, color_scheme=scheme, locale=locale) as page:
        expect(page.locator("#hits li").first).to_be_visible()
        page.locator("#filters-button").click()
        page.locator("label:has(#what-audio)").click()
        expect(page).to_have_url(re.compile(r"\?what=audio$"))
        cards = page.locator("#hits li.of-sound")
        expect(cards).to_have_count(len(PITCHES) + 2)
        page.keyboard.press("Escape")
        card = page.locator("#hits li", has=page.get_by_alt_text("scale.wav, 0:01–0:02"))
        expect(card.locator("img")).to_have_class("shown")
        expect(card.locator(".badge").first).to_have_text("0:01–0:02")
        expect(card.locator(".hit-name")).to_have_css("opacity", "1")
        counted = "7 sounds" if locale == "en-US" else "7 段声音"
        expect(page.locator("#status")).to_contain_text(counted)
        assert Axe().run(page).violations_count == 0


@pytest.mark.parametrize(("scheme", "locale"), [("light", "en-US"), ("dark", "zh-CN")])
def test_a_sound_is_played_from_its_window(browser, address, windows, scheme, locale):
    options = {"color_scheme": scheme, "locale": locale}
    with viewing(browser, address, windows[2], "what=audio", **options) as page:
        player = page.locator("dialog audio")
        page.wait_for_function("() => document.querySelector('dialog audio').currentTime === 2")
        expect(page.locator(".viewer-what")).to_contain_text("0:02–0:03")
        wave = page.get_by_role("slider")
        expect(wave).to_have_attribute("aria-valuetext", "0:02")
        strip = page.locator(".storyboard button")
        expect(strip).to_have_count(len(PITCHES))
        expect(strip.nth(2)).to_have_class("hit")
        box = wave.bounding_box()
        page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        assert player.evaluate("player => player.currentTime") == pytest.approx(2.5, abs=0.05)
        before = page.url
        page.keyboard.press("ArrowLeft")
        assert player.evaluate("player => player.currentTime") == pytest.approx(1.5, abs=0.05)
        assert page.url == before
        expect(strip.nth(1)).to_have_attribute("aria-current", "true")
        strip.first.click()
        page.wait_for_function("() => document.querySelector('dialog audio').currentTime < 1.4")
        page.keyboard.press("k")
        assert player.evaluate("player => player.paused")
        assert Axe().run(page).violations_count == 0
        page.locator("[data-name=next]").click()
        expect(page).not_to_have_url(before)
        expect(page.locator("dialog audio")).to_have_count(1)


def test_a_sound_as_the_query(browser, address, tmp_path):
    asked = []
    with opened(browser, f"{address}/?what=audio&min=0") as page:
        expect(page.locator("#hits li").first).to_be_visible()
        page.on("request", lambda request: asked.append(request))  # noqa: PLW0108
        expect(page.locator("#pick")).to_have_accessible_name(re.compile("a sound or a video"))
        sound = write_sound(tmp_path / "mine.wav", tones(880))
        drop(page, "drop", sound.read_bytes(), "audio/wav")
        expect(page.locator("#chips")).to_contain_text("your sound")
        expect(page.locator("#hits img").first).to_have_attribute("alt", "scale.wav, 0:02–0:03")
        body = next(request for request in asked if request.url.endswith("/search")).post_data_json
        assert [list(part) for part in body["parts"]] == [["audio", "weight"]]
        page.reload()
        expect(page.locator("#hits img").first).to_have_attribute("alt", "scale.wav, 0:02–0:03")
        drop(page, "drop", b"no sound at all", "audio/wav")
        expect(page.locator("#note")).to_contain_text("no picture, sound or video")


def test_a_video_as_the_query_is_the_picture_in_its_middle(browser, address, tmp_path):
    with opened(browser, f"{address}/?min=0") as page:
        expect(page.locator("#hits li").first).to_be_visible()
        film(tmp_path / "mine.webm", "libvpx-vp9")
        page.locator("#file").set_input_files(tmp_path / "mine.webm")
        picture = page.locator("#chips img")
        expect(picture).to_be_visible()
        colour = picture.evaluate(
            """image => { const canvas = new OffscreenCanvas(1, 1).getContext('2d');
                 canvas.drawImage(image, 0, 0, 1, 1);
                 return [...canvas.getImageData(0, 0, 1, 1).data] }"""
        )
        assert colour[2] > 120 > max(colour[:2]), "blue, of the third scene"
        expect(page.locator("#hits img").first).to_have_attribute("alt", "green.png")

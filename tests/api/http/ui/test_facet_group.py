"""Filters of several values, in a real Chromium."""

import re
from collections.abc import Iterator

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from indexer.pipeline import index_sources
from retrieval.library import create_library
from tests.api.http.routes.test_page import opened, serving

pytestmark = pytest.mark.slow

PARIS = {1: "N", 2: (48.0, 51.0, 24.0), 3: "E", 4: (2.0, 21.0, 7.0)}
LYON = {1: "N", 2: (45.0, 45.0, 50.0), 3: "E", 4: (4.0, 50.0, 8.0)}
ROME = {1: "N", 2: (41.0, 54.0, 10.0), 3: "E", 4: (12.0, 29.0, 47.0)}
PHOTOS = [
    ("2019/paris", "iPhone 12", PARIS),
    ("2019/paris/louvre", "iPhone 12", PARIS),
    ("2019/lyon", "iPhone 12 Pro", LYON),
    ("2020/rome", "iPhone 12 Pro", ROME),
    ("2020/rome", "Canon EOS R5", ROME),
    ("2021", "Canon EOS R5", None),
    ("many", "Canon EOS R5", None),
]
MANY = 14


@pytest.fixture(scope="module")
def address(tmp_path_factory, tiny_encoder, served) -> Iterator[str]:
    pytest.importorskip("reverse_geocode", reason="names of places come from reverse-geocode")
    folder = tmp_path_factory.mktemp("travels")
    generator = np.random.default_rng(0)
    rows = ["image,album,price"]
    for number, (below, camera, gps) in enumerate(PHOTOS):
        exif = Image.Exif()
        exif[0x0110] = camera
        exif.get_ifd(0x8769)[0x9003] = f"{below[:4] if gps else 2021}:0{number + 1}:15 12:00:00"
        exif.get_ifd(0x8825).update(gps or {})
        (folder / below).mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 256, (40, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / below / f"{number}.jpg", exif=exif)
        rows.append(f"{below}/{number}.jpg,{'Holiday' if gps else 'Work'},{10 * number}")
    for number in range(MANY):
        (folder / "many" / f"folder {number:02}").mkdir()
        Image.fromarray(pixels).save(folder / "many" / f"folder {number:02}" / "copy.jpg")
    (folder / "rows.csv").write_text("\n".join(rows))
    library = create_library(tmp_path_factory.mktemp("library") / "library", tiny_encoder.space)
    index_sources(library, tiny_encoder, [folder])
    with serving(served, library, rate_limit="1000/second") as address:
        yield address
    library.close()


@pytest.fixture
def page(browser, address) -> Iterator[Page]:
    with opened(browser, address) as page:
        page.get_by_role("button", name="Filters").click()
        expect(page.locator("#filters-done")).to_have_text(f"Show {len(PHOTOS) + MANY} pictures")
        yield page


def group(page: Page, name: str) -> Locator:
    """Open a group."""
    summary = page.locator(f"#facet-{name}")
    summary.focus()
    summary.press("Enter")
    return page.locator(f"details:has(#facet-{name})")


def box(group: Locator, name: str) -> Locator:
    return group.get_by_role("checkbox", name=name)


def shown(page: Page, count: int) -> None:
    expect(page.locator("#hits li.hit")).to_have_count(count)


def test_places_are_a_tree_and_several_are_joined_by_or(page):
    places = group(page, "places")
    expect(places.locator("li")).to_have_text(["France3", "Italy2"])
    places.get_by_role("button", name="What is in France").click()
    region = box(places, "Île-de-France 2")
    region.focus()
    region.press("Space")
    shown(page, 2)
    expect(region).to_be_focused()
    expect(page).to_have_url(re.compile("place=France%3E%C3%8Ele-de-France$"))
    expect(page.locator("#chips")).to_have_text("Île-de-France")
    box(places, "Italy 2").check()  # counted without the place that is chosen
    shown(page, 4)
    expect(page.locator("#filters-done")).to_have_text("Show 4 pictures")
    box(places, "France 3").check()  # takes the place of what is in it
    shown(page, 5)
    expect(page.locator("#chips li")).to_have_text(["Italy", "France"])
    assert Axe().run(page).violations_count == 0
    page.reload()
    shown(page, 5)
    page.get_by_role("button", name="Remove France").click()
    shown(page, 2)
    page.go_back()
    shown(page, 5)


def test_folders_are_a_tree_of_any_depth_that_can_be_searched(page):
    folders = group(page, "source")
    folders.get_by_role("button", name="What is in 2019").click()
    folders.get_by_role("button", name="What is in paris").click()
    box(folders, "louvre 1").check()
    shown(page, 1)
    expect(page.locator("#chips")).to_have_text("Folder: louvre")
    box(folders, "louvre 1").uncheck()
    folders.get_by_role("searchbox", name="Find in Folder").fill("ROME")
    expect(folders.locator("li")).to_have_text(["2020/rome2"])
    box(folders, "2020/rome 2").check()
    shown(page, 2)
    expect(folders.get_by_role("searchbox")).to_have_value("ROME")
    folders.get_by_role("searchbox").press("Escape")
    expect(box(folders, "2019 3")).to_be_visible()
    expect(page.locator("#filters")).to_be_visible()
    folders.get_by_role("searchbox").fill("folder")
    expect(folders.locator("li")).to_have_count(10 + 1)  # and the one that is chosen
    folders.get_by_role("button", name="Show all 14").click()
    expect(folders.locator("li")).to_have_count(MANY + 1)


def test_a_camera_is_that_one_alone(page):
    cameras = group(page, "camera")
    box(cameras, "iPhone 12 2").check()
    shown(page, 2)
    box(cameras, "iPhone 12 Pro 2").check()
    shown(page, 4)
    dates = page.locator("details:has(#facet-dates)")
    expect(box(dates, "2019 3")).to_be_visible()  # of these cameras
    page.get_by_role("button", name="Remove Camera: iPhone 12", exact=True).click()
    shown(page, 2)


def test_columns_have_values_parts_of_them_and_ranges(page):
    album = group(page, "column-album")
    box(album, "Holiday 5").check()
    shown(page, 5)
    price = group(page, "column-price")
    price.get_by_label("At least").fill("10")
    price.get_by_label("At least").press("Enter")
    shown(page, 4)
    price.get_by_label("At most").fill("30")
    price.get_by_label("At most").press("Enter")
    shown(page, 3)
    expect(page).to_have_url(re.compile(r"\?column.album=%3DHoliday&min.price=10&max.price=30$"))
    expect(page.locator("#chips li")).to_have_text(["album: Holiday", "price: ≥ 10, ≤ 30"])
    page.get_by_role("button", name="Remove price").click()
    shown(page, 5)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_sheet_on_a_phone(browser, address, scheme):
    phone = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
    with opened(browser, address, color_scheme=scheme, **phone) as page:
        page.get_by_role("button", name="Filters").tap()
        done = page.locator("#filters-done")
        expect(done).to_have_text("Show 21 pictures")
        page.locator("#facet-camera").tap()
        cameras = page.locator("details:has(#facet-camera)")
        box(cameras, "Canon").tap()
        expect(done).to_have_text("Show 3 pictures")
        expect(done).to_be_in_viewport()
        small = page.locator("#filters").evaluate(
            """panel => [...panel.querySelectorAll('button, summary, label:has(input), select')]
                 .filter(node => node.getClientRects().length)
                 .map(node => [node.outerHTML.slice(0, 80), node.getBoundingClientRect().height])
                 .filter(([, height]) => height < 40)"""
        )
        assert small == []
        overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert page.evaluate(overflow) == 0
        panel = page.locator("#filters")
        assert panel.evaluate("panel => panel.scrollWidth - panel.clientWidth") == 0
        assert Axe().run(page).violations_count == 0
        done.tap()
        expect(panel).to_be_hidden()
        shown(page, 3)


def test_by_name(page):
    page.keyboard.press("Escape")
    page.get_by_label("Order").select_option("By name")
    expect(page).to_have_url(re.compile(r"\?sort=name$"))
    expect(page.locator("#hits img").first).to_have_attribute("alt", "2.jpg")  # of 2019/lyon
    page.locator("#text").fill("anything")
    page.goto(f"{page.url.partition('?')[0]}?q=anything&sort=name&min=0")
    expect(page.locator("#hits img").first).to_have_attribute("alt", "2.jpg")

"""Selecting, collections and suggestions of the page, in a real Chromium."""

import io
import json
import shutil
import zipfile
from pathlib import Path

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from api.http.archives import safe_name
from retrieval.filters import Filter
from retrieval.library import open_library
from tests.api.http.routes.test_page import (  # noqa: F401 - fixtures
    browser,
    opened,
    photo_library,
    serving,
)

pytestmark = pytest.mark.slow

WRITER = "a-secret-of-someone-who-writes"
READER = "a-secret-of-someone-who-reads"
KEYS = f"writer:read,write:{WRITER} reader:read:{READER}"


@pytest.fixture
def library(photo_library, tmp_path):  # noqa: F811
    """A copy of the library of photos, which a test may change."""
    shutil.copytree(photo_library.path, tmp_path / "library")
    return open_library(tmp_path / "library")


@pytest.fixture
def address(library, served):
    with serving(served, library, rate_limit="1000/second") as address:
        yield address


@pytest.fixture
def page(browser, address):  # noqa: F811
    with opened(browser, address, accept_downloads=True) as page:
        expect(page.locator("#hits img.shown").first).to_be_visible()
        yield page


def cell(page, at):
    return page.locator("#hits [data-item]").nth(at)


def ids(page, count):
    cells = page.locator("#hits [data-item]")
    return [int(cells.nth(at).get_attribute("data-item")) for at in range(count)]


def select(page, *places):
    for at in places:
        cell(page, at).hover()
        cell(page, at).get_by_role("checkbox").click()


def count(page, text):
    expect(page.locator("#selection [role=status]")).to_have_text(text)


def has_no_finding(page):
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def test_selecting_by_pointer_and_by_key(page):
    select(page, 1)
    count(page, "1 selected")
    cell(page, 4).locator("a").click(modifiers=["Shift"])
    count(page, "4 selected")
    cell(page, 2).locator("a").click()
    count(page, "3 selected")
    expect(page.locator("#viewer")).not_to_be_visible()
    cell(page, 6).locator("a").focus()
    page.keyboard.press("x")
    count(page, "4 selected")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+X")
    count(page, "6 selected")
    has_no_finding(page)
    page.keyboard.press("Escape")
    expect(page.locator("#selection")).to_be_hidden()
    page.keyboard.press("Control+a")
    expect(page.locator("#selection [role=status]")).to_have_text("60 selected")
    page.get_by_role("button", name="Clear the selection").click()
    cell(page, 0).locator("a").click()
    expect(page.locator("#viewer")).to_be_visible()


def test_a_selection_outlasts_a_search_and_its_files_come_as_one_archive(page, library):
    select(page, 0, 1)
    wanted = ids(page, 2)
    page.get_by_role("combobox", name="Search by meaning").fill("a cup of coffee")
    expect(page.locator("#hits img").first).to_have_attribute("alt", "coffee.jpg")
    count(page, "2 selected")
    select(page, 0)
    wanted += ids(page, 1)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download", exact=True).click()
    content = Path(download.value.path()).read_bytes()
    with library.catalog.snapshot() as snapshot:
        paths = {Path(snapshot.item(item_id).path) for item_id in wanted}
    archive = zipfile.ZipFile(io.BytesIO(content))
    assert sorted(archive.read(name) for name in archive.namelist()) == sorted(
        path.read_bytes() for path in paths
    )


def test_hiding_leaves_the_place_and_can_be_undone(page, library):
    hidden, neighbour = ids(page, 2)
    select(page, 0)
    page.get_by_role("button", name="Hide").click()
    expect(page.locator(f'[data-item="{hidden}"]')).to_have_count(0)
    assert ids(page, 1) == [neighbour]
    page.get_by_role("button", name="Undo").click()
    expect(cell(page, 0)).to_have_attribute("data-item", str(hidden))
    with library.catalog.snapshot() as snapshot:
        assert snapshot.counts(library.space().id).hidden == 0
    select(page, 0)
    page.get_by_role("button", name="Hide").click()
    expect(page.locator(".toast")).to_contain_text("1 was hidden")
    page.reload()
    expect(cell(page, 0)).to_have_attribute("data-item", str(neighbour))
    page.get_by_role("button", name="Collections").click()
    page.get_by_role("link", name="Hidden").click()
    expect(page.locator("#hits [data-item]")).to_have_count(1)
    select(page, 0)
    page.get_by_role("button", name="Show again").click()
    expect(page.locator("#hits [data-item]")).to_have_count(0)
    space = library.space().id
    with library.catalog.snapshot() as snapshot:
        assert snapshot.items(space, where=Filter(hidden=True), limit=9) == []


def test_a_collection_is_made_shared_renamed_and_deleted(page, address, browser):  # noqa: F811
    chosen = ids(page, 3)
    for at in (2, 0):  # in this order
        select(page, at)
    page.get_by_role("button", name="Add to a collection").click()
    page.get_by_role("textbox", name="Name of a new collection").fill("Été <b>2019</b> & more")
    has_no_finding(page)
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Open it").click()
    expect(page.get_by_role("heading", name="Été <b>2019</b> & more")).to_be_visible()
    expect(page.locator("#hits [data-item]")).to_have_count(2)
    assert ids(page, 2) == [chosen[2], chosen[0]]
    has_no_finding(page)
    with opened(browser, page.url) as other:
        expect(other.get_by_role("heading", name="Été <b>2019</b> & more")).to_be_visible()
        expect(other.locator("#hits [data-item]")).to_have_count(2)
    select(page, 0)
    page.get_by_role("button", name="Take out").click()
    expect(page.locator("#hits [data-item]")).to_have_count(1)
    page.get_by_role("button", name="Undo").click()
    page.get_by_role("button", name="Rename").click()
    page.locator("#name-field").fill("Winter")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Winter")).to_be_visible()
    expect(page).to_have_title("Winter – mmsearch")
    [told] = httpx.get(f"{address}/v1/collections").json()["collections"]
    assert (told["name"], told["items"]) == ("Winter", 2)
    page.get_by_role("button", name="Filters").click()
    expect(page.get_by_role("combobox", name="Collection")).to_have_value("Winter")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Delete").click()
    page.locator("#collection-delete-yes").click()
    expect(page.locator("#collection-head")).to_be_hidden()
    assert httpx.get(f"{address}/v1/collections").json() == {"collections": []}


def test_recent_and_saved_searches_are_suggested(page, address):
    field = page.get_by_role("combobox", name="Search by meaning")
    for text, first in (("a cup of coffee", "coffee.jpg"), ("a cat", "cat.jpg")):
        field.fill(text)
        expect(page.locator("#hits img").first).to_have_attribute("alt", first)
        field.press("Enter")
    field.click()
    page.get_by_role("button", name="Save this search").click()
    page.locator("#name-field").fill("My cat")
    page.keyboard.press("Enter")
    expect(page.locator(".toast")).to_have_text("“My cat” was saved")
    [saved] = httpx.get(f"{address}/v1/searches").json()["searches"]
    assert saved["address"] == "q=a+cat"
    page.get_by_role("button", name="Clear the search").click()
    field.click()
    options = page.locator("#suggestions").get_by_role("option")
    expect(options).to_have_text(["My catsaved", "a catrecent", "a cup of coffeerecent"])
    has_no_finding(page)
    field.press("ArrowDown")
    field.press("ArrowDown")
    field.press("ArrowDown")
    expect(field).to_have_attribute("aria-activedescendant", "suggestion-2")
    field.press("Enter")
    expect(page.locator("#hits img").first).to_have_attribute("alt", "coffee.jpg")
    expect(field).to_have_value("a cup of coffee")
    expect(field).to_have_attribute("aria-expanded", "false")
    field.fill("my")
    expect(options).to_have_text(["My catsaved"])
    options.first.click()
    expect(field).to_have_value("a cat")
    field.fill("")
    page.get_by_role("button", name="Forget recent searches").click()
    expect(options).to_have_text(["My catsaved"])
    assert json.loads(page.evaluate("localStorage.getItem('mmsearch-recent')")) == []


def test_a_long_press_selects_on_a_phone(browser, address):  # noqa: F811
    phone = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
    with opened(browser, address, **phone, color_scheme="dark", locale="zh-CN") as page:
        expect(page.locator("#hits img.shown").first).to_be_visible()
        expect(page.locator(".hit-select").first).to_be_hidden()
        cell(page, 0).scroll_into_view_if_needed()
        box = cell(page, 0).bounding_box()
        at = {"x": box["x"] + 30, "y": box["y"] + 30}
        touch = page.context.new_cdp_session(page)
        touch.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [at]})
        count(page, "已选择 1 项")
        touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        cell(page, 2).locator("a").tap()
        count(page, "已选择 2 项")
        expect(page.locator("#viewer")).not_to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        has_no_finding(page)


def test_a_key_that_may_only_read_is_not_offered_what_it_may_not(
    browser,  # noqa: F811
    library,
    served,
):
    with library.catalog.snapshot() as snapshot:
        first, *_ = snapshot.items(library.space().id, limit=1)
    library.collections.create("Summer")
    library.collections.add("Summer", [first.id])
    with serving(served, library, api_keys=KEYS) as address:
        context = browser.new_context(accept_downloads=True)
        page = context.new_page()
        page.goto(f"{address}/?collection=Summer")
        page.locator("#ask-key").fill(READER)
        page.locator("#ask-key").press("Enter")
        expect(page.locator("#hits [data-item]")).to_have_count(1)
        expect(page.get_by_role("button", name="Delete")).to_have_count(0)
        with page.expect_download() as download:  # without the key, at an address of its own
            page.locator("#collection-download").click()
        assert download.value.suggested_filename == "Summer.zip"
        assert zipfile.ZipFile(download.value.path()).namelist() == [safe_name(first.path)]
        select(page, 0)
        expect(page.locator("#selection-download")).to_be_visible()
        expect(page.locator("#selection-hide")).to_have_count(0)
        context.close()

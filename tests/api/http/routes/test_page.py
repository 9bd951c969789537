"""The page in a real Chromium, served by a real service over real photos."""

import base64
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import skimage
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright
from starlette.responses import Response

from api.http.app import create_app
from api.http.routes.page import assets
from api.http.settings import ServiceSettings
from indexer.pipeline import index_sources
from retrieval.library import create_library

pytestmark = pytest.mark.slow

FLAGS = [
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
]
SECRET = "a-secret-that-is-long-enough"
PATIENCE_MS = 20_000
BLOCKED = "Service Worker registration blocked by Playwright"
COPY = "motorbike 🏍 摩托车.jpg"


@pytest.fixture(scope="module")
def photo_library(tmp_path_factory, photos, starter):
    """Six photos that show something, 70 textures of many shapes, and a few texts."""
    folder = tmp_path_factory.mktemp("photos")
    for name, path in photos.items():
        with Image.open(path) as image:
            image.convert("RGB").save(folder / f"{name}.jpg")
    with Image.open(photos["motorcycle"]) as image:
        exif = Image.Exif()
        exif[0x0110] = "Testcam 3000"
        exif.get_ifd(0x8769)[0x9003] = "2019:06:15 12:00:00"
        image.convert("RGB").crop((0, 0, 500, 380)).save(folder / COPY, exif=exif)
    textures = [
        Image.open(Path(skimage.data_dir) / f"{name}.png").convert("L").resize((256, 256))
        for name in ("brick", "grass", "gravel")
    ]
    for number in range(70):
        left, width, height = 2 * (number % 30), 90 + 11 * (number % 9), 90 + 13 * (number % 7)
        texture = textures[number % 3].crop((left, 0, left + width, height))
        texture.save(folder / f"texture-{number:02}.png")
    os.utime(folder / "texture-00.png", (1_584_000_000, 1_584_000_000))  # 12 March 2020
    textures[0].save(folder / "<img src=x onerror=alert(1)>.png")
    (folder / "notes.txt").write_text("A recipe for bread: flour, water, salt and patience.\n" * 3)
    library = create_library(tmp_path_factory.mktemp("page") / "library", starter.space)
    index_sources(library, starter, [folder])
    return library


@contextmanager
def serving(served, library, **settings) -> Iterator[str]:
    """Serve a library at an address, without hurry: many tests share few cores."""
    app = create_app(library.path, ServiceSettings(deadline_s=100, **settings), device="cpu")
    with served(app) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def address(photo_library, served) -> Iterator[str]:
    with serving(served, photo_library, rate_limit="1000/second") as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    name = os.environ.get("MMSEARCH_CHROMIUM", "chromium")
    program = shutil.which(name)
    if program is None:
        reason = f"there is no {name} (set MMSEARCH_CHROMIUM to a Chromium)"
        if os.environ.get("MMSEARCH_REQUIRE_BROWSER"):
            pytest.fail(reason)
        pytest.skip(reason)
    flags = [*FLAGS, "--no-sandbox"] if os.geteuid() == 0 else FLAGS
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=flags)
        yield browser
        browser.close()


@contextmanager
def opened(browser: Browser, address: str, **options) -> Iterator[Page]:
    """Open a page in a window of its own; fail if the page complains in the console."""
    options = {
        "viewport": {"width": 1280, "height": 800},
        "locale": "en-US",
        "service_workers": "block",
    } | options
    with browser.new_context(**options) as context:
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        complaints: list[str] = []
        page.on("console", lambda said: complaints.append(f"{said.type}: {said.text}"))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        foreign: list[str] = []
        page.on("request", lambda request: foreign.append(request.url))
        page.goto(address)
        yield page
        assert [said for said in complaints if BLOCKED not in said] == []
        origin = re.match(r"http://[^/]+", address)[0]
        assert [url for url in foreign if not url.startswith((origin, "blob:", "data:"))] == []


@pytest.fixture
def page(browser, address) -> Iterator[Page]:
    with opened(browser, address) as page:
        yield page


def names(page: Page) -> list[str]:
    """The files whose pictures stand in the grid, in order."""
    return page.locator("#hits img").evaluate_all("all => all.map(image => image.alt)")


def first_hit(page: Page, name: str) -> None:
    expect(page.locator("#hits li").first.locator("img")).to_have_attribute("alt", name)


def search(page: Page, text: str, first: str) -> None:
    page.locator("#text").fill(text)
    first_hit(page, first)


def drop(page: Page, event: str, content: bytes, kind: str = "image/png") -> None:
    """Drop or paste a file, as a browser tells of it."""
    page.evaluate(
        """([event, base64, type]) => {
          const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
          const data = new DataTransfer();
          data.items.add(new File([bytes], "mine", { type }));
          if (event === "paste") {
            document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data }));
            return;
          }
          for (const name of ["dragenter", "dragover", "drop"])
            document.body.dispatchEvent(
              new DragEvent(name, { dataTransfer: data, bubbles: true, cancelable: true }));
        }""",
        [event, base64.b64encode(content).decode(), kind],
    )


def test_the_library_is_shown_before_any_search(page):
    expect(page.get_by_role("heading", name="What are you looking for?")).to_be_visible()
    expect(page.locator("#hits li").first).to_be_visible()
    page.get_by_role("button", name="red flowers").click()
    expect(page.locator("#text")).to_have_value("red flowers")
    expect(page.locator("#hello")).to_be_hidden()


def test_typing_finds(page):
    page.keyboard.press("/")
    expect(page.locator("#text")).to_be_focused()
    page.keyboard.type("a cat", delay=20)
    first_hit(page, "cat.jpg")
    expect(page.get_by_role("status")).to_contain_text("picture")
    expect(page).to_have_url(re.compile(r"\?q=a\+cat$"))
    expect(page).to_have_title("a cat – mmsearch")
    image = page.locator("#hits img").first
    expect(image).to_have_class("shown")
    assert image.evaluate("image => image.naturalWidth") > 0
    page.keyboard.press("Escape")
    expect(page.locator("#text")).to_have_value("")
    expect(page.locator("#hello")).to_be_visible()


def test_an_older_answer_never_replaces_a_newer_one(page):
    def hold_the_rocket(route):
        if "rocket" not in route.request.post_data:
            route.continue_()

    page.route("**/v1/search", hold_the_rocket)
    page.locator("#text").fill("a rocket")
    page.wait_for_function("() => location.search.includes('rocket')")
    search(page, "a cup of coffee", "coffee.jpg")
    page.wait_for_timeout(300)
    first_hit(page, "coffee.jpg")
    page.unroute_all(behavior="ignoreErrors")


def test_back_forward_and_reload(page):
    search(page, "a cup of coffee", "coffee.jpg")
    page.wait_for_timeout(1600)
    search(page, "a cat", "cat.jpg")
    page.go_back()
    first_hit(page, "coffee.jpg")
    expect(page.locator("#text")).to_have_value("a cup of coffee")
    page.go_forward()
    first_hit(page, "cat.jpg")
    page.reload()
    first_hit(page, "cat.jpg")


@pytest.mark.parametrize(
    ("text", "plus", "minus"),
    [
        ("a dog -people", "a dog", ["people"]),
        ('-"tall people" beach −car', "beach", ["tall people", "car"]),
        ("black-and-white t-shirt", "black-and-white t-shirt", []),
        ("海滩 －人", "海滩", ["人"]),
        ("dog -", "dog", []),
        ("  two   dogs ", "two dogs", []),
    ],
)
def test_words_after_a_minus(page, text, plus, minus):
    read = page.evaluate(
        f"async text => (await import('/ui/{assets().version}/query.js')).readText(text)", text
    )
    assert read == {"plus": plus, "minus": minus}


def test_a_minus_changes_the_answer_and_can_be_taken_back(page):
    search(page, "a cup of coffee", "coffee.jpg")
    page.locator("#text").fill('a cup of coffee -"a cup of coffee on a table"')
    expect(page.locator("#chips")).to_contain_text("without a cup of coffee on a table")
    page.get_by_role("button", name="Remove without a cup").click()
    first_hit(page, "coffee.jpg")
    expect(page.locator("#text")).to_have_value("a cup of coffee")


def test_the_viewer(page, address):
    page.goto(f"{page.url}?q=a+cat&min=0")
    page.get_by_role("link", name="cat.jpg").click()
    viewer = page.get_by_role("dialog")
    expect(viewer).to_contain_text("cat.jpg")
    expect(viewer).to_contain_text("Similarity")
    expect(viewer).to_contain_text("451 × 300 pixels")
    expect(viewer.locator("img.large")).to_have_class("large shown")
    expect(page).to_have_url(re.compile("item="))
    page.keyboard.press("ArrowRight")
    expect(viewer.get_by_role("heading", level=2)).not_to_have_text("cat.jpg")
    page.keyboard.press("ArrowLeft")
    expect(viewer.get_by_role("heading", level=2)).to_have_text("cat.jpg")
    shared = page.url
    page.keyboard.press("Escape")
    expect(viewer).to_be_hidden()
    expect(page.get_by_role("link", name="cat.jpg")).to_be_focused()
    expect(page).not_to_have_url(re.compile("item="))  # going back takes a moment
    page.goto(shared)
    expect(page.get_by_role("dialog")).to_contain_text("cat.jpg")
    file = page.get_by_role("link", name="Open the file").get_attribute("href")
    assert page.request.get(address + file).headers["content-type"] == "image/jpeg"


def test_back_leaves_the_viewer(page):
    search(page, "a cat", "cat.jpg")
    page.get_by_role("link", name="cat.jpg").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    page.go_back()
    expect(page.get_by_role("dialog")).to_be_hidden()
    first_hit(page, "cat.jpg")


def test_where_the_words_looked(page):
    search(page, "a cat with whiskers", "cat.jpg")
    expect(page.locator("#search")).not_to_have_class(re.compile("busy"))
    page.get_by_role("link", name="cat.jpg").click()
    page.get_by_role("button", name="Where the words looked").click()
    expect(page.get_by_role("button", name=re.compile("^cat [+-]"))).to_be_visible()
    canvas = page.locator("dialog canvas")
    opacities = canvas.evaluate(
        """canvas => [...canvas.getContext("2d").getImageData(
            0, 0, canvas.width, canvas.height).data].filter((_, place) => place % 4 === 3)"""
    )
    assert max(opacities) > 150
    assert min(opacities) < 60
    together = canvas.evaluate("canvas => canvas.toDataURL()")
    page.get_by_role("button", name=re.compile("^whiskers [+-]")).click()
    assert canvas.evaluate("canvas => canvas.toDataURL()") != together


def test_more_like_this(page):
    page.locator("#text").fill("a motorcycle")
    page.get_by_role("link", name="motorcycle.jpg").click()
    page.get_by_role("button", name="More like this").click()
    expect(page.locator("#text")).to_have_value("")
    expect(page.locator("#chips")).to_contain_text("motorcycle.jpg")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page.locator("#hits").get_by_role("link", name=COPY)).to_be_visible()


@pytest.mark.parametrize("event", ["drop", "paste"])
def test_a_picture_as_the_query(page, photos, event):
    drop(page, event, photos["rocket"].read_bytes(), "image/jpeg")
    first_hit(page, "rocket.jpg")
    expect(page.locator("#chips img")).to_be_visible()
    expect(page.locator("#drop")).to_be_hidden()
    page.reload()
    first_hit(page, "rocket.jpg")
    page.get_by_role("button", name="Remove your picture").click()
    expect(page.locator("#hello")).to_be_visible()


def test_a_picked_picture_and_words_together(page, photos):
    page.locator("#file").set_input_files(photos["cat"])
    first_hit(page, "cat.jpg")
    page.locator("#text").fill("a motorcycle")
    page.get_by_role("button", name="your picture: included; switch to excluded").click()
    expect(page.locator("#hits img[alt^=motor]").first).to_be_visible()
    assert "cat.jpg" not in names(page)[:3]


def test_a_file_that_is_no_picture_is_refused_in_words(page):
    expect(page.locator("#hits li").first).to_be_visible()
    drop(page, "drop", b"not a picture", "image/png")
    expect(page.locator("#note")).to_have_text(
        "This file is not a picture that can be searched with."
    )


def test_filters(page):
    page.get_by_role("button", name="Filters").click()
    page.locator("#facet-camera").click()
    page.get_by_role("checkbox", name="Testcam 3000 1").check()
    expect(page.locator("#hits li")).to_have_count(1)
    first_hit(page, COPY)
    expect(page.locator("#filters-count")).to_have_text("1")
    page.get_by_role("button", name="Reset all filters").click()
    page.locator("#day-to").fill("2019-06-15")
    page.locator("#day-to").press("Enter")
    expect(page.locator("#hits li")).to_have_count(1)
    page.locator("#day-from").fill("2019-06-16")
    page.locator("#day-from").press("Enter")
    expect(page.get_by_role("heading", name="No day lies between these two")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#filters")).to_be_hidden()
    page.get_by_role("button", name="Reset the days").click()
    expect(page.locator("#hits li").nth(5)).to_be_visible()
    page.goto(f"{page.url}?from=1999-01-01&to=1999-12-31")
    expect(page.get_by_role("heading", name="Nothing passes the filters")).to_be_visible()
    page.get_by_role("button", name="Reset all filters").click()
    expect(page.locator("#hits li").nth(5)).to_be_visible()


def test_the_library_by_date(browser, address):
    """By month, and by the camera's clock, wherever the reader is; a file's date says so."""
    with opened(browser, address, timezone_id="Asia/Tokyo") as page:
        page.get_by_label("Order").select_option("Oldest first")
        expect(page.locator("#hits h2").first).to_have_text("June 2019")
        expect(page.locator("#hits h2").nth(1)).to_have_text("March 2020")
        expect(page).to_have_url(re.compile(r"\?sort=date-asc$"))
        assert names(page)[:2] == [COPY, "texture-00.png"]
        expect(page.locator("#hits li.hit").nth(1).get_by_text("file date")).to_be_visible()
        page.locator("#hits a").first.click()
        expect(page.get_by_text("June 15, 2019 at 12:00 PM")).to_be_visible()
        page.keyboard.press("Escape")
        page.locator("#text").fill("a motorcycle")
        expect(page.get_by_role("status")).to_contain_text("picture")
        expect(page.locator("#hits h2").first).to_have_text("June 2019")
        page.get_by_label("Order").select_option("Best match first")
        expect(page.locator("#hits h2")).to_have_count(0)


def test_filters_are_chosen_from_lists_with_counts(page):
    page.get_by_role("button", name="Filters").click()
    page.get_by_role("checkbox", name="2019 1").check()
    expect(page.locator("#hits li")).to_have_count(1)
    page.get_by_role("button", name="What is in 2019").click()
    month = page.get_by_role("checkbox", name="June 2019 1")
    month.focus()
    month.press("Space")
    expect(page).to_have_url(re.compile(r"\?date=2019-06$"))
    expect(month).to_be_focused()
    expect(page.get_by_label("Photos (1)")).to_be_visible()
    page.get_by_role("checkbox", name="2020 1").check()  # others can be chosen, too
    expect(page.locator("#hits li")).to_have_count(2)
    month.uncheck()
    page.get_by_role("checkbox", name="2020 1").uncheck()
    expect(page.locator("#hits li").nth(5)).to_be_visible()
    page.locator("#facet-camera").click()
    expect(page.locator("details:has(#facet-camera) li")).to_have_text(["Testcam 30001"])


def test_nothing_relevant_is_said_and_the_nearest_can_be_seen(page):
    page.goto(f"{page.url}?q=a+cat&min=0.95")
    page.locator("#text").fill("asdfgh qwertz")
    expect(page.get_by_role("heading", name="Nothing here matches well")).to_be_visible()
    expect(page.locator("#hits li")).to_have_count(0)
    page.get_by_role("button", name="Show the nearest anyway").click()
    expect(page.locator("#hits li").first).to_be_visible()


def test_passages_stand_in_a_row_above_the_pictures(page):
    page.locator("#text").fill("a recipe for bread")
    row = page.locator("#passages")
    expect(row.get_by_role("heading", name="Texts")).to_be_visible()
    expect(row.locator("li")).to_contain_text(["flour, water, salt"])
    assert serious(page) == []
    row.locator("a").first.click()
    expect(page.locator("dialog.viewer blockquote")).to_contain_text("patience")
    page.keyboard.press("Escape")
    page.locator("#text").fill("a rocket")
    expect(row).to_be_hidden()
    expect(page.locator("#hits li").first).to_be_visible()


def test_text_chunks(page):
    page.goto(f"{page.url}?min=0")
    page.get_by_role("button", name="Filters").click()
    page.get_by_role("radio", name="Text chunks").check()
    page.keyboard.press("Escape")
    page.locator("#text").fill("how to bake bread")
    chunk = page.get_by_role("link", name="A recipe for bread")
    expect(chunk).to_be_visible()
    chunk.click()
    expect(page.get_by_role("dialog")).to_contain_text("flour, water, salt")


def test_scrolling_shows_more(page):
    page.goto(f"{page.url}?q=stones&min=0")
    expect(page.locator("#hits li").first).to_have_attribute("aria-setsize", "78")
    page.mouse.move(600, 500)
    page.mouse.wheel(0, 20_000)
    expect(page.locator('#hits li[aria-posinset="78"]')).to_be_in_viewport()
    expect(page.get_by_role("status")).to_contain_text("78 pictures")


def test_rows_are_justified_and_nothing_moves(browser, address):
    with opened(browser, address) as page:
        page.evaluate(
            """() => { window.moved = 0; new PerformanceObserver((list) => {
                 for (const entry of list.getEntries()) window.moved += entry.value;
               }).observe({ type: "layout-shift", buffered: true }); }"""
        )
        expect(page.locator("#hits li").nth(20)).to_be_visible()
        page.wait_for_load_state("networkidle")
        boxes = page.locator("#hits li").evaluate_all(
            "all => all.map(c => c.getBoundingClientRect()).map(b => [b.top, b.height, b.right])"
        )
        rows: dict[int, list[tuple[float, float]]] = {}
        for top, height, right in boxes:
            rows.setdefault(round(top), []).append((height, right))
        full = list(rows.values())
        assert len(full) > 4
        for row in full:
            assert max(h for h, _ in row) - min(h for h, _ in row) < 1.5
        rights = [max(right for _, right in row) for row in full]
        assert max(rights) - min(rights) < 1.5
        assert page.evaluate("window.moved") < 0.02


def test_arrow_keys_walk_the_grid(page):
    expect(page.locator("#hits li").nth(20)).to_be_attached()
    page.locator("#text").press("ArrowDown")
    links = page.locator("#hits a.hit-link")
    expect(links.first).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(links.nth(1)).to_be_focused()
    top = page.evaluate("document.activeElement.getBoundingClientRect().top + scrollY")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.getBoundingClientRect().top + scrollY") > top
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()


def test_chinese(browser, address):
    with opened(browser, address, locale="zh-CN") as page:
        expect(page.get_by_role("heading", name="您在找什么")).to_be_visible()
        assert page.evaluate("document.documentElement.lang") == "zh-CN"
        page.get_by_role("combobox", name="语言").select_option("English")
        expect(page.get_by_role("heading", name="What are you looking for?")).to_be_visible()
        page.reload()
        expect(page.get_by_role("heading", name="What are you looking for?")).to_be_visible()


def test_the_theme_follows_the_system_until_it_is_chosen(browser, address):
    ground = "getComputedStyle(document.body).backgroundColor"
    with opened(browser, address, color_scheme="dark") as page:
        dark = page.evaluate(ground)
        page.get_by_role("button", name="Switch between light and dark").click()
        light = page.evaluate(ground)
        page.reload()
        assert page.evaluate(ground) == light
    with opened(browser, address, color_scheme="light") as page:
        assert page.evaluate(ground) == light != dark


@pytest.mark.parametrize("width", [320, 768, 1920])
def test_nothing_sticks_out_of_a_narrow_or_wide_window(browser, address, width):
    with opened(browser, address, viewport={"width": width, "height": 640}) as page:
        expect(page.locator("#hits li").first).to_be_visible()
        overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert page.evaluate(overflow) == 0
        page.get_by_role("button", name="Filters").click()
        assert page.evaluate(overflow) == 0
        page.keyboard.press("Escape")
        page.locator("#hits a.hit-link").first.click()
        expect(page.get_by_role("dialog")).to_be_visible()
        assert (
            page.locator("dialog[open]").evaluate("box => box.scrollWidth - box.clientWidth") == 0
        )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser, address, scheme):
    with opened(browser, address, color_scheme=scheme, reduced_motion="reduce") as page:
        expect(page.locator("#hits img.shown").first).to_be_visible()
        findings = {"start": serious(page)}
        page.get_by_role("button", name="Filters").click()
        findings["filters"] = serious(page)
        page.keyboard.press("Escape")
        search(page, "a cat -dog", "cat.jpg")
        findings["hits"] = serious(page)
        page.locator("#hits a.hit-link").first.click()
        expect(page.get_by_role("dialog")).to_contain_text("Similarity")
        page.wait_for_load_state("networkidle")
        findings["viewer"] = serious(page)
        assert findings == {place: [] for place in findings}


def serious(page: Page) -> list[str]:
    violations = Axe().run(page).response["violations"]
    return [
        f"{found['id']}: {node['html'][:150]} {node['failureSummary']}"
        for found in violations
        if found["impact"] in {"serious", "critical"}
        for node in found["nodes"]
    ]


def test_a_file_name_is_never_markup(page):
    dialogs = []
    page.on("dialog", lambda dialog: dialogs.append(dialog.message) or dialog.dismiss())
    page.goto(f"{page.url}?q=a+brick+wall&min=0")
    evil = page.get_by_role("link", name="<img src=x onerror=alert(1)>.png")
    evil.click()
    expect(page.get_by_role("dialog").get_by_role("heading", level=2)).to_have_text(
        "<img src=x onerror=alert(1)>.png"
    )
    assert dialogs == []
    assert page.locator("img[src=x]").count() == 0


def test_it_waits_for_a_service_that_starts(browser, address):
    with browser.new_context(locale="en-US") as context:
        page = context.new_page()
        refusals = []

        def refuse(route):
            refusals.append(route.request.url)
            route.fulfill(status=503, content_type="application/problem+json", body="{}")

        page.route("**/v1/stats", refuse, times=1)
        page.goto(address)
        expect(page.get_by_role("heading", name="The service is starting")).to_be_visible()
        expect(page.locator("#hits li").first).to_be_visible(timeout=PATIENCE_MS)
        assert len(refusals) == 1


def test_an_error_is_told_in_the_services_words(browser, address):
    with browser.new_context(locale="en-US") as context:
        page = context.new_page()
        problem = '{"title": "Teapot", "status": 500, "detail": "The disk is <full>."}'
        page.route("**/v1/search", lambda route: route.fulfill(status=500, body=problem))
        page.goto(f"{address}/?q=tea")
        expect(page.locator("#message")).to_contain_text("The disk is <full>.")
        page.unroute_all()
        page.get_by_role("button", name="Try again").click()
        expect(page.locator("#hits li, #message h2").first).to_be_visible()


def test_a_video_that_is_opened_plays(browser, served, short_video, starter, tmp_path):
    library = create_library(tmp_path / "library", starter.space)
    index_sources(library, starter, [short_video])
    with serving(served, library) as address, opened(browser, address) as page:
        page.get_by_role("link", name="short.webm").first.click()
        file = page.get_by_role("link", name="Open the file").get_attribute("href")
        page.goto(address + file)
        page.wait_for_function("document.querySelector('video').currentTime > 0")
        assert page.evaluate("document.querySelector('video').videoWidth") == 64


def test_the_api_key(browser, photo_library, served):
    with (
        serving(served, photo_library, api_keys=f"page:read:{SECRET}") as address,
        browser.new_context(locale="en-US") as context,
    ):
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        page.goto(f"{address}/?q=a+cat")
        prompt = page.get_by_role("dialog", name="This library needs a key")
        prompt.get_by_label("API key").fill("wrong")
        prompt.get_by_role("button", name="Open").click()
        expect(prompt).to_contain_text("That key was not accepted.")
        prompt.get_by_label("API key").fill(SECRET)
        prompt.get_by_role("button", name="Open").click()
        first_hit(page, "cat.jpg")
        expect(page.locator("#hits img").first).to_have_class("shown")
        assert SECRET not in page.url
        page.reload()
        first_hit(page, "cat.jpg")
        expect(prompt).to_be_hidden()
        with page.expect_download() as download:
            page.get_by_role("link", name="cat.jpg").click()
            page.get_by_role("link", name="Download").click()
        assert download.value.suggested_filename == "cat.jpg"


@pytest.fixture(scope="module")
def client(address) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=address) as client:
        yield client


def test_the_index_is_revalidated_and_the_assets_are_kept(client):
    index = client.get("/")
    assert index.headers["content-type"] == "text/html; charset=utf-8"
    assert index.headers["cache-control"] == "no-cache"
    # Relative, so that they hold below a sub-path as well.
    named = re.findall(r'(?:src|href)="(ui/[^"]+)"', index.text)
    assert len(named) >= 6
    for name in named:
        path = f"/{name}"
        asset = client.get(path)
        assert asset.status_code == 200
        assert asset.headers["cache-control"].endswith("immutable")
        again = client.get(path, headers={"If-None-Match": asset.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
    again = client.get("/", headers={"If-None-Match": f'"x", {index.headers["etag"]}'})
    assert again.status_code == 304


def test_the_policy_allows_no_script_but_the_pages_own(client):
    policy = client.get("/").headers["content-security-policy"].split("; ")
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "style-src 'self'" in policy
    index = assets().by_name["index.html"].content.decode()
    assert " style=" not in index
    assert not re.search(r"\son\w+=|javascript:|<script>|<style>", index)


@pytest.mark.parametrize(
    "name",
    [
        "../server.py",
        "..%2fserver.py",
        "%2e%2e/%2e%2e/server.py",
        "..%5cserver.py",
        "__init__.py",
        "main.js/../../../server.py",
        "/etc/passwd",
        "%00main.js",
        "main.js%00",
        ".",
        "",
    ],
)
def test_the_page_gives_no_file_but_its_own(client, name):
    answer = client.get(f"/ui/{assets().version}/{name}")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


def test_files_of_another_version_are_not_mixed_in(client):
    assert client.get("/ui/0123456789abcdef/main.js").status_code == 404


def test_all_modules_of_the_page_are_in_the_package():
    known = assets().by_name
    scripts = {name: asset for name, asset in known.items() if name.endswith(".js")}
    assert "languages/zh.js" in scripts
    for name, asset in scripts.items():
        for imported in re.findall(r'from "\./([^"]+)"', asset.content.decode()):
            assert imported in known, f"{name} imports {imported}"


def test_what_was_understood_is_a_chip(browser, served, travel_library):
    with (
        serving(served, travel_library, rate_limit="1000/second") as address,
        opened(browser, f"{address}/?q=people+in+Paris+2019&min=0") as page,
    ):
        chips = page.locator("#chips .understood")
        expect(chips).to_have_text(["Place: Paris", "Date: 2019"])
        expect(page.locator("#hits li")).to_have_count(2)
        assert Axe().run(page).violations_count == 0
        page.get_by_role("button", name="Search for “in Paris” as words").click()
        expect(chips).to_have_text(["Date: 2019"])
        expect(page.locator("#hits li")).to_have_count(3)
        expect(page).to_have_url(re.compile(r"literal=in\+Paris"))
        page.reload()
        expect(chips).to_have_text(["Date: 2019"])
        page.go_back()
        expect(chips).to_have_count(2)
        page.locator("#text").fill("people in Rome")
        expect(chips).to_have_text(["Place: Rome"])
        page.locator("#text").fill("people")
        expect(chips).to_have_count(0)
        expect(page.locator("#hits li")).to_have_count(8)


@contextmanager
def served_below(served, library, folder: str, *, is_stripped: bool) -> Iterator[str]:
    """Serve a library as a proxy would below a folder that it strips, or keeps."""
    app = create_app(
        library.path,
        ServiceSettings(deadline_s=100, root_path="" if is_stripped else folder),
        device="cpu",
    )

    async def proxy(scope, receive, send):
        if scope["type"] == "http" and not scope["path"].startswith(f"{folder}/"):
            await Response(status_code=404)(scope, receive, send)
            return
        if scope["type"] == "http" and is_stripped:
            scope = {**scope, "path": scope["path"].removeprefix(folder)}
        await app(scope, receive, send)

    with served(proxy) as port:
        yield f"http://127.0.0.1:{port}{folder}/"


@pytest.mark.parametrize("is_stripped", [True, False])
def test_the_page_below_a_path_of_a_proxy(browser, photo_library, served, is_stripped):
    below = served_below(served, photo_library, "/my/photos", is_stripped=is_stripped)
    with below as address, opened(browser, address) as page:
        expect(page.locator("#hits img.shown").first).to_be_visible()
        search(page, "a cat", "cat.jpg")
        expect(page).to_have_url(re.compile(r"/my/photos/\?q=a\+cat"))
        page.get_by_role("link", name="cat.jpg").click()
        expect(page.get_by_role("dialog").locator("img.large")).to_have_class("large shown")
        file = page.get_by_role("link", name="Open the file").get_attribute("href")
        assert file.startswith("/my/photos/v1/items/")
        page.keyboard.press("Escape")
        expect(page).not_to_have_url(re.compile("item="))  # going back takes a moment
        page.reload()
        first_hit(page, "cat.jpg")
        page.locator(".brand").click()
        expect(page).to_have_url(re.compile(r"/my/photos/$"))


@pytest.mark.parametrize(("locale", "title"), [("en-US", "Welcome!"), ("zh-CN", "欢迎")])
def test_the_page_before_there_is_a_library(
    browser, photo_library, served, tmp_path, locale, title
):
    place = tmp_path / "library"
    app = create_app(place, ServiceSettings(deadline_s=100), device="cpu")
    with served(app) as port, browser.new_context(locale=locale) as context:
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.goto(f"http://127.0.0.1:{port}")
        expect(page.locator("#message h2")).to_contain_text(title)
        command = f"mmsearch index ~/Pictures --library {place}"
        expect(page.locator("#message code")).to_have_text(command)
        shutil.copytree(photo_library.path, tmp_path / "made")
        (tmp_path / "made").rename(place)
        expect(page.locator("#hits img.shown").first).to_be_visible()


EVIL = "<img src=y onerror=alert(2)>.jpg"


@pytest.fixture(scope="module")
def album_library(tmp_path_factory, photos, tiny_encoder, xmp_packet):
    """Photos that say something of themselves, pages of a TIFF, and files that are damaged."""
    folder = tmp_path_factory.mktemp("album")
    pictures = [Image.open(path).convert("RGB").resize((90, 60)) for path in photos.values()]
    ada, other = "Ada", "李 <b>明"
    told = {
        "ada.jpg": xmp_packet(rating=4, label="Red", persons=[ada], keywords=["sea", "海滩"]),
        "both.jpg": xmp_packet(rating=5, label="Green", persons=[ada, other], keywords=["sea"]),
        "rejected.jpg": xmp_packet(rating=-1, label="Green", persons=[other], keywords=["sky"]),
    }
    for picture, (name, packet) in zip(pictures, told.items(), strict=False):
        picture.save(folder / name, xmp=packet)
    pictures[3].save(folder / "scan.tif", save_all=True, append_images=pictures[4:6])
    pictures[3].save(folder / "no end.jpg")
    (folder / "no end.jpg").write_bytes((folder / "no end.jpg").read_bytes()[:-2])
    (folder / EVIL).write_bytes(b"nothing")
    (folder / "rows.csv").write_text("image,caption\nada.jpg,a lady\nlost.jpg,nobody\na,b,c,d\n")
    for name in ("a.blend", "b.blend"):
        (folder / name).touch()
    (folder / "@eaDir").mkdir()
    for path in folder.glob("*.jpg"):
        os.utime(path, (1.4e9, 1.4e9))  # the time of a file that was just written is unsure
    library = create_library(
        tmp_path_factory.mktemp("album-library") / "library", tiny_encoder.space
    )
    index_sources(library, tiny_encoder, [folder])
    return library


@pytest.fixture(scope="module")
def album(album_library, served) -> Iterator[str]:
    with serving(served, album_library, rate_limit="1000/second") as address:
        yield address


@pytest.mark.parametrize(
    ("locale", "counts", "title", "more"),
    [
        (
            "en-US",
            "1 file failed · 2 files read in part · 3 passed over",
            "What was not read",
            ["2 files of other kinds", "1 folder of systems and programs", "tell no date"],
        ),
        (
            "zh-CN",
            "1 个文件读取失败 · 2 个文件只读取了一部分 · 跳过 3 项",
            "未读取的内容",
            ["2 个其他类型的文件", "1 个系统或程序的文件夹", "没有拍摄日期"],
        ),
    ],
)
@pytest.mark.parametrize("width", [375, 1280])
def test_what_was_not_read_is_counted_and_listed(
    browser, album, locale, counts, title, more, width
):
    options = {"locale": locale, "viewport": {"width": width, "height": 480}}
    with opened(browser, album, **options) as page:
        button = page.get_by_role("button", name=counts)
        expect(button).to_be_visible()
        button.press("Enter")
        dialog = page.get_by_role("dialog", name=title)
        for text in (EVIL, "not an image of a known format", "lost.jpg", "cut off", *more):
            expect(dialog).to_contain_text(text)
        expect(dialog.locator(".notes-passed li").first).to_have_text(".blend × 2")
        assert page.locator("img[src=y]").count() == 0
        assert Axe().run(page).violations_count == 0
        overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert page.evaluate(overflow) == 0
        lists = dialog.get_by_role("region")
        assert lists.evaluate("box => box.scrollWidth - box.clientWidth") == 0
        page.keyboard.press("Tab")
        expect(lists).to_be_focused()
        page.keyboard.press("End")
        page.wait_for_function("() => document.querySelector('.notes-lists').scrollTop > 0")
        page.keyboard.press("Escape")
        expect(dialog).to_be_hidden()
        expect(button).to_be_focused()


def test_nothing_is_said_where_everything_was_read(page):
    expect(page.locator("#hits img.shown").first).to_be_visible()
    page.wait_for_load_state("networkidle")
    expect(page.locator("#unread")).to_be_hidden()


def test_long_lists_of_what_was_not_read_come_in_steps(browser, album):
    with opened(browser, album) as page:
        asked = []

        def answer(route):
            asked.append(int(route.request.url.partition("limit=")[2]))
            failures = [{"path": f"/a/{n}.jpg", "reason": "why"} for n in range(asked[-1])]
            told = {"failures": failures, "notes": [], "files_failed": 20_000, "files_noted": 0}
            passed = {"endings": {}, "system_folders": {}}
            route.fulfill(json={**told, "passed_over": passed})

        page.route("**/v1/notes?*", answer)
        page.locator("#unread").click()
        rows = page.locator("#notes li")
        for number in (100, 1000):
            expect(rows).to_have_count(number)
            page.locator("#notes").get_by_role("button", name="Show more").click()
        expect(rows).to_have_count(10_000)
        expect(page.locator("#notes code")).to_have_text("mmsearch status --failed --notes")
        assert asked == [100, 1000, 10_000]
        page.get_by_role("button", name="Close").click()
        expect(page.locator("#unread")).to_have_text("20,000 files failed")


def test_a_library_of_failures_alone_says_so(browser, served, tiny_encoder, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"nothing")
    library = create_library(tmp_path / "library", tiny_encoder.space)
    index_sources(library, tiny_encoder, [tmp_path / "photos"])
    with serving(served, library) as address, opened(browser, address) as page:
        expect(page.get_by_role("heading", name="Nothing is in the library yet")).to_be_visible()
        page.get_by_role("button", name="1 file failed").click()
        expect(page.get_by_role("dialog")).to_contain_text("broken.jpg")


def test_filters_of_what_files_say_of_themselves(browser, album):
    with opened(browser, album) as page:
        page.get_by_role("button", name="Filters").click()
        rating = page.get_by_label("Rating")
        expect(rating.locator("option")).to_have_text(
            ["Any", "5 stars or more (1)"]
            + [f"{n} stars or more (2)" for n in (4, 3, 2)]
            + ["1 star or more (2)", "Rejected (1)"]
        )
        rating.select_option("4 stars or more (2)")
        expect(page.locator("#hits li")).to_have_count(2)
        expect(page).to_have_url(re.compile(r"\?rating=4$"))
        page.locator("#facet-person").click()
        expect(page.locator("details:has(#facet-person) li")).to_have_text(["Ada2", "李 <b>明1"])
        page.get_by_role("checkbox", name="李 <b>明 1").check()
        first_hit(page, "both.jpg")
        expect(page.locator("#hits li")).to_have_count(1)
        expect(page.locator("#filters-count")).to_have_text("2")
        rating.select_option("Rejected (1)")
        first_hit(page, "rejected.jpg")
        page.reload()
        first_hit(page, "rejected.jpg")
        page.get_by_role("button", name="Filters").click()
        page.get_by_role("button", name="Reset all filters").click()
        page.locator("#facet-keyword").click()
        page.get_by_role("checkbox", name="海滩 1").check()
        first_hit(page, "ada.jpg")
        page.get_by_role("button", name="Reset all filters").click()
        page.locator("#facet-label").click()
        page.get_by_role("checkbox", name="Green 2").check()
        expect(page.locator("#hits li")).to_have_count(2)
        assert Axe().run(page).violations_count == 0


def test_a_table_may_have_columns_of_the_same_names(browser, served, tiny_encoder, tmp_path):
    (tmp_path / "photos").mkdir()
    for name in ("a", "b"):
        Image.effect_noise((60, 60), 60).save(tmp_path / "photos" / f"{name}.png")
    rows = ['{"image": "a.png", "rating": 87, "label": 3}', '{"image": "b.png", "label": 7}']
    (tmp_path / "photos" / "rows.jsonl").write_text("\n".join(rows))
    library = create_library(tmp_path / "library", tiny_encoder.space)
    index_sources(library, tiny_encoder, [tmp_path / "photos"])
    with serving(served, library) as address, opened(browser, address) as page:
        page.get_by_role("button", name="Filters").click()
        page.locator("#facet-column-label").click()
        page.get_by_role("checkbox", name="3 1").check()
        first_hit(page, "a.png")
        page.locator("#facet-column-rating").click()
        expect(page.locator("details:has(#facet-column-rating) li")).to_have_text(["871"])
        page.keyboard.press("Escape")
        page.locator("#hits a").first.click()
        expect(page.locator(".facts")).to_contain_text("87")


def test_the_viewer_shows_what_a_file_says_of_itself(browser, album):
    with opened(browser, f"{album}/?rating=5") as page:
        page.get_by_role("link", name="both.jpg").click()
        facts = page.locator(".facts")
        expect(facts.get_by_role("img", name="5 of 5 stars")).to_be_visible()
        expect(facts).to_contain_text(re.compile("People.*Ada, 李 <b>明"))
        expect(facts).to_contain_text(re.compile("Keywords.*sea"))
        expect(facts).to_contain_text(re.compile("Label.*Green"))
        expect(facts).not_to_contain_text("Description")
        expect(facts).to_contain_text("this is when it was last changed")
        assert Axe().run(page).violations_count == 0


def test_the_pages_of_a_scan_are_shown(browser, album):
    with opened(browser, album) as page:
        for number in (1, 2, 3):
            page.get_by_role("link", name=f"scan.tif, p. {number}").click()
            expect(page.get_by_role("dialog").locator("img.large")).to_have_class("large shown")
            expect(page.locator(".viewer-what")).to_contain_text(f"page {number}")
            page.keyboard.press("Escape")
            expect(page).not_to_have_url(re.compile("item="))  # going back takes a moment


@pytest.mark.parametrize(
    ("asked", "where"),
    [
        ("?rating=3", {"rating": {"min": 3}}),
        ("?rating=-1", {"rating": {"max": -1}}),
        ("?rating=many", None),
        ("?rating=9", None),
        (
            "?person=Ada&keyword=sea&label=Red",
            {"person": "Ada", "keyword": "sea", "label": "Red"},
        ),
    ],
)
def test_filters_of_files_in_the_address(page, asked, where):
    read = page.evaluate(
        f"""async address => {{
          const {{ fromAddress, toAddress, whereOf }} = await import(
            '/ui/{assets().version}/query.js');
          const query = fromAddress(address);
          return [whereOf(query), whereOf(fromAddress(toAddress(query).slice(2)))];
        }}""",
        asked,
    )
    assert read == [where, where]

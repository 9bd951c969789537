"""Long lists on the page in a real Chromium: the document, places, dates, closer looks."""

import datetime
import os
import re
from collections.abc import Iterator

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Page, expect

from api.http.routes.page import assets
from indexer.pipeline import index_sources
from retrieval.library import create_library
from tests.api.http.routes.test_page import (  # noqa: F401
    browser,
    first_hit,
    opened,
    serious,
    serving,
)

pytestmark = pytest.mark.slow

COUNT = 1000
MONTHS = 40
NODES = "document.getElementsByTagName('*').length"


@pytest.fixture(scope="module")
def long_library(tmp_path_factory, tiny_encoder):
    """A thousand pictures of many shapes, of 40 months: number 0 is the oldest."""
    folder = tmp_path_factory.mktemp("many")
    generator = np.random.default_rng(0)
    for number in range(COUNT):
        height, width = generator.integers(12, 30, 2)
        pixels = generator.integers(0, 255, (height, width, 3), dtype=np.uint8)
        path = folder / f"{number:04}.png"
        Image.fromarray(pixels).save(path)
        month = number * MONTHS // COUNT
        day = datetime.datetime(2015 + month // 12, month % 12 + 1, 3, 12, tzinfo=datetime.UTC)
        seconds = day.timestamp() + number
        os.utime(path, (seconds, seconds))
    library = create_library(tmp_path_factory.mktemp("long") / "library", tiny_encoder.space)
    index_sources(library, tiny_encoder, [folder])
    return library


@pytest.fixture(scope="module")
def address(long_library, served) -> Iterator[str]:
    with serving(served, long_library, rate_limit="10000/second") as address:
        yield address


@pytest.fixture
def page(browser, address) -> Iterator[Page]:  # noqa: F811
    with opened(browser, address) as page:
        expect(page.get_by_role("status")).to_contain_text("1,000 pictures")
        yield page


def places(page: Page) -> list[int]:
    """The places of the hits that are in the document."""
    return page.locator("#hits li[aria-posinset]").evaluate_all(
        "all => all.map(cell => Number(cell.getAttribute('aria-posinset')))"
    )


def focused_place(page: Page) -> int:
    return page.evaluate(
        "Number(document.activeElement.closest('li')?.getAttribute('aria-posinset'))"
    )


def scroll_to_share(page: Page, share: float) -> None:
    page.evaluate(f"scrollTo(0, {share} * (document.documentElement.scrollHeight - innerHeight))")


def top_place(page: Page) -> list[int]:
    """Place and distance from the edge of the first hit below the bar, when all is loaded."""
    expect(page.locator(".hits-wait")).to_have_count(0)
    page.wait_for_load_state("networkidle")
    return page.evaluate(
        """() => { for (const cell of document.querySelectorAll("#hits li[aria-posinset]")) {
             const { top } = cell.getBoundingClientRect();
             if (top > 80) return [Number(cell.getAttribute("aria-posinset")), Math.round(top)];
           } }"""
    )


def test_only_what_is_near_the_window_is_in_the_document(page):
    height = page.evaluate("document.documentElement.scrollHeight")
    assert height > 20_000
    assert len(places(page)) < 100
    most = 0
    for share in np.linspace(0, 1, 15):
        scroll_to_share(page, share)
        page.wait_for_timeout(60)
        most = max(most, page.evaluate(NODES))
    assert most <= 2000
    expect(page.locator(f'#hits li[aria-posinset="{COUNT}"]')).to_be_in_viewport()
    shown = places(page)
    assert shown == list(range(shown[0], COUNT + 1))


def test_a_jump_asks_for_what_is_there_and_no_more(page):
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    scroll_to_share(page, 0.8)
    cell = page.locator("#hits li[aria-posinset='800']")
    expect(cell).to_be_attached()
    lists = [url for url in asked if "/v1/items?" in url]
    assert 1 <= len(lists) <= 2
    # The newest come first: number 999 at the first place.
    expect(cell.locator("img")).to_have_attribute("alt", f"{COUNT - 800:04}.png")


def test_keys_walk_the_whole_list_and_the_focus_stays(page):
    page.locator("#hits a.hit-link").first.focus()
    page.keyboard.press("End")
    expect(page.locator(f"#hits li[aria-posinset='{COUNT}'] a").first).to_be_focused()
    page.keyboard.press("ArrowUp")
    page.wait_for_function(f"() => document.activeElement.closest('li').ariaPosInSet < {COUNT}")
    above = focused_place(page)
    assert COUNT - 15 < above < COUNT
    page.keyboard.press("ArrowDown")
    page.wait_for_function(f"() => document.activeElement.closest('li').ariaPosInSet > {above}")
    page.keyboard.press("Home")
    expect(page.locator("#hits li[aria-posinset='1'] a").first).to_be_focused()
    page.mouse.move(600, 500)
    page.mouse.wheel(0, 9000)
    page.wait_for_function("() => scrollY > 5000")
    expect(page.locator("#hits li[aria-posinset='1'] a").first).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#hits li[aria-posinset='2'] a").first).to_be_focused()
    expect(page.locator("#hits li[aria-posinset='2']")).to_be_in_viewport()


def test_screen_readers_are_told_where_they_are(page):
    cell = page.locator("#hits li[aria-posinset='7']")
    expect(cell).to_have_attribute("aria-setsize", str(COUNT))
    scroll_to_share(page, 0.5)
    expect(page.locator("#hits li[aria-posinset='500']")).to_be_attached()
    assert serious(page) == []


@pytest.mark.parametrize("query", ["", "?q=noise&min=0&rerank=none", "?sort=date"])
def test_back_and_reload_lead_to_the_place(page, address, query):
    page.goto(f"{address}/{query}")
    page.wait_for_function("() => document.documentElement.scrollHeight > 20000")
    scroll_to_share(page, 0.6)
    expect(page.locator("#hits li[aria-posinset='590']")).to_be_attached()
    link = page.locator("#hits li[aria-posinset='590'] a")
    link.focus()
    page.wait_for_timeout(300)
    before = top_place(page)
    page.reload()
    expect(link).to_be_focused()
    assert top_place(page) == pytest.approx(before, abs=2)
    page.goto(f"{address}/?q=something+else")
    expect(page.locator("#text")).to_have_value("something else")
    page.go_back()
    expect(link).to_be_focused()
    assert top_place(page) == pytest.approx(before, abs=2)
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.go_back()
    expect(page.get_by_role("dialog")).to_be_hidden()
    assert top_place(page) == pytest.approx(before, abs=2)


def test_back_leads_to_the_place_in_an_earlier_search(page):
    scroll_to_share(page, 0.5)
    expect(page.locator("#hits li[aria-posinset='500']")).to_be_attached()
    page.keyboard.press("/")  # the box itself would be scrolled to
    before = top_place(page)
    page.keyboard.type("noise")
    page.wait_for_function("() => scrollY === 0")
    expect(page).to_have_url(re.compile("q=noise"))
    page.go_back()
    page.wait_for_function("() => scrollY > 5000")
    expect(page.locator(f"#hits li[aria-posinset='{before[0]}']")).to_be_attached()
    assert top_place(page) == pytest.approx(before, abs=2)


def test_months_have_headings_and_a_timeline(page, address):
    page.goto(f"{address}/?sort=date")
    timeline = page.get_by_role("slider", name="Timeline")
    expect(timeline).to_be_visible()
    expect(timeline).to_have_attribute("aria-valuemax", str(MONTHS - 1))
    expect(page.locator("#hits h2").first).to_have_text("April 2018")
    timeline.focus()
    page.keyboard.press("ArrowDown")
    expect(timeline).to_have_attribute("aria-valuetext", "March 2018, 25 items")
    heading = page.get_by_role("heading", name="March 2018")
    expect(heading).to_be_in_viewport()
    page.keyboard.press("PageDown")
    expect(page.get_by_role("heading", name="December 2017")).to_be_in_viewport()
    page.keyboard.press("End")
    expect(page.get_by_role("heading", name="January 2015")).to_be_in_viewport()
    assert serious(page) == []
    box = timeline.bounding_box()
    page.mouse.move(box["x"] + 10, box["y"] + 5)
    page.mouse.down()
    page.mouse.move(box["x"] + 10, box["y"] + box["height"] / 2)
    expect(page.locator(".scrubber-bubble")).to_contain_text("2016")
    page.mouse.up()
    expect(page.locator("#hits li[aria-posinset='510']")).to_be_attached()
    taken = page.locator("#hits h2").last.text_content()
    assert taken.endswith("2016")
    page.get_by_label("Order").select_option("Last added first")
    expect(timeline).to_be_hidden()


def test_the_timeline_of_a_search_leads_to_months_that_are_not_loaded(page, address):
    page.goto(f"{address}/?q=noise&min=0&sort=date-asc&rerank=none")
    timeline = page.get_by_role("slider", name="Timeline")
    timeline.focus()
    page.keyboard.press("End")
    expect(page.get_by_role("heading", name="April 2018")).to_be_in_viewport()
    expect(page.locator(f"#hits li[aria-posinset='{COUNT}']")).to_be_attached()


class CloserLook:
    """Answers the reranked search when told to, with the hits in the opposite order."""

    def __init__(self, page: Page, **changes: object) -> None:
        self.page = page
        self.changes = changes
        self.held = []
        page.route("**/v1/search", self._answer)

    def _answer(self, route) -> None:
        if '"rerank":"none"' in route.request.post_data:
            route.continue_()
        else:
            self.held.append(route)

    def come(self) -> None:
        self.page.wait_for_timeout(700)
        for _ in range(200):
            if self.held:
                break
            self.page.wait_for_timeout(50)
        route = self.held.pop()
        answer = route.fetch()
        told = answer.json()
        told["hits"].reverse()
        route.fulfill(json=told | self.changes)
        expect(self.page.locator("#search")).not_to_have_class("search busy")


def order(page: Page) -> list[str]:
    return page.locator("#hits img").evaluate_all("all => all.map(image => image.alt)")


def test_a_closer_look_moves_nothing_that_was_seen(page, address):
    page.goto(address)
    look = CloserLook(page)
    page.locator("#text").fill("noise")
    page.wait_for_function("() => document.querySelector('#hello').hidden")
    page.goto(f"{address}/?q=noise&min=0")
    expect(page.locator("#hits li").first).to_be_visible()
    before = order(page)
    seen = page.locator("#hits li").evaluate_all(
        "all => all.filter(cell => cell.getBoundingClientRect().top < innerHeight).length"
    )
    look.come()
    expect(page.get_by_role("status")).to_contain_text("re-ordered after a closer look")
    assert order(page)[:seen] == before[:seen]
    assert order(page)[: seen + 5] != before[: seen + 5]
    offer = page.get_by_role("button", name="A closer look found a better order")
    offer.click()
    expect(offer).to_be_hidden()
    page.wait_for_function(f"() => document.querySelector('#hits img').alt !== '{before[0]}'")
    assert not set(order(page)[:5]) & set(before[:5])


def test_technical_warnings_are_details(page, address):
    technical = "Only the first 42 of 50 candidates were reranked."
    look = CloserLook(page, warnings=["Mind the gap.", technical], technical=[technical])
    page.goto(f"{address}/?q=noise&min=0")
    look.come()
    expect(page.locator("#note")).to_contain_text("Mind the gap.")
    expect(page.locator("#note")).not_to_contain_text("candidates")
    expect(page.get_by_text(technical)).to_be_hidden()
    page.get_by_text("Details", exact=True).click()
    expect(page.get_by_text(technical)).to_be_visible()
    assert Axe().run(page).violations_count == 0


def test_rows_fill_the_width_whatever_the_shapes(page):
    """All are in order, whatever the width, in rows as wide as the list and not wider."""
    wrong = page.evaluate(
        f"""async () => {{
          const {{ justify, blocksOf }} = await import('/ui/{assets().version}/layout.js');
          let seed = 7;
          const random = () => (seed = (seed * 16807) % 2147483647) / 2147483647;
          const wrong = [];
          for (let round = 0; round < 300; round += 1) {{
            const count = 1 + Math.floor(60 * random());
            const ratios = Array.from({{ length: count }}, () => 0.55 + 2.05 * random());
            const size = {{ width: 300 + 1700 * random(), row: 100 + 150 * random(), gap: 8 }};
            const isLast = random() < 0.5;
            const {{ rows, lefts, widths, height }} = justify(ratios, size, isLast);
            let [next, bottom] = [0, 0];
            for (const [number, row] of rows.entries()) {{
              const right = lefts[row.to - 1] + widths[row.to - 1];
              const isRest = number === rows.length - 1 || row.height > 1.74 * size.row;
              if (row.from !== next || row.top < bottom - 0.01) wrong.push(["order", round]);
              if (right > size.width + 0.01) wrong.push(["beside", round]);
              if (right < size.width - 0.01 && !isRest) wrong.push(["gap", round]);
              [next, bottom] = [row.to, row.top + row.height];
            }}
            if (next !== count || height < bottom) wrong.push(["left", round]);
          }}
          const blocks = blocksOf([{{ from: 0, to: 130 }}, {{ from: 130, to: 140, goesOn: true }}]);
          return [wrong, blocks.map(({{ from, to, isLast }}) => [from, to, isLast])];
        }}"""
    )
    assert wrong == [
        [],
        [[0, 60, False], [60, 120, False], [120, 130, True], [130, 140, False]],
    ]

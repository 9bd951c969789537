"""What the page says of the language of a query, and its own languages, in a real Chromium."""

import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from retrieval.encoders.languages import Languages
from tests.api.http.routes.test_page import opened, serving

pytestmark = pytest.mark.slow

ENGLISH = Languages(frozenset({"en", "de"}), are_all=True)
ARABIC = 'export default { hello: "عمّ تبحث؟", language: "اللغة", done: "تم" };'


@pytest.fixture
def address(served, coloured_library, monkeypatch):
    monkeypatch.setattr("retrieval.search.engine.languages_of", lambda *_: ENGLISH)
    with serving(served, coloured_library, rate_limit="1000/second") as address:
        yield address


def test_the_page_says_that_a_language_is_unknown_and_gives_examples_in_a_known_one(
    browser, address
):
    with opened(browser, address, locale="zh-CN") as page:
        expect(page.get_by_role("heading", name="您在找什么")).to_be_visible()
        expect(page.locator("#ideas li").first).to_have_text("a dog running on the beach")
        expect(page.locator("#ideas li").first).to_have_attribute("lang", "en")
        page.locator("#text").fill("雪地里的两只狗")
        note = page.locator("#language-note")
        expect(note).to_have_text("此图库可能看不懂您所用的语言。它能理解：德语、英语。")
        assert Axe().run(page).violations_count == 0
        page.locator("#text").fill("two dogs in the snow")
        expect(note).to_be_hidden()
        page.get_by_role("combobox", name="语言").select_option("English")
        page.locator("#text").fill("雪地里的两只狗")
        expect(note).to_contain_text("It knows German, English.")


def test_a_language_is_one_file_and_may_be_written_from_the_right(browser, address):
    """A file of Arabic texts, of which most are missing, as if it were among the others."""
    options = {"locale": "ar", "viewport": {"width": 360, "height": 740}}
    with opened(browser, address, **options) as page:
        expect(page.get_by_role("heading", name="What are you looking for?")).to_be_visible()
        page.route(
            re.compile(r"/languages/ar\.js$"),
            lambda route: route.fulfill(body=ARABIC, content_type="text/javascript"),
        )

        def with_arabic(route):
            answer = route.fetch()
            body = answer.text().replace('"en zh"', '"ar en zh"')
            route.fulfill(response=answer, body=body)

        page.route(re.compile(r"/$"), with_arabic)
        page.reload()
        expect(page.get_by_role("heading", name="عمّ تبحث؟")).to_be_visible()
        assert page.evaluate("[document.documentElement.dir, document.documentElement.lang]") == [
            "rtl",
            "ar",
        ]
        expect(page.get_by_role("button", name="Filters")).to_be_visible()  # not translated yet
        expect(page.get_by_role("combobox", name="اللغة").locator("option")).to_have_text(
            ["العربية", "English", "中文"]
        )
        page.get_by_role("button", name="Filters").click()
        expect(page.locator("#filters-done")).to_be_visible()
        overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert page.evaluate(overflow) == 0
        assert Axe().run(page).violations_count == 0

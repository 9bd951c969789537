"""The button of the page that has a picture described, in a real Chromium."""

import pytest
from playwright.sync_api import expect

from tests.api.http.routes.test_page import opened, serving
from tests.api.http.routes.test_page_manage import clean

pytestmark = pytest.mark.slow


def test_a_picture_is_described_where_the_service_has_a_model(
    browser, coloured_library, served, tiny_captioner
):
    with coloured_library.catalog.snapshot() as snapshot:
        [item, *_] = snapshot.items(coloured_library.space().id, limit=1)
    how = {"rate_limit": "1000/second", "rerank": "none"}
    with (
        serving(served, coloured_library, captions=str(tiny_captioner("blip")), **how) as address,
        opened(browser, f"{address}/?item={item.id}") as page,
    ):
        button = page.get_by_role("button", name="Describe")
        expect(button).to_be_visible()
        button.focus()
        page.keyboard.press("Enter")
        expect(page.locator(".described [role=status]")).to_contain_text("Written by a model, blip")
        expect(button).to_be_focused()
        clean(page)
    with (
        serving(served, coloured_library, **how) as address,
        opened(browser, f"{address}/?item={item.id}") as page,
    ):
        expect(page.locator("#viewer .facts dt").first).to_be_visible()
        expect(page.get_by_role("button", name="Describe")).to_have_count(0)

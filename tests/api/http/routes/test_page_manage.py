"""Adding, watching and mending on the page: real Chromium, real service, real jobs."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Page, expect

from api.http.app import create_app
from api.http.routes import library as library_routes
from api.http.settings import ServiceSettings
from indexer.pipeline import index_sources
from retrieval.encoders.registry import EncoderChoice
from retrieval.library import create_library
from tests.api.http.routes.test_page import PATIENCE_MS, browser, opened, serving  # noqa: F401

pytestmark = pytest.mark.slow

READER, WRITER = "reader-secret-0123456789", "writer-secret-0123456789"
JOB_MS = 200_000
"""An indexing process has to start, on few cores."""


def add_photos(folder: Path, count: int, *, start: int = 0) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for seed in range(start, start + count):
        pixels = np.random.default_rng(seed).integers(0, 256, (40, 60, 3), dtype=np.uint8)
        made.append(folder / f"photo-{seed:03}.png")
        Image.fromarray(pixels).save(made[-1])
    return made


@pytest.fixture
def empty(tmp_path, tiny_encoder):
    return create_library(tmp_path / "library", tiny_encoder.space)


@contextmanager
def loose(browser, address: str, **options) -> Iterator[Page]:  # noqa: F811
    """Open a page whose console may tell of answers that are expected to be errors."""
    with browser.new_context(**{"locale": "en-US"} | options) as context:
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        page.goto(address)
        yield page


def clean(page: Page) -> bool:
    wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    return page.evaluate(wide) == 0


def test_an_empty_library_is_filled_from_a_folder(browser, served, empty, tmp_path):  # noqa: F811
    add_photos(tmp_path / "pictures" / "2019", 20)
    (tmp_path / "pictures" / "2019" / "broken.jpg").write_bytes(b"nothing")
    with (
        serving(served, empty, index_below=(tmp_path / "pictures",)) as address,
        opened(browser, address) as page,
    ):
        expect(page.get_by_role("heading", name="Nothing is in the library yet")).to_be_visible()
        expect(page.locator("#message code")).to_have_text(
            f"mmsearch index ~/Pictures --library {empty.path}"
        )
        assert clean(page)
        page.get_by_role("button", name="Add a folder").press("Enter")
        expect(page).to_have_url(re.compile(r"\?manage=add$"))
        expect(page.get_by_role("tab", name="Add")).to_be_focused()
        page.get_by_role("button", name=str(tmp_path / "pictures")).press("Enter")
        page.get_by_role("button", name="2019").press("Enter")
        path = page.get_by_label("Path of a folder")
        expect(path).to_have_value(str(tmp_path / "pictures" / "2019"))
        expect(page.locator(".manage-browse-head").first).to_contain_text("with 21 files to read")
        assert clean(page)
        path.press("Enter")
        expect(page).to_have_url(re.compile(r"\?manage=jobs$"))
        job = page.locator(".manage-list li")
        expect(job).to_contain_text(f"Reading {tmp_path / 'pictures' / '2019'}")
        expect(job).to_contain_text("20 added · 1 failed", timeout=JOB_MS)
        expect(job.locator("progress")).to_be_hidden()
        assert clean(page)
        page.keyboard.press("Escape")
        expect(page).not_to_have_url(re.compile("manage"))
        expect(page.locator("#hits img.shown").first).to_be_visible()
        expect(page.locator("#message")).to_be_hidden()
        # Taken as it is while somebody looks: what comes now is offered, and moves nothing.
        first = page.locator("#hits img").first.get_attribute("alt")
        add_photos(tmp_path / "pictures" / "2019", 3, start=100)
        index_sources(empty, _encoder(empty))
        fresh = page.get_by_role("button", name="3 new pictures: show")
        expect(fresh).to_be_visible(timeout=JOB_MS)
        assert page.locator("#hits img").first.get_attribute("alt") == first
        assert clean(page)
        fresh.press("Enter")
        expect(page.locator("#hits img").first).to_have_attribute("alt", "photo-102.png")
        expect(fresh).to_be_hidden()


def _encoder(library):
    from retrieval.encoders.open_clip import OpenClipEncoder

    return OpenClipEncoder(library.space().encoder)


def test_an_empty_library_is_filled_by_another_program(
    browser,  # noqa: F811
    served,
    empty,
    tiny_encoder,
    tmp_path,
):
    with serving(served, empty) as address, opened(browser, address) as page:
        expect(page.locator("#message code")).to_be_visible()
        expect(page.locator("#message").get_by_role("button")).to_have_count(0)
        page.wait_for_timeout(500)
        add_photos(tmp_path / "pictures", 2)
        index_sources(empty, tiny_encoder, [tmp_path / "pictures"])
        expect(page.locator("#hits li")).to_have_count(2, timeout=JOB_MS)


def test_a_hidden_page_does_not_ask(browser, served, empty):  # noqa: F811
    with serving(served, empty) as address, opened(browser, address) as page:
        expect(page.locator("#message code")).to_be_visible()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        hide = (
            "() => Object.defineProperty(document, 'hidden', {get: () => %s, configurable: true})"
        )
        page.evaluate(hide % "true")
        page.wait_for_timeout(2500)  # what waits already may be asked for once
        asked.clear()
        page.wait_for_timeout(5000)
        assert [url for url in asked if "changes" in url] == []
        page.evaluate(hide % "false")
        with page.expect_request("**/v1/changes*"):
            page.evaluate("() => document.dispatchEvent(new Event('visibilitychange'))")


@pytest.mark.parametrize(
    ("locale", "create", "empty_title"),
    [
        ("en-US", "Create the library", "Nothing is in the library yet"),
        ("zh-CN", "创建图库", "图库里还没有内容"),
    ],
)
def test_a_library_is_created_on_the_page(
    browser,  # noqa: F811
    served,
    tiny_encoder,
    tmp_path,
    monkeypatch,
    locale,
    create,
    empty_title,
):
    name = tiny_encoder.space.encoder
    languages = []
    monkeypatch.setattr(
        library_routes,
        "choose_encoder",
        lambda _, language: languages.append(language) or EncoderChoice(name, "a test"),
    )
    settings = ServiceSettings(deadline_s=100, uploads=tmp_path / "uploads")
    app = create_app(tmp_path / "library", settings, device="cpu")
    with (
        served(app) as port,
        loose(browser, f"http://127.0.0.1:{port}", locale=locale) as page,
    ):
        page.get_by_role("button", name=create).click()
        expect(page.get_by_role("heading", name=empty_title)).to_be_visible(timeout=JOB_MS)
        assert languages == [locale[:2]]
        page.locator("#message button").click()
        expect(page.locator(".upload-drop")).to_be_visible()


@pytest.fixture(scope="module")
def troubled(tmp_path_factory, tiny_encoder):
    """A library with files that failed for two reasons, and with one that was read in part."""
    folder = tmp_path_factory.mktemp("troubled")
    add_photos(folder / "photos", 5)
    for name in ("a.jpg", "b.jpg"):
        (folder / "photos" / name).write_bytes(b"nothing")
    (folder / "photos" / "<b>c.pdf").write_bytes(b"%PDF-1.4 and no more")
    Image.effect_noise((90, 90), 60).save(folder / "photos" / "cut.jpg")
    whole = (folder / "photos" / "cut.jpg").read_bytes()
    (folder / "photos" / "cut.jpg").write_bytes(whole[:-1000])
    for path in (folder / "photos").iterdir():
        os.utime(path, (1.4e9, 1.4e9))  # a failure of a file that was just written is tried again
    library = create_library(folder / "library", tiny_encoder.space)
    index_sources(library, tiny_encoder, [folder / "photos"])
    return library


@pytest.fixture(scope="module")
def address(troubled, served, tmp_path_factory) -> Iterator[str]:
    uploads = tmp_path_factory.mktemp("up") / "uploads"
    with serving(served, troubled, uploads=uploads, rate_limit="1000/second") as address:
        yield address


def test_failed_files_are_tried_again(browser, address, troubled):  # noqa: F811
    mended = troubled.path.parent / "photos" / "a.jpg"
    with opened(browser, f"{address}/?manage=problems") as page:
        panel = page.get_by_role("tabpanel")
        expect(panel).to_contain_text("3 files failed")
        expect(panel).to_contain_text("1 file read in part")
        expect(panel).to_contain_text("<b>c.pdf")
        assert clean(page)
        page.get_by_label("Reason").select_option("not an image of a known format (2)")
        expect(panel.locator("strong")).to_have_text(["a.jpg", "b.jpg", "cut.jpg"])
        Image.new("RGB", (60, 40), "red").save(mended)
        os.utime(mended, (1.4e9, 1.4e9))
        page.get_by_role("button", name="Try a.jpg again").click()
        job = page.locator(".manage-list li").first
        expect(job).to_contain_text("1 added", timeout=JOB_MS)
        expect(job).to_contain_text(f"Trying again: {mended}")
        page.get_by_role("tab", name="Not read").click()
        expect(panel).to_contain_text("2 files failed")
        page.get_by_role("button", name="Try all again").click()
        expect(page.locator(".manage-list li").first).to_contain_text("2 failed", timeout=JOB_MS)
        page.get_by_role("button", name="See what failed").first.click()
        expect(page).to_have_url(re.compile("manage=problems"))


def test_storage_and_spaces_are_shown(browser, address, troubled, tiny_encoder):  # noqa: F811
    with opened(browser, f"{address}/?manage=storage") as page:
        panel = page.get_by_role("tabpanel")
        expect(panel).to_contain_text("Catalog")
        expect(panel).to_contain_text(tiny_encoder.space.id)
        expect(panel).to_contain_text("default · searched · complete")
        expect(panel).to_contain_text(str(troubled.path))
        assert clean(page)
        page.get_by_role("tab", name="Storage").focus()
        page.keyboard.press("ArrowLeft")
        expect(page.get_by_role("tab", name="Not read")).to_be_focused()
        expect(page).to_have_url(re.compile("manage=problems"))
        page.keyboard.press("Home")
        expect(page.get_by_role("tab", name="Add")).to_have_attribute("aria-selected", "true")


def test_back_closes_it_and_a_reload_opens_it_again(browser, address):  # noqa: F811
    with opened(browser, f"{address}/?kind=image") as page:
        page.get_by_role("button", name="Library", exact=True).click()
        expect(page).to_have_url(re.compile(r"\?kind=image&manage=add$"))
        page.reload()
        expect(page.get_by_role("dialog", name="Library")).to_be_visible()
        page.go_back()
        expect(page.get_by_role("dialog", name="Library")).to_be_hidden()
        expect(page).to_have_url(re.compile(r"\?kind=image$"))
        page.go_forward()
        expect(page.get_by_role("dialog", name="Library")).to_be_visible()


def test_files_are_uploaded_and_each_refusal_is_told(browser, address, tmp_path):  # noqa: F811
    files = add_photos(tmp_path, 5, start=200)
    (tmp_path / "virus.exe").write_bytes(b"MZ and more")
    (tmp_path / "empty.jpg").touch()
    with loose(browser, f"{address}/?manage=add") as page:
        page.get_by_label("Choose files").set_input_files(
            [*files[:2], tmp_path / "virus.exe", *files[2:], tmp_path / "empty.jpg"]
        )
        section = page.get_by_role("tabpanel")
        expect(section).to_contain_text("5 of 7 added · 2 not added", timeout=JOB_MS)
        rows = page.locator(".upload-list li")
        expect(rows.filter(has_text="virus.exe")).to_contain_text("is of no format that is taken")
        expect(rows.filter(has_text="empty.jpg")).to_contain_text("The file is empty")
        expect(rows.filter(has_text="photo-200.png")).to_contain_text("added")
        assert clean(page)
        page.keyboard.press("Escape")
        page.get_by_role("button", name="5 new pictures: show").click(timeout=JOB_MS)
        expect(page.locator("#hits img[alt='photo-204.png']")).to_have_count(1)


def test_a_lost_connection_loses_no_upload(browser, address, tmp_path):  # noqa: F811
    [file] = add_photos(tmp_path, 1, start=300)
    with loose(browser, f"{address}/?manage=add") as page:
        lost = []

        def lose(route):
            if route.request.method == "POST" and len(lost) < 2:
                lost.append(route.request.headers["idempotency-key"])
                route.abort()
            else:
                route.continue_()

        page.route("**/v1/items", lose)
        page.get_by_label("Choose files").set_input_files(file)
        expect(page.get_by_role("tabpanel")).to_contain_text("1 of 1 added", timeout=JOB_MS)
        assert len(lost) == 2
        assert len(set(lost)) == 1


DRAG = """([selector, name, base64]) => {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const data = new DataTransfer();
  data.items.add(new File([bytes], name, { type: "image/png" }));
  const tell = (target, event) => target.dispatchEvent(
    new DragEvent(event, { dataTransfer: data, bubbles: true, cancelable: true }));
  tell(document.body, "dragenter");
  const target = document.querySelector(selector);
  const isShown = target.checkVisibility();
  tell(target, "dragover");
  tell(target, "drop");
  return isShown;
}"""


def test_a_dropped_picture_is_added_or_searched_with(browser, address, tmp_path):  # noqa: F811
    import base64

    [file] = add_photos(tmp_path, 1, start=400)
    content = base64.b64encode(file.read_bytes()).decode()
    with opened(browser, address) as page:
        expect(page.locator("#hits li").first).to_be_visible()
        assert page.evaluate(DRAG, ["#drop-add", file.name, content])
        expect(page.get_by_role("dialog", name="Library")).to_contain_text(
            "1 of 1 added", timeout=JOB_MS
        )
        page.keyboard.press("Escape")
        expect(page).not_to_have_url(re.compile("manage"))
        page.evaluate(DRAG, ["#drop p", file.name, content])
        expect(page).to_have_url(re.compile("picture="))


def test_a_reader_sees_what_is_and_changes_nothing(browser, served, troubled):  # noqa: F811
    keys = f"eve:read:{READER} ann:read,write:{WRITER}"
    with (
        serving(served, troubled, api_keys=keys) as address,
        loose(browser, f"{address}/?manage=problems") as page,
    ):
        prompt = page.get_by_role("dialog", name="This library needs a key")
        # The whole line, as it was printed.
        prompt.get_by_label("API key").fill(f" eve:read:{READER}\n")
        prompt.get_by_role("button", name="Open").click()
        panel = page.get_by_role("tabpanel")
        expect(panel).to_contain_text("failed")
        expect(panel.get_by_role("button", name=re.compile("again"))).to_have_count(0)
        page.get_by_role("tab", name="Add").click()
        expect(panel).to_contain_text("Your key may search and look, not add.")
        expect(panel.get_by_role("button")).to_have_count(0)


@pytest.mark.parametrize(
    ("pasted", "secret"),
    [
        (f"me:read,write:{WRITER}", WRITER),
        (f"  my phone:read:{WRITER}  ", WRITER),
        (f"me: write , read :{WRITER}", WRITER),
        ("me:read,write:with:colons", "with:colons"),
        (f" {WRITER} ", WRITER),
        ("with:colons:alone", "with:colons:alone"),
    ],
)
def test_a_line_of_a_new_key_holds_its_secret(browser, address, pasted, secret):  # noqa: F811
    from api.http.routes.page import assets

    with opened(browser, address) as page:
        script = f"async text => (await import('/ui/{assets().version}/api.js')).secretOf(text)"
        assert page.evaluate(script, pasted) == secret


def test_jobs_can_be_cancelled(browser, served, empty, tmp_path):  # noqa: F811
    add_photos(tmp_path / "pictures", 150)
    with (
        serving(served, empty, index_below=(tmp_path,)) as address,
        opened(browser, f"{address}/?manage=add") as page,
    ):
        page.get_by_label("Path of a folder").fill(str(tmp_path / "pictures"))
        page.get_by_role("button", name="Add this folder").click()
        job = page.locator(".manage-list li")
        expect(job).to_contain_text("150 files", timeout=JOB_MS)
        expect(job.locator("progress")).to_be_visible()
        page.get_by_role("button", name="Cancel: Reading").click()
        expect(job).to_contain_text(re.compile("cancelled"), timeout=JOB_MS)


def test_a_path_that_may_not_be_added_is_refused_in_words(
    browser,  # noqa: F811
    served,
    empty,
    tmp_path,
):
    with (
        serving(served, empty, index_below=(tmp_path,)) as address,
        loose(browser, f"{address}/?manage=add") as page,
    ):
        page.get_by_label("Path of a folder").fill("/etc")
        page.get_by_role("button", name="Add this folder").click()
        expect(page.get_by_role("alert")).to_contain_text("/etc is not in a source")
        assert clean(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1280])
def test_no_panel_is_too_wide_or_hard_to_use(browser, address, width, scheme):  # noqa: F811
    options = {
        "viewport": {"width": width, "height": 640},
        "locale": "zh-CN",
        "color_scheme": scheme,
    }
    with opened(browser, address, **options) as page:
        expect(page.locator("#hits li").first).to_be_visible()
        for name in ("add", "jobs", "problems", "storage"):
            page.goto(f"{address}/?manage={name}")
            panel = page.get_by_role("tabpanel")
            expect(panel).not_to_have_text("正在加载…")
            assert clean(page)
            assert panel.evaluate("panel => panel.scrollWidth - panel.clientWidth") == 0

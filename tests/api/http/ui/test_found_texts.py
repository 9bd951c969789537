"""What models found in pictures and videos, as the page shows it in a real Chromium."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image, ImageDraw, ImageFont
from playwright.sync_api import Locator, Page, expect

from api.http.schemas.jobs import JobResult, JobSchema
from indexer.enrichment.run import enrich
from indexer.pipeline import index_sources
from retrieval.library import create_library
from retrieval.recognition.base import Recognized, Segment, Task
from tests.api.http.routes.test_page import opened, serving
from tests.api.http.routes.test_page_manage import clean, loose
from tests.api.http.routes.test_page_viewer import SCENES, film, is_playing, seconds

pytestmark = pytest.mark.slow

LINES = ["CORNER BAKERY", "Receipt No. 1209", "2 croissants", "1 coffee", "总计 10.40"]
SAID = ["Welcome to the bakery", "This is how bread is made", "Thank you for listening"]
SHOTS = 300


def receipt() -> tuple[Image.Image, list[Segment]]:
    """Draw a receipt; returns its lines and their boxes, too."""
    image = Image.new("RGB", (600, 800), "white")
    segments = []
    for number, line in enumerate(LINES):
        top = 60 + 140 * number
        # No font of Chinese is needed: a reader is told where the lines are.
        ImageDraw.Draw(image).rectangle((60, top, 480, top + 50), fill="black")
        left, right, upper, lower = 0.1, 0.8, top / 800, (top + 50) / 800
        box = ((left, upper), (right, upper), (right, lower), (left, lower))
        segments.append(Segment(line, 0.9, box))
    return image, segments


class Looker:
    """Finds some segments in what is as large as the receipt, and nothing in other pictures."""

    def __init__(self, task: Task, segments: list[Segment]) -> None:
        self.task, self.identity, self._segments = task, f"{task} model 1", segments

    def recognize(self, images):
        """Look at pictures by their size."""
        return [Recognized(self._segments if one.size == (600, 800) else ()) for one in images]


class Listener:
    """Hears the same in every file."""

    task, identity = Task.SPEECH, "speech model 1"

    def transcribe(self, path, *, on_progress=None, should_stop=None):
        """Hear a file."""
        return Recognized(
            [Segment(text, None, None, 2.5 * n, 2.5 * n + 2) for n, text in enumerate(SAID)]
        )


@pytest.fixture(scope="module")
def library(tmp_path_factory, tiny_encoder):
    """A receipt and a video, with what models found in them."""
    pytest.importorskip("av", reason="the test needs videos (PyAV)")
    folder = tmp_path_factory.mktemp("found")
    image, lines = receipt()
    image.save(folder / "receipt.png")
    Image.new("RGB", (60, 40), "green").save(folder / "nothing.png")
    film(folder / "talk.webm", "libvpx-vp9")
    library = create_library(tmp_path_factory.mktemp("library") / "library", tiny_encoder.space)
    index_sources(library, tiny_encoder, [folder])
    caption = [Segment("a receipt on a table")]
    for model in (Looker(Task.OCR, lines), Looker(Task.CAPTION, caption), Listener()):
        enrich(library, tiny_encoder, model.task, lambda model=model: model)
    yield library
    library.close()


@pytest.fixture(scope="module")
def address(library, served) -> Iterator[str]:
    with serving(served, library, rate_limit="1000/second", rerank="none") as address:
        yield address


@pytest.fixture(scope="module")
def ids(library) -> dict[str, int]:
    """The first item of each file by its name; the last one of the video is `late`."""
    found: dict[str, int] = {}
    with library.catalog.snapshot() as snapshot:
        for item in snapshot.items(library.space().id, limit=1000):
            found.setdefault(Path(item.path).name, item.id)
            if item.modality == "image" and (item.time_s or 0) >= 4:
                found["late"] = item.id
    return found


@contextmanager
def viewing(browser, address: str, item: int, query: str = "", **options) -> Iterator[Page]:
    with opened(browser, f"{address}/?{query}&item={item}", **options) as page:
        expect(page.get_by_role("dialog")).to_be_visible()
        yield page


def lines_of(page: Page, kind: str) -> list[int]:
    """The numbers of the boxes with a class."""
    return page.locator(".boxes polygon").evaluate_all(
        "(all, kind) => all.flatMap((box, n) => (box.classList.contains(kind) ? [n] : []))", kind
    )


def place_in(frame: Locator, box: Locator) -> list[float]:
    """Where a box lies, as shares of the frame that is enlarged."""
    of, all_ = box.bounding_box(), frame.bounding_box()
    return [
        (of["x"] - all_["x"]) / all_["width"],
        (of["y"] - all_["y"]) / all_["height"],
        of["width"] / all_["width"],
        of["height"] / all_["height"],
    ]


def test_boxes_lie_on_their_lines_whatever_is_enlarged(browser, address, ids):
    with viewing(browser, address, ids["receipt.png"], "q=coffees&min=0") as page:
        expect(page.locator(".boxes polygon")).to_have_count(len(LINES))
        assert lines_of(page, "found") == [3]
        frame, box = page.locator(".viewer-frame"), page.locator(".boxes polygon.found")
        expect(box).to_be_visible()
        assert box.evaluate("box => getComputedStyle(box).stroke") == "rgb(255, 205, 0)"
        wanted = [0.1, (60 + 3 * 140) / 800, 0.7, 50 / 800]
        assert place_in(frame, box) == pytest.approx(wanted, abs=0.01)
        page.get_by_role("button", name="Zoom in").click(click_count=2)
        page.keyboard.press("ArrowRight")
        assert frame.bounding_box()["width"] > 800
        assert place_in(frame, box) == pytest.approx(wanted, abs=0.01)
        other = page.locator(".boxes polygon").first
        assert other.evaluate("box => getComputedStyle(box).stroke") == "none"
        switch = page.get_by_role("button", name="Text in the picture")
        expect(switch).to_have_attribute("aria-pressed", "false")
        page.keyboard.press("t")
        expect(switch).to_have_attribute("aria-pressed", "true")
        assert other.evaluate("box => getComputedStyle(box).stroke") != "none"
        page.reload()
        expect(switch).to_have_attribute("aria-pressed", "true")  # what was chosen holds
        switch.click()
        expect(switch).to_have_attribute("aria-pressed", "false")
        page.get_by_text(LINES[0]).hover()
        assert lines_of(page, "pointed") == [0]


def test_a_picture_without_text_has_no_switch(browser, address, ids):
    with viewing(browser, address, ids["nothing.png"]) as page:
        answer = page.request.get(f"{address}/v1/items/{ids['nothing.png']}/texts").json()
        assert [found["task"] for found in answer["texts"]] == ["ocr", "caption"]
        assert not any(found["segments"] for found in answer["texts"])
        expect(page.locator("dialog .facts dt").first).to_be_visible()
        expect(page.locator("[data-name=boxes]")).to_be_hidden()
        page.keyboard.press("t")
        expect(page.locator(".boxes")).to_have_count(0)


@pytest.mark.parametrize(("scheme", "locale"), [("light", "en-US"), ("dark", "zh-CN")])
def test_text_can_be_selected_and_copied_and_captions_are_told_as_generated(
    browser, address, ids, scheme, locale
):
    options = {"color_scheme": scheme, "locale": locale}
    options["permissions"] = ["clipboard-read", "clipboard-write"]
    query = "q=%E6%80%BB%E8%AE%A1+receipt&min=0"
    with viewing(browser, address, ids["receipt.png"], query, **options) as page:
        lines = page.locator(".found-lines")
        expect(lines.locator("mark")).to_have_text(["Receipt", "总计"])
        generated = page.locator(".generated")
        expect(generated).to_contain_text("a receipt on a table")
        label = "Generated caption" if locale == "en-US" else "自动生成的说明"
        expect(generated.get_by_role("heading", name=label)).to_be_visible()
        lines.get_by_text("croissants").click(click_count=3)
        assert page.evaluate("getSelection().toString().trim()") == "2 croissants"
        page.locator("[data-name=copy-text]").click()
        page.wait_for_function(
            "async text => (await navigator.clipboard.readText()) === text", arg="\n".join(LINES)
        )
        assert Axe().run(page).violations_count == 0


def test_what_is_said_follows_the_player_and_leads_to_each_moment(browser, address, ids):
    with viewing(browser, address, ids["talk.webm"], "q=bread&min=0") as page:
        rows = page.locator(".transcript li")
        expect(rows).to_have_count(len(SAID))
        expect(rows.locator("mark")).to_have_text(["bread"])
        expect(rows.first).to_have_attribute("aria-current", "true")
        page.get_by_role("button", name="Play from 0:05").click()
        is_playing(page, 5)
        expect(rows.last).to_have_attribute("aria-current", "true")
        expect(rows.first).not_to_have_attribute("aria-current", "true")
        page.keyboard.press("k")
        page.wait_for_function(
            "said => document.querySelector('dialog video').textTracks[0].activeCues[0]?.text"
            " === said",
            arg=SAID[2],
        )
        assert Axe().run(page).violations_count == 0


def test_the_strip_of_a_video_leads_to_each_shot(browser, address, ids):
    with viewing(browser, address, ids["late"]) as page:
        strip = page.get_by_role("toolbar", name="Shots of this video")
        shots = strip.get_by_role("button")
        expect(shots).not_to_have_count(0)
        found = strip.locator(".hit")
        expect(found).to_have_count(1)
        expect(found).to_have_accessible_name(re.compile("Go to 0:0[4-7], which was found"))
        expect(found).to_have_attribute("aria-current", "true")
        is_playing(page, 4)
        shots.first.click()
        page.wait_for_function("() => document.querySelector('dialog video').currentTime < 2")
        expect(shots.first).to_have_attribute("aria-current", "true")
        page.keyboard.press("k")
        before = page.url
        shots.first.focus()
        page.keyboard.press("ArrowRight")
        expect(shots.nth(1)).to_be_focused()
        assert strip.locator("[tabindex='0']").count() == 1
        page.keyboard.press("Enter")
        page.wait_for_function("() => document.querySelector('dialog video').currentTime >= 1")
        page.keyboard.press("End")
        expect(shots.last).to_be_focused()
        assert page.url == before, "arrows in the strip do not go to the next hit"
        assert seconds(page) < 2 * len(SCENES)
        assert Axe().run(page).violations_count == 0


def test_a_talk_of_many_shots_stays_light(browser, address, ids):
    """The list of shots as of a talk, with the thumbnails of a video that is there."""
    asked = []
    with opened(browser, address) as page:
        expect(page.locator("#hits li").first).to_be_visible()

        def many(route):
            answer = route.fetch()
            told = answer.json()
            first = told["items"][0]
            told["items"] = [
                first | {"time_s": n, "start_s": n, "thumbnail": versioned(first["thumbnail"], n)}
                for n in range(SHOTS)
            ]
            route.fulfill(response=answer, body=json.dumps(told))

        page.route(re.compile(r"/v1/items\?.*source"), many)
        page.on("request", lambda request: asked.append(request.url))
        page.locator(f"a[href$='item={ids['talk.webm']}']").click()
        shots = page.locator(".storyboard button")
        expect(shots).to_have_count(SHOTS)
        expect(shots.first.locator("img")).to_have_class("shown")
        page.wait_for_load_state("networkidle")
        thumbnails = {url for url in asked if "v=shot" in url}
        assert 3 <= len(thumbnails) <= 40
        shots.first.focus()
        page.keyboard.press("End")
        expect(shots.last.locator("img")).to_have_class("shown")
        assert len({url for url in asked if "v=shot" in url}) <= 80


def versioned(address: str, number: int) -> str:
    url = urlsplit(address)
    return f"{url.path}?{urlencode(dict(parse_qsl(url.query)) | {'v': f'shot{number}'})}"


def test_passages_lead_to_their_moment_and_to_their_lines(browser, address):
    with opened(browser, f"{address}/?what=text&q=bread&min=0") as page:
        card = page.locator("#hits li.chunk", has_text="This is how bread is made")
        expect(card.locator("img.shown")).to_be_visible()
        expect(card.locator(".chunk-file")).to_have_text(re.compile(r"^talk\.webm · at 0:0[0-2]$"))
        assert Axe().run(page).violations_count == 0
        card.get_by_role("link").click()
        expect(page.locator(".viewer-passage")).to_contain_text("how bread is made")
        expect(page.locator(".transcript mark")).to_have_text(["bread"])
        is_playing(page, 0)
        page.keyboard.press("Escape")
        page.locator("#text").fill("coffee")
        expect(page).to_have_url(re.compile("q=coffee"))
        card = page.locator("#hits li.chunk", has_text="1 coffee")
        card.get_by_role("link").click()
        box = page.locator(".boxes polygon.found")
        expect(box).to_be_visible()
        assert lines_of(page, "found") == [3]
        wanted = [0.1, (60 + 3 * 140) / 800, 0.7, 50 / 800]
        assert place_in(page.locator(".viewer-frame"), box) == pytest.approx(wanted, abs=0.01)


@pytest.mark.parametrize(("scheme", "locale"), [("light", "zh-CN"), ("dark", "en-US")])
def test_the_filter_for_text_in_pictures(browser, address, scheme, locale):
    with opened(browser, address, color_scheme=scheme, locale=locale) as page:
        expect(page.locator("#hits li").nth(1)).to_be_visible()
        page.locator("#filters-button").click()
        label = "With text in it (1)" if locale == "en-US" else "含有文字（1）"
        page.get_by_role("switch", name=label).check()
        expect(page.locator("#hits li")).to_have_count(1)
        expect(page.locator("#hits img")).to_have_attribute("alt", "receipt.png")
        expect(page).to_have_url(re.compile(r"\?text=1$"))
        expect(page.locator("#filters-count")).to_have_text("1")
        assert Axe().run(page).violations_count == 0
        page.keyboard.press("Escape")
        page.locator("#chips button").click()
        expect(page.locator("#hits li").nth(1)).to_be_visible()


SIGN = ["OPENING HOURS", "Monday to Friday", "closed on holidays"]


def test_text_that_is_read_in_a_picture_is_outlined(browser, served, tmp_path, tiny_encoder):
    """With the models of RapidOCR; the page asks for them when a folder is added."""
    pytest.importorskip("rapidocr", reason="the test needs rapidocr")
    from retrieval.recognition.ocr import load_recognizer

    image = Image.new("RGB", (900, 600), (240, 235, 220))
    for number, line in enumerate(SIGN):
        font = ImageFont.load_default(56)
        ImageDraw.Draw(image).text((90, 80 + 160 * number), line, fill=(20, 20, 60), font=font)
    folder = tmp_path / "signs"
    folder.mkdir()
    image.save(folder / "sign.png")
    library = create_library(tmp_path / "library", tiny_encoder.space)
    index_sources(library, tiny_encoder, [folder])
    enrich(library, tiny_encoder, Task.OCR, lambda: load_recognizer("rapidocr"))
    settings = {"index_below": (folder,), "rerank": "none", "rate_limit": "1000/second"}
    with serving(served, library, **settings) as address:
        with opened(browser, f"{address}/?q=opening&min=0") as page:
            page.locator("#hits a[href*=item]").first.click()
            expect(page.locator(".found-lines mark")).to_have_text(["OPENING"])
            box = page.locator(".boxes polygon.found")
            expect(box).to_have_count(1)
            left, top, width, height = place_in(page.locator(".viewer-frame"), box)
            assert (left, top) == pytest.approx((0.1, 80 / 600), abs=0.05)
            assert 0.4 < width < 0.7
            assert 0.06 < height < 0.16
        with loose(browser, f"{address}/?manage=add") as page:
            page.route("**/v1/index", lambda route: route.abort())  # no job is started
            page.get_by_label("Path of a folder").fill(str(folder))
            page.get_by_text("Options", exact=True).click()
            switch = page.get_by_role("switch", name="Find the text in pictures")
            expect(switch).not_to_be_checked()
            switch.check()
            assert clean(page)
            with page.expect_request("**/v1/index") as asked:
                page.get_by_role("button", name="Add this folder").click()
            assert asked.value.post_data_json == {"paths": [str(folder)], "ocr": True}


def job(number: int, **facts) -> dict:
    """A job that looks for texts, as the service tells of it."""
    made = datetime(2024, 5, 1, tzinfo=UTC)
    told = {"kind": "texts", "created_at": made, "started_at": made, "finished_at": None}
    told |= {"cancelling": False, "result": None, "error": None}
    told |= {"progress": {"stage": "ocr", "done": 120, "total": 1000, "failed": 0}}
    return JobSchema(id=str(number), **told | facts).model_dump(mode="json")


@pytest.mark.parametrize(
    ("locale", "running", "done"),
    [
        ("en-US", "Reading text in pictures: 120 of 1,000", "text in 12 of 100 pictures"),
        ("zh-CN", "正在识别图片中的文字：120 / 1,000", "100 张图片中有 12 张含有文字"),
    ],
)
def test_jobs_say_what_is_looked_for(browser, address, locale, running, done):
    found = {"task": "ocr", "looked_at": 100, "with_text": 12, "failed": 0}
    files = ["found", "added", "changed", "unchanged", "moved", "duplicates", "removed", "failed"]
    counts = dict.fromkeys([*files, "embedded"], 0)
    result = JobResult(seconds=9, interrupted=False, notes=[], texts=[found], **counts)
    jobs = [
        job(2, state="running"),
        job(1, state="succeeded", finished_at=datetime.now(UTC), result=result),
    ]
    with loose(browser, address, locale=locale) as page:
        page.route("**/v1/jobs", lambda route: route.fulfill(json={"jobs": jobs}))
        page.goto(f"{address}/?manage=jobs")
        expect(page.get_by_text(running).first).to_be_visible()
        expect(page.get_by_text(done)).to_be_visible()
        assert clean(page)

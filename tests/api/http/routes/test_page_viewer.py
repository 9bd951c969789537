"""The viewer in a real Chromium: videos, pages, passages, zoom, the map and what leads from it."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image, ImageDraw
from playwright.sync_api import Page, expect

from indexer.pipeline import index_sources
from retrieval.library import create_library
from tests.api.http.routes.test_page import browser, opened, serving  # noqa: F401

pytestmark = pytest.mark.slow

SECRET = "a-secret-that-is-long-enough"
SENTENCES = [
    f"Sentence number {n} tells of the {thing} that the old baker kept in house {n}."
    for n, thing in enumerate(["oven", "flour", "salt", "yeast", "cellar", "garden"] * 8)
]


SCENES = [(200, 20, 20), (20, 200, 20), (20, 20, 200), (200, 20, 20)]
SCENE_S = 2


def film(path: Path, codec: str) -> None:
    """Write a video of four scenes: red, green, blue and red again."""
    import av

    with av.open(os.fspath(path), "w") as output:
        stream = output.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for number in range(10 * SCENE_S * len(SCENES)):
            scene = SCENES[number // (10 * SCENE_S)]
            frame = av.VideoFrame.from_image(Image.new("RGB", (128, 96), scene))
            frame.pts = number
            output.mux(stream.encode(frame))
        output.mux(stream.encode())


def book(path: Path) -> None:
    sheets = [Image.new("RGB", (850, 1100), "white") for _ in range(4)]
    for number, sheet in enumerate(sheets, start=1):
        ImageDraw.Draw(sheet).text((80, 80), f"PAGE {number}", fill="black", font_size=90)
    sheets[0].save(path, "PDF", save_all=True, append_images=sheets[1:])


def photo(path: Path, number: int, *, size=(60, 40), gps: bool = False) -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "Testcam", "3000"
    if gps:
        place = {1: "N", 2: (52.0, 31.0, 12.0), 3: "E", 4: (13.0, 24.0, 18.0)}
        exif.get_ifd(0x8825).update(place)
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, exif=exif)


XMP = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF
 xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description
 xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"><Iptc4xmpExt:PersonInImage>
 <rdf:Bag><rdf:li>Ada &amp; Co</rdf:li><rdf:li>Grace Hopper</rdf:li></rdf:Bag>
 </Iptc4xmpExt:PersonInImage></rdf:Description></rdf:RDF></x:xmpmeta>"""


@pytest.fixture(scope="module")
def library(tmp_path_factory, tiny_encoder):
    """Videos, a document, a text of many passages, photos with places, persons and captions."""
    folder = tmp_path_factory.mktemp("media")
    film(folder / "clip.webm", "libvpx-vp9")
    film(folder / "clip.mp4", "libx264")
    film(folder / "old.avi", "mpeg4")
    book(folder / "book.pdf")
    (folder / "story.txt").write_text(" ".join(SENTENCES))
    photo(folder / "trips" / "berlin-1.jpg", 1, gps=True)
    photo(folder / "trips" / "berlin-2.jpg", 2, gps=True)
    (folder / "trips" / "berlin-1.xmp").write_text(XMP)
    photo(folder / "large.png", 3, size=(3200, 2400))
    for number in range(130):
        photo(folder / "many" / f"{number:03}.png", 10 + number)
    (folder / "captions.csv").write_text(
        "file,caption\ntrips/berlin-1.jpg,A dog <b>runs</b> over the square\n"
    )
    library = create_library(tmp_path_factory.mktemp("viewer") / "library", tiny_encoder.space)
    index_sources(library, tiny_encoder, [folder])
    return library


@pytest.fixture(scope="module")
def address(library, served) -> Iterator[str]:
    with serving(served, library, rate_limit="1000/second", rerank="none") as address:
        yield address


@pytest.fixture(scope="module")
def ids(library) -> dict[str, int]:
    """The first item of each file by its name; of a video and a document, also `NAME@PART`."""
    found: dict[str, int] = {}
    with library.catalog.snapshot() as snapshot:
        for item in snapshot.items(library.space().id, limit=10_000):
            name = Path(item.path).name
            found.setdefault(name, item.id)
            found.setdefault(f"{name}@{item.page or item.time_s}", item.id)
    return found


@contextmanager
def viewing(browser, address: str, item: int, query: str = "", **options) -> Iterator[Page]:  # noqa: F811
    with opened(browser, f"{address}/?{query}&item={item}", **options) as page:
        expect(page.get_by_role("dialog")).to_be_visible()
        yield page


def seconds(page: Page) -> float:
    return page.evaluate("document.querySelector('dialog video').currentTime")


def is_playing(page: Page, after: float) -> None:
    page.wait_for_function(
        """after => { const video = document.querySelector('dialog video');
             return video && !video.paused && video.readyState >= 2
                    && video.currentTime > after }""",
        arg=after,
    )


def scale(page: Page) -> float:
    """How much the picture is enlarged."""
    return page.evaluate(
        """() => { const frame = document.querySelector('.viewer-frame');
             return frame.getBoundingClientRect().width / frame.clientWidth }"""
    )


@pytest.mark.parametrize("name", ["clip.webm", "clip.mp4"])
def test_a_video_plays_from_the_second_of_the_hit(browser, address, ids, library, name):  # noqa: F811
    with library.catalog.snapshot() as snapshot:
        frames = [
            item
            for item in snapshot.items(library.space().id, limit=10_000)
            if item.path.endswith(name)
        ]
    late = max(frames, key=lambda item: item.time_s)
    assert late.time_s >= SCENE_S
    with viewing(browser, address, late.id, "kind=video") as page:
        is_playing(page, late.time_s)
        video = page.locator("dialog video")
        assert video.evaluate("video => [video.muted, video.controls, video.videoWidth]") == [
            True,
            True,
            128,
        ]
        colour = video.evaluate(
            """video => { const canvas = new OffscreenCanvas(1, 1).getContext('2d');
                 canvas.drawImage(video, 0, 0, 1, 1);
                 return [...canvas.getImageData(0, 0, 1, 1).data] }"""
        )
        wanted = SCENES[int(late.time_s / SCENE_S)]
        assert colour[:3] == pytest.approx(wanted, abs=40), "that second is shown"
        page.keyboard.press("k")
        assert video.evaluate("video => video.paused")
        page.keyboard.press("m")
        assert not video.evaluate("video => video.muted")
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_be_hidden()
        page.locator(f"a[href$='item={ids[name]}']").click()
        assert not video.evaluate("video => video.muted"), "what was chosen holds"


def test_moments_of_a_video(browser, address, ids):  # noqa: F811
    query = f"like={ids['clip.mp4']}&min=0"  # of the first scene, as which the last one is red
    with viewing(browser, address, ids["clip.webm"], query) as page:
        is_playing(page, 0)
        moments = page.locator(".moments button")
        expect(moments.nth(1)).to_be_visible()
        times = moments.all_inner_texts()
        assert times == sorted(times)
        page.keyboard.press("k")
        moments.last.click()
        expect(moments.last).to_have_attribute("aria-current", "true")
        is_playing(page, 2)
        assert Axe().run(page).violations_count == 0


def test_a_video_that_the_browser_cannot_play(browser, address, ids):  # noqa: F811
    with viewing(browser, address, ids["old.avi"]) as page:
        expect(page.get_by_text("This browser cannot play this video.")).to_be_visible()
        expect(page.locator("dialog video")).to_have_count(0)
        expect(page.locator("dialog img.large")).to_have_class("large shown")
        with page.expect_download() as download:
            page.get_by_role("link", name="Download").click()
        assert download.value.suggested_filename == "old.avi"


def test_with_a_key_files_are_opened_by_addresses_without_it(
    browser,  # noqa: F811
    library,
    served,
    ids,
):
    with (
        serving(served, library, api_keys=f"page:read:{SECRET}") as address,
        opened_with_key(browser, f"{address}/?item={ids['clip.webm']}") as page,
    ):
        is_playing(page, 0)
        assert SECRET not in page.content()
        with page.expect_download() as download:
            page.keyboard.press("d")
        assert download.value.suggested_filename == "clip.webm"
        with page.expect_popup() as popup:
            page.get_by_role("link", name="Open the file").click()
        popup.value.wait_for_function("() => document.querySelector('video').currentTime > 0")
        assert SECRET not in popup.value.url
        file = popup.value.url.partition("?")[0]
        assert page.request.get(file).status == 401


@contextmanager
def opened_with_key(browser, address: str) -> Iterator[Page]:  # noqa: F811
    with browser.new_context(locale="en-US") as context:
        page = context.new_page()
        page.goto(address)
        prompt = page.get_by_role("dialog", name="This library needs a key")
        prompt.get_by_label("API key").fill(SECRET)
        prompt.get_by_role("button", name="Open").click()
        yield page


def test_a_document_opens_at_its_page(browser, address, ids):  # noqa: F811
    with viewing(browser, address, ids["book.pdf@2"]) as page:
        link = page.get_by_role("link", name="Open the file")
        expect(link).to_have_attribute("href", re.compile(r"/file#page=2$"))
        expect(page.locator(".viewer-what")).to_contain_text("page 2")
        page.get_by_role("button", name="Page 3 after it").click()
        expect(page.locator(".viewer-what")).to_contain_text("page 3")
        expect(page.get_by_role("button", name="Page 4 after it")).to_be_focused()
        expect(link).to_have_attribute("href", re.compile(r"/file#page=3$"))
        expect(page).to_have_url(re.compile(f"item={ids['book.pdf@3']}"))
        with page.expect_popup() as popup:
            link.click()
        popup.value.wait_for_load_state()
        assert popup.value.evaluate("document.contentType") in {"application/pdf", "text/html"}
        assert popup.value.url.endswith("#page=3")


def test_a_page_is_drawn_larger_when_it_is_enlarged(browser, address, ids):  # noqa: F811
    with viewing(browser, address, ids["book.pdf@2"]) as page:
        expect(page.locator("dialog img.large")).to_have_class("large shown")
        page.get_by_role("button", name="Zoom in").click(click_count=3)
        sharp = page.locator("dialog img.sharp")
        expect(sharp).to_have_class("sharp shown")
        assert sharp.evaluate("image => image.naturalHeight") == 2560
        page.keyboard.press("0")
        assert scale(page) == pytest.approx(1, abs=0.001)


def test_an_enlarged_photo_shows_all_its_pixels(browser, address, ids):  # noqa: F811
    with viewing(browser, address, ids["large.png"]) as page:
        expect(page.locator("dialog img.large")).to_have_class("large shown")
        box = page.locator(".viewer-frame").bounding_box()
        x, y = 0.4 * box["width"], 0.4 * box["height"]
        page.mouse.move(box["x"] + x, box["y"] + y)
        for _ in range(3):
            page.mouse.wheel(0, -600)
        page.wait_for_function(
            """() => [...document.querySelectorAll('.sharp.shown')]
                .some(image => image.naturalWidth === 3200)"""
        )
        corner = page.locator(".viewer-frame").bounding_box()
        assert corner["x"] + x * scale(page) == pytest.approx(box["x"] + x, abs=9)
        assert corner["y"] + y * scale(page) == pytest.approx(box["y"] + y, abs=9)
        before = corner["x"]
        page.keyboard.press("ArrowLeft")
        assert page.locator(".viewer-frame").bounding_box()["x"] >= before
        expect(page.get_by_role("dialog").get_by_role("heading", level=2)).to_have_text("large.png")
        page.mouse.dblclick(box["x"] + 200, box["y"] + 200)
        assert scale(page) == pytest.approx(1, abs=0.001)
        page.mouse.dblclick(box["x"] + 200, box["y"] + 200)
        assert scale(page) == pytest.approx(2.5, abs=0.1)
        page.mouse.move(box["x"] + 200, box["y"] + 200)
        page.mouse.down()
        page.mouse.move(box["x"] + 120, box["y"] + 150, steps=4)
        page.mouse.up()
        expect(page.get_by_role("dialog")).to_be_visible()
        page.keyboard.press("-")
        page.keyboard.press("-")
        page.keyboard.press("-")
        expect(page.get_by_role("button", name="Zoom out")).to_be_disabled()


def test_a_passage_stands_between_its_neighbours(browser, address, library):  # noqa: F811
    with library.catalog.snapshot() as snapshot:
        chunks = [
            item
            for item in snapshot.items(library.space().id, limit=10_000)
            if item.path.endswith("story.txt")
        ]
    middle = chunks[len(chunks) // 2]
    with viewing(browser, address, middle.id, "what=text&q=baker&min=0") as page:
        text = page.locator("dialog blockquote")
        expect(text.locator("mark")).to_have_text(middle.text)
        expect(text.locator(".passage-near")).to_have_count(4)
        while (more := text.get_by_role("button", name="Read on")).count():
            more.click()
            expect(more.or_(text.get_by_text(SENTENCES[-1]))).to_be_visible()
        while (more := text.get_by_role("button", name="Read what stands before")).count():
            more.click()
            expect(more.or_(text.get_by_text(SENTENCES[0]))).to_be_visible()
        shown = re.sub(r"\s+", " ", text.inner_text()).strip()
        assert shown == " ".join(SENTENCES), "the whole text, each sentence once"
        assert Axe().run(page).violations_count == 0


def test_the_map_and_what_was_taken_near(browser, address, ids):  # noqa: F811
    with viewing(browser, address, ids["berlin-1.jpg"]) as page:
        map_ = page.get_by_role("img", name="Map of where this was taken")
        expect(map_.locator(".map-point")).to_have_count(1)
        expect(map_.locator("image.map-land").first).to_be_attached()
        page.get_by_role("button", name="Closer map").click()
        expect(page.get_by_role("link", name="Photos within 5 km")).to_be_visible()
        osm = page.get_by_role("link", name="Open in OpenStreetMap")
        expect(osm).to_have_attribute(
            "href", re.compile(r"^https://www\.openstreetmap\.org/\?mlat=52\.52.*#map=15/52\.52")
        )
        expect(osm).to_have_attribute("rel", "noopener noreferrer")
        assert Axe().run(page).violations_count == 0
        page.get_by_role("link", name="Photos within 5 km").click()
        expect(page.get_by_role("dialog")).to_be_hidden()
        expect(page.locator("#hits li")).to_have_count(2)
        expect(page).to_have_url(re.compile(r"near=52\.52%2C13\.405%2C5"))
        page.get_by_role("button", name="Remove 5 km around 52.52, 13.405").click()
        expect(page.locator("#hits li").nth(5)).to_be_visible()
        page.go_back()
        expect(page.locator("#hits li")).to_have_count(2)


@pytest.mark.parametrize(
    ("near", "box"),
    [
        ("0,0,111.32", {"south": -1, "north": 1, "west": -1, "east": 1}),
        ("60,179.5,111.32", {"south": 59, "north": 61, "west": 177.5, "east": -178.5}),
        ("89.9,0,1000", {"south": 80.917, "north": 90, "west": -180, "east": 180}),
        ("91,0,5", None),
        ("1,2", None),
        ("1,2,-3", None),
        ("1,2,3,4", None),
        (",,1", None),
        ("a,b,c", None),
    ],
)
def test_a_place_in_the_address(browser, address, near, box):  # noqa: F811
    with opened(browser, address) as page:
        where = page.evaluate(
            """async near => {
              const module = document.querySelector('script[type=module]').src;
              const { fromAddress, whereOf } = await import(module.replace('main.js', 'query.js'));
              return whereOf(fromAddress(`?near=${encodeURIComponent(near)}`));
            }""",
            near,
        )
    assert (where and where["gps"]) == (box and pytest.approx(box, abs=1e-3))


def test_persons_cameras_and_folders_lead_to_what_has_them(browser, address, ids):  # noqa: F811
    with viewing(browser, address, ids["berlin-1.jpg"]) as page:
        expect(page.locator("dialog img.large")).to_have_attribute(
            "alt", "A dog <b>runs</b> over the square"
        )
        page.get_by_role("link", name="Ada & Co").click()
        expect(page.locator("#hits li")).to_have_count(1)
        expect(page).to_have_url(re.compile(r"person=Ada\+%26\+Co"))
        page.go_back()
        page.go_forward()
        page.locator("#hits a").first.click()
        page.get_by_role("link", name=re.compile("trips.$")).click()
        expect(page.locator("#hits li")).to_have_count(2)
        page.locator("#hits a").first.click()
        page.get_by_role("link", name="Testcam 3000").click()
        expect(page).to_have_url(re.compile(r"camera=Testcam\+3000"))


def test_copying_the_link_and_the_path(browser, address, ids):  # noqa: F811
    permissions = ["clipboard-read", "clipboard-write"]
    with viewing(browser, address, ids["berlin-2.jpg"], permissions=permissions) as page:
        link = page.locator("[data-name=copy-link]")
        page.get_by_role("button", name="Copy link").click()
        expect(link).to_have_text("Copied")
        copied = page.evaluate("navigator.clipboard.readText()")
        assert copied == f"{address}/?item={ids['berlin-2.jpg']}"
        page.get_by_role("button", name="Copy path").click()
        page.wait_for_function(
            "async () => (await navigator.clipboard.readText()).endsWith('trips/berlin-2.jpg')"
        )
        # As in a browser that has no clipboard for the page.
        page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
        expect(link).to_have_text("Copy link")
        page.keyboard.press("c")
        expect(link).to_have_text("Copied")


def test_a_link_beyond_the_first_page_has_a_previous_and_a_next(browser, address, ids):  # noqa: F811
    with viewing(browser, address, ids["010.png"]) as page:
        expect(page.get_by_role("button", name="Next")).to_be_enabled()
        expect(page.get_by_role("button", name="Previous")).to_be_enabled()
        title = page.get_by_role("dialog").get_by_role("heading", level=2)
        page.keyboard.press("ArrowRight")
        expect(title).to_have_text("009.png")
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("ArrowLeft")
        expect(title).to_have_text("011.png")
        page.keyboard.press("Escape")
        expect(page.get_by_role("link", name="011.png")).to_be_focused()


def test_next_goes_beyond_what_is_loaded(browser, address):  # noqa: F811
    with opened(browser, f"{address}/?kind=image") as page:
        expect(page.locator("#hits li")).not_to_have_count(0)
        page.locator("#hits a").first.focus()
        for _ in range(55):
            page.keyboard.press("ArrowRight")
        page.keyboard.press("Enter")
        expect(page.get_by_role("dialog")).to_be_visible()
        for _ in range(12):
            before = page.url
            page.keyboard.press("ArrowRight")
            expect(page).not_to_have_url(before)
        expect(page.locator(".viewer-what")).to_contain_text("68 /")


def test_slideshow_and_full_screen(browser, address, ids):  # noqa: F811
    with opened(browser, f"{address}/?kind=image") as page:
        page.locator("#hits a").first.click()
        page.clock.install()
        title = page.get_by_role("dialog").get_by_role("heading", level=2)
        first = title.inner_text()
        button = page.get_by_role("button", name="Slideshow")
        button.click()
        expect(button).to_have_attribute("aria-pressed", "true")
        page.wait_for_function("document.fullscreenElement?.matches('.viewer-stage')")
        page.clock.run_for(5100)
        page.wait_for_function(
            "first => document.querySelector('dialog h2').textContent !== first", arg=first
        )
        assert page.evaluate("Boolean(document.fullscreenElement)"), "it stays while they change"
        page.keyboard.press("s")
        expect(button).to_have_attribute("aria-pressed", "false")
        page.wait_for_function("!document.fullscreenElement")
        expect(page.get_by_role("dialog")).to_be_visible()
        page.keyboard.press("f")
        page.wait_for_function("document.fullscreenElement?.matches('.viewer-stage')")
        page.locator(".stage-close").click()
        page.wait_for_function("!document.fullscreenElement")
        expect(page.get_by_role("dialog")).to_be_visible()


@pytest.mark.parametrize(("locale", "name"), [("en-US", "Keys"), ("zh-CN", "快捷键")])
def test_the_keys_are_told(browser, address, ids, locale, name):  # noqa: F811
    with opened(browser, address, locale=locale) as page:
        expect(page.locator("#hits li").first).to_be_visible()
        page.keyboard.press("/")
        page.keyboard.type("?")
        expect(page.locator("#text")).to_have_value("?")
        page.keyboard.press("Escape")
        page.locator("#hits a").first.focus()
        page.keyboard.press("?")
        keys = page.get_by_role("dialog", name=name)
        expect(keys).to_be_visible()
        assert Axe().run(page).violations_count == 0
        page.keyboard.press("Escape")
        expect(keys).to_be_hidden()
        page.locator("#hits a").first.click()
        page.keyboard.press("?")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Escape")
        expect(keys).to_be_hidden()
        expect(page.locator("#viewer")).to_be_visible()


def touch(page: Page, kind: str, *points: tuple[float, float]) -> None:
    fingers = [{"x": x, "y": y, "id": n} for n, (x, y) in enumerate(points)]
    page.cdp.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": fingers})


def test_swiping_and_pinching_on_a_phone(browser, address):  # noqa: F811
    phone = {"viewport": {"width": 390, "height": 800}, "has_touch": True, "is_mobile": True}
    with opened(browser, f"{address}/?kind=image", **phone) as page:
        page.cdp = page.context.new_cdp_session(page)
        expect(page.locator("#hits li").nth(3)).to_be_visible()
        page.locator("#hits a").nth(1).tap()
        what = page.locator(".viewer-what")
        expect(what).to_contain_text("2 /")
        expect(page.locator("dialog img.large")).to_have_class("large shown")
        box = page.locator(".viewer-frame").bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

        def swipe(dx: float) -> None:
            touch(page, "touchStart", (x, y))
            for step in range(1, 5):
                touch(page, "touchMove", (x + dx * step / 4, y + 2))
            touch(page, "touchEnd")

        swipe(-130)
        expect(what).to_contain_text("3 /")
        swipe(130)
        expect(what).to_contain_text("2 /")
        swipe(20)
        expect(what).to_contain_text("2 /")
        expect(page.get_by_role("dialog")).to_be_visible()
        touch(page, "touchStart", (x - 30, y), (x + 30, y))
        for step in range(1, 6):
            touch(page, "touchMove", (x - 30 - 10 * step, y), (x + 30 + 10 * step, y))
        touch(page, "touchEnd")
        page.wait_for_function("document.querySelector('.viewer-stage').matches('.zoomed')")
        assert scale(page) == pytest.approx(160 / 60, abs=0.4)
        swipe(-130)
        expect(what).to_contain_text("2 /")
        assert (
            page.locator("dialog").first.evaluate("box => box.scrollWidth - box.clientWidth") == 0
        )
        close = page.get_by_role("button", name="Close", exact=True)
        expect(close).to_have_count(1)
        assert close.bounding_box()["y"] < 60, "it stands at the top"
        assert Axe().run(page).violations_count == 0
        for _ in range(3):  # a slow machine takes a tap for a long press
            close.tap()
            with suppress(AssertionError):
                expect(page.get_by_role("dialog")).to_be_hidden(timeout=5000)
                break
        expect(page.get_by_role("dialog")).to_be_hidden()

"""The page as an app: its manifest, and what it shows while the service is away."""

import io
import re
from urllib.parse import urljoin

import httpx
import pytest
from PIL import Image
from playwright.sync_api import expect

from api.http.app import create_app
from api.http.routes.page import assets
from api.http.settings import ServiceSettings
from tests.api.http.routes.test_page import opened

pytestmark = pytest.mark.slow

SECRET = "a-secret-that-is-long-enough"
KEPT = """async () => {
  const found = [];
  for (const name of await caches.keys())
    for (const request of await (await caches.open(name)).keys())
      found.push(new URL(request.url).pathname);
  return found;
}"""
READY = "() => navigator.serviceWorker.ready.then((worker) => worker.active.state)"


@pytest.mark.parametrize("folder", ["", "/photos"])
def test_the_page_can_be_installed_with_keys_below_any_path(served, coloured_library, folder):
    settings = ServiceSettings(root_path=folder, api_keys=f"page:read:{SECRET}")
    with served(create_app(coloured_library.path, settings, device="cpu")) as port:
        root = f"http://127.0.0.1:{port}{folder}/"
        page = httpx.get(root)
        manifest_url = urljoin(root, re.search(r'rel="manifest" href="([^"]+)"', page.text)[1])
        answer = httpx.get(manifest_url)
        assert answer.headers["content-type"] == "application/manifest+json"
        assert "immutable" in answer.headers["cache-control"]
        manifest = answer.json()
        assert urljoin(manifest_url, manifest["start_url"]) == root
        assert urljoin(manifest_url, manifest["scope"]) == root
        sizes = set()
        for icon in manifest["icons"]:
            content = httpx.get(urljoin(manifest_url, icon["src"]))
            assert content.headers["content-type"] == icon["type"]
            if icon["type"] == "image/png":
                width, height = Image.open(io.BytesIO(content.content)).size
                assert icon["sizes"] == f"{width}x{height}"
                sizes.add((width, icon.get("purpose", "any")))
        assert sizes == {(192, "any"), (512, "any"), (512, "maskable")}
        worker = httpx.get(urljoin(root, "service-worker.js"))
        assert worker.headers["content-type"].startswith("text/javascript")
        assert worker.headers["cache-control"] == "no-cache"
        assert f'VERSION = "{assets().version}"' in worker.text
        assert "@" not in re.sub(r"//.*", "", worker.text)


def test_the_page_opens_while_the_service_is_away(browser, served, coloured_library):
    app = create_app(coloured_library.path, ServiceSettings(), device="cpu")
    with served(app) as port:
        address = f"http://127.0.0.1:{port}/"
        context = browser.new_context(locale="en-US")
        page = context.new_page()
        page.goto(address)
        expect(page.locator("#hits li")).to_have_count(4)
        assert page.evaluate(READY) in {"activating", "activated"}
        kept = page.evaluate(KEPT)
        assert all(path == "/" or path.startswith(f"/ui/{assets().version}/") for path in kept)
        assert f"/ui/{assets().version}/main.js" in kept
        page.reload()
        expect(page.locator("#hits li")).to_have_count(4)
        assert len(page.evaluate(KEPT)) == len(kept)
    page.goto(f"{address}?q=a+cat")
    expect(page.get_by_role("heading", name="The service does not answer")).to_be_visible()
    context.close()


def test_a_newer_version_takes_the_place_of_the_older_one(browser, served, coloured_library):
    app = create_app(coloured_library.path, ServiceSettings(), device="cpu")
    with served(app) as port, browser.new_context(locale="en-US") as context:
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{port}/")
        page.evaluate(READY)
        old = "mmsearch page of / 0123456789abcdef"
        page.evaluate("name => caches.open(name)", old)
        page.evaluate("caches.open('of another program')")
        page.evaluate(
            """async () => { const worker = await navigator.serviceWorker.ready;
                 await worker.unregister(); await navigator.serviceWorker.register(
                   'service-worker.js'); await navigator.serviceWorker.ready; }"""
        )
        page.wait_for_function("async name => !(await caches.keys()).includes(name)", arg=old)
        assert "of another program" in page.evaluate("caches.keys()")


def test_a_page_without_secure_context_works(browser, served, coloured_library):
    """Service workers are blocked as a browser does for a plain address of another machine."""
    app = create_app(coloured_library.path, ServiceSettings(), device="cpu")
    with served(app) as port, opened(browser, f"http://127.0.0.1:{port}/") as page:
        expect(page.locator("#hits li")).to_have_count(4)
        page.wait_for_timeout(3500)

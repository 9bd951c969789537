"""Draw docs/page.png: the page with photos of scikit-image, and one with where words looked.

python -m tools.page_picture docs/page.png
"""

import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from PIL import Image
from playwright.sync_api import ViewportSize, sync_playwright

from tools.readme_picture import PROGRAM, copy_photos

PORT = 8931
WIDTH, HEIGHT = 1100, 760


def wait_for(address: str) -> None:
    """Wait until a service is ready."""
    for _ in range(300):
        with suppress(URLError), urlopen(address) as answer:
            if answer.status == 200:
                return
        time.sleep(0.2)


def main(output: Path) -> None:
    """Index the photos, serve them, and take two pictures of the window."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        library = ["--library", str(folder / "library")]
        photos = copy_photos(folder / "photos")
        subprocess.run(
            [*PROGRAM, "index", str(photos), "--encoder", "starter", "--with-tokens", *library],
            check=True,
        )
        serve = [*PROGRAM, "serve", "--port", str(PORT), *library]
        with subprocess.Popen(serve) as service, sync_playwright() as playwright:
            try:
                wait_for(f"http://localhost:{PORT}/readyz")
                browser = playwright.chromium.launch(
                    executable_path=shutil.which("chromium"), args=["--no-sandbox"]
                )
                page = browser.new_page(viewport=ViewportSize(width=WIDTH, height=HEIGHT))
                page.goto(f"http://localhost:{PORT}/", wait_until="load")
                page.locator("#hits img.shown").nth(5).wait_for()
                page.wait_for_timeout(1000)
                page.screenshot(path=folder / "start.png")
                page.locator("#text").fill("a motorbike in a garage")
                page.wait_for_timeout(2500)
                page.locator("#hits a").first.click()
                page.get_by_role("button", name="Where the words looked").click()
                page.wait_for_timeout(2500)
                page.screenshot(path=folder / "opened.png")
                browser.close()
            finally:
                service.terminate()
        shots = [Image.open(folder / name).convert("RGB") for name in ("start.png", "opened.png")]
    whole = Image.new("RGB", (WIDTH * 2 + 20, HEIGHT), "white")
    for number, shot in enumerate(shots):
        whole.paste(shot, (number * (WIDTH + 20), 0))
    whole.quantize(256).save(output, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""How the page feels in a real Chromium: from key press to pictures, and frames while scrolling."""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

import numpy as np

from benchmarks.service.process import ServiceProcess
from retrieval.errors import UsageError

if TYPE_CHECKING:
    from playwright.sync_api import Page

QUERIES = ("a dog in the snow", "children at the beach", "a man on a bike", "red flowers", "a boat")

_WINDOW = {"width": 1280, "height": 800}
_LIMIT_MS = 60_000
_FLAGS = ("--disable-background-networking", "--disable-gpu", "--no-first-run")
_STEP_PX = 120
"""Pixels a frame: 7,200 a second at 60 frames, as one scrolls who looks for something."""

# The time of the last key, and the first frame in which a picture of its answer is drawn.
_WATCH_KEYS = """() => {
  const page = (window.measured = {});
  const ask = window.fetch;
  window.fetch = async (address, options) => {
    const answer = await ask(address, options);
    if (String(address).endsWith("/v1/search") && JSON.parse(options.body).k === 60) {
      const { hits } = await answer.clone().json();
      page.wanted ??= hits[0]?.thumbnail ? new URL(hits[0].thumbnail, location).pathname : null;
      page.found = performance.now() - page.key;
    }
    return answer;
  };
  addEventListener("keydown", (event) => {
    Object.assign(page, { key: event.timeStamp, wanted: undefined, drawn: undefined });
    const look = () => {
      const image = document.querySelector("#hits img.shown");
      if (page.wanted === null) page.drawn = page.found; // nothing was found
      else if (page.wanted && image && new URL(image.src).pathname === page.wanted) {
        page.drawn = performance.now() - page.key;
      } else requestAnimationFrame(look);
    };
    look();
  }, true);
}"""

_SCROLL = """([seconds, step]) => new Promise((done) => {
  const [frames, nodes] = [[], []];
  let [last, way, began] = [performance.now(), 1, performance.now()];
  const frame = (now) => {
    frames.push(now - last);
    last = now;
    if (frames.length % 10 === 0) nodes.push(document.getElementsByTagName("*").length);
    const most = document.documentElement.scrollHeight - innerHeight;
    if (scrollY >= most - 1) way = -1;
    if (scrollY <= 0) way = 1;
    if (now - began > seconds * 1000) {
      done({ frames: frames.slice(2), nodes: Math.max(...nodes), scrolled: scrollY });
      return;
    }
    scrollBy(0, way * step);
    requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
})"""


@dataclass(frozen=True)
class Scrolling:
    """Frames while scrolling: their times in milliseconds, and the most nodes of the document."""

    frames: int
    p50_ms: float
    p95_ms: float
    worst_ms: float
    nodes: int
    pixels: int


@dataclass
class PageResult:
    """What was measured.

    cold_ms, warm_ms: of each query and round, milliseconds from the last key to the answer and to
    the first picture, without and with the image tokens of its candidates.
    """

    hits: int
    cold_ms: list[tuple[float, float]] = field(default_factory=list)
    warm_ms: list[tuple[float, float]] = field(default_factory=list)
    library: Scrolling | None = None
    search: Scrolling | None = None
    layout_shift: float = 0.0


def measure_page(
    program: Sequence[str],
    library: Path,
    workspace: Path,
    *,
    queries: Sequence[str] = QUERIES,
    rounds: int = 3,
    seconds: float = 10.0,
    chromium: str | None = None,
    on_step: Callable[[str], None] = lambda _: None,
) -> PageResult:
    """Serve a copy of a library without image tokens, and measure the page in Chromium.

    Args:
        program: Command line of mmsearch.
        library: Directory of the library, which is not changed.
        workspace: Empty directory for the copy.
        queries: Texts that are typed, first with cold tokens, then with warm ones.
        rounds: How often each is typed with warm tokens.
        seconds: How long each list is scrolled.
        chromium: Path or name of Chromium. (default: `$MMSEARCH_CHROMIUM`, else `chromium`)
        on_step: Called with what is done next.

    Raises:
        UsageError: Playwright or Chromium is missing, or the library cannot be copied.
    """
    copy = workspace / "library"
    try:
        shutil.copytree(library, copy, ignore=shutil.ignore_patterns("tokens", "writer.lock"))
    except (OSError, shutil.Error) as error:
        raise UsageError(f"{library} cannot be copied: {error}") from error
    with (
        _opened(chromium) as page,
        ServiceProcess(program, copy, "--no-background-tokens") as service,
    ):
        page.goto(f"http://127.0.0.1:{service.port}/")
        page.wait_for_selector("#hits img.shown")
        page.evaluate(_WATCH_KEYS)
        result = PageResult(hits=0)
        on_step(f"{len(queries)} queries with cold tokens")
        for query in queries:
            _make_thumbnails(page, query)
        result.cold_ms = [_typed(page, query) for query in queries]
        for number in range(rounds):
            on_step(f"round {number + 1} with warm tokens")
            result.warm_ms += [_typed(page, query) for query in queries]
        on_step("scrolling a search")
        _typed(page, f"{queries[0]} ")
        page.goto(f"http://127.0.0.1:{service.port}/?q={queries[0].replace(' ', '+')}&min=0")
        result.search = _scrolled(page, seconds)
        on_step("scrolling the library")
        page.goto(f"http://127.0.0.1:{service.port}/")
        _watch_shifts(page)
        result.library = _scrolled(page, seconds)
        result.layout_shift = page.evaluate("window.moved")
        counted = page.locator("#hits li[aria-setsize]").first
        result.hits = int(counted.get_attribute("aria-setsize") or 0)
    return result


@contextmanager
def _opened(chromium: str | None) -> "Iterator[Page]":
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise UsageError("This needs Playwright: `pip install playwright`.") from error
    name = chromium or os.environ.get("MMSEARCH_CHROMIUM", "chromium")
    if (program := shutil.which(name)) is None:
        raise UsageError(f"There is no {name}: name a Chromium with --chromium.")
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    flags = [*_FLAGS, "--no-sandbox"] if is_root else [*_FLAGS]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=flags)
        try:
            page = browser.new_context(viewport=_WINDOW, locale="en-US").new_page()  # type: ignore[arg-type]
            page.set_default_timeout(_LIMIT_MS)
            yield page
        finally:
            browser.close()


def _make_thumbnails(page: "Page", query: str) -> None:
    """Have the thumbnails of the first hits made: only the tokens are to be cold."""
    body = {"text": query, "rerank": "none", "min_relevance": "auto", "k": 20}
    answer = page.request.post(urljoin(page.url, "/v1/search"), data=body).json()
    for hit in answer["hits"]:
        page.request.get(urljoin(page.url, f"{hit['thumbnail']}&format=webp"))


def _typed(page: "Page", query: str) -> tuple[float, float]:
    """Type a query; returns milliseconds from its last key to its answer and the first picture."""
    box = page.locator("#text")
    box.fill("")
    page.wait_for_function("() => document.querySelector('#hello:not([hidden])')")
    box.press_sequentially(query[:-1])
    page.wait_for_timeout(50)
    box.press_sequentially(query[-1])
    page.wait_for_function("() => window.measured.drawn !== undefined")
    found, drawn = page.evaluate("[window.measured.found, window.measured.drawn]")
    # The closer look ends, so that the next query does not wait for it.
    page.wait_for_function("() => !document.querySelector('#search.busy')")
    return found, drawn


def _scrolled(page: "Page", seconds: float) -> Scrolling:
    page.wait_for_selector("#hits img.shown")
    page.wait_for_function("() => !document.querySelector('#search.busy')")
    page.wait_for_timeout(1500)
    told: dict[str, Any] = page.evaluate(_SCROLL, [seconds, _STEP_PX])
    frames = np.array(told["frames"])
    p50, p95, worst = np.percentile(frames, [50, 95, 100]).round(1).tolist()
    return Scrolling(
        len(frames),
        p50,
        p95,
        worst,
        nodes=told["nodes"],
        pixels=round(told["scrolled"]),
    )


def _watch_shifts(page: "Page") -> None:
    page.evaluate(
        """() => { window.moved = 0; new PerformanceObserver((list) => {
             for (const entry of list.getEntries())
               if (!entry.hadRecentInput) window.moved += entry.value;
           }).observe({ type: "layout-shift", buffered: true }); }"""
    )


def page_text(result: PageResult) -> str:
    """Write the result as a table."""
    lines = [f"{'from the last key, median and worst':<36} {'answer':>13} {'picture':>15}  ms"]
    for name, times in (("cold tokens", result.cold_ms), ("warm tokens", result.warm_ms)):
        figures = " ".join(
            f"{np.median(of):>8.0f} {max(of):>6.0f}" for of in zip(*times, strict=True)
        )
        lines.append(f"{name:<34} {figures}")
    lines.append(f"{'scrolling':<34} {'p50':>8} {'p95':>8} {'worst':>8} {'nodes':>8}  ms")
    for name, one in (("a search", result.search), (f"{result.hits:,} items", result.library)):
        if one is not None:
            figures = f"{one.p50_ms:>8.1f} {one.p95_ms:>8.1f} {one.worst_ms:>8.1f} {one.nodes:>8}"
            lines.append(f"{name:<34} {figures}")
    lines.append(f"layout shift at the start and while scrolling: {result.layout_shift:.4f}")
    return "\n".join(lines)

"""Check a light installation: run with its Python; it ends with the first thing that is wrong.

.ci/run installs one as the README says, without PyTorch, open_clip, timm, transformers and SciPy.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

PROGRAM = [sys.executable, "-c", "from api.cli import main; main()"]
LEFT_OUT = ("torch", "open_clip", "timm", "transformers", "scipy", "faiss")
MOST_MEGABYTES = 400
PATIENCE_S = 300


def check(fact: object, what: str) -> None:
    """End with a message unless a fact holds."""
    if not fact:
        sys.exit(f"light installation: {what}")


def run(*arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run mmsearch, and check its exit code."""
    words = [*PROGRAM, *map(str, arguments)]
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    printed = f"`mmsearch {' '.join(map(str, arguments))}` ended with {ended.returncode}"
    check(ended.returncode == code, f"{printed}\n{ended.stdout}{ended.stderr}")
    return ended


def search(*arguments: object) -> dict[str, Any]:
    """Search as JSON."""
    answer: dict[str, Any] = json.loads(run("search", *arguments, "--json").stdout)
    return answer


def draw_pictures(folder: Path) -> None:
    """Draw three pictures that differ."""
    folder.mkdir()
    for color in ("red", "green", "blue"):
        image = Image.new("RGB", (300, 200), "white")
        ImageDraw.Draw(image).ellipse((80, 40, 220, 180), fill=color)
        image.save(folder / f"{color}.png")


def check_service(library: Path) -> None:
    """Start the service and ask it once."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [*PROGRAM, "serve", "--library", str(library), "--port", str(port)]
    with subprocess.Popen(words, stderr=subprocess.DEVNULL) as service:
        try:
            wait_for(lambda: answers(port), "`mmsearch serve` does not get ready")
            body = json.dumps({"text": "a red circle", "k": 2}).encode()
            headers = {"Content-Type": "application/json"}
            address = f"http://127.0.0.1:{port}/v1/search"
            with urllib.request.urlopen(urllib.request.Request(address, body, headers)) as answer:
                hits = json.load(answer)["hits"]
            check(len(hits) == 2, f"the service answered with {len(hits)} hits, not 2")
        finally:
            service.send_signal(signal.SIGTERM)


def answers(port: int) -> bool:
    """Return whether the service can search."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def check_watch(photos: Path, library: Path) -> None:
    """Watch the folder, add a picture, and find it."""
    with subprocess.Popen(
        [*PROGRAM, "watch", str(photos), "--library", str(library)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as watcher:
        try:
            Image.new("RGB", (120, 90), "yellow").save(photos / "yellow.png")
            wait_for(
                lambda: any(
                    hit["path"].endswith("yellow.png")
                    for hit in search("yellow", "--rerank", "none", "--library", library)["hits"]
                ),
                "`mmsearch watch` does not index a new picture",
            )
        finally:
            watcher.send_signal(signal.SIGTERM)


def wait_for(happened: Any, what: str) -> None:
    """Wait until a function returns true; end with a message if it takes too long."""
    end = time.monotonic() + PATIENCE_S
    while not happened():
        check(time.monotonic() < end, what)
        time.sleep(0.2)


def main() -> None:
    """Check size, indexing, search, reranking, explanation, service and watching."""
    present = [name for name in LEFT_OUT if find_spec(name)]
    check(not present, f"{', '.join(present)} should not be installed")
    files = [entry.lstat() for entry in Path(sys.prefix).rglob("*") if not entry.is_symlink()]
    megabytes = sum(status.st_blocks for status in files) * 512 / (1 << 20)
    check(megabytes <= MOST_MEGABYTES, f"it takes {megabytes:.0f} MB, not {MOST_MEGABYTES}")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # away from the repository: what is installed counts
        photos, library = Path(folder, "photos"), Path(folder, "library")
        draw_pictures(photos)
        run("index", photos, "--library", library, "--encoder", "starter")
        alone = search("a red circle", "--rerank", "none", "--library", library)
        check(len(alone["hits"]) == 3, f"a search found {len(alone['hits'])} pictures of 3")
        reranked = search("a red circle", "--rerank", "cross-attention", "--library", library)
        matches = [hit["match"] for hit in reranked["hits"]]
        check(matches and None not in matches, f"reranking gave the matches {matches}")
        run("explain", "a red circle", photos / "red.png", "-o", "why.png", "--library", library)
        check(Path("why.png").exists(), "`mmsearch explain` wrote no heat map")
        check_service(library)
        check_watch(photos, library)
        told = run(
            *("index", photos, "--library", Path(folder, "other")),
            *("--encoder", "open_clip:ViT-B-32/openai"),
            code=1,
        ).stderr
        check("pip install" in told, f"a model of open_clip is refused without a remedy: {told}")
    print(f"light installation: {megabytes:.0f} MB, all well")


if __name__ == "__main__":
    main()

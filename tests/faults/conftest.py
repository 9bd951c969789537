"""What the fault tests share: many small photos, files of an hour ago, the real command line."""

import contextlib
import io
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

_OBEDIENT = """
import ctypes, os, sys
DROP, PASS_WRITE_AND_READ, PASS_READ = 24, 1, 2
if sys.platform == "linux":
    for capability in (PASS_WRITE_AND_READ, PASS_READ):
        ctypes.CDLL(None).prctl(DROP, capability, 0, 0, 0)
program = "from api.cli import main; main()"
os.execv(sys.executable, [sys.executable, "-c", program, *sys.argv[1:]])
"""
"""Becomes the command line without root's capabilities to pass over permissions."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.skipif(os.name != "posix", reason="signals, links, mounts"))


@pytest.fixture(scope="session")
def noise() -> Callable[..., bytes]:
    """Makes a picture of random noise: `noise(seed)` is a JPEG of 60 x 40 pixels."""

    def make(seed: int, kind: str = "JPEG", **options: object) -> bytes:
        pixels = np.random.default_rng(seed).integers(0, 256, (40, 60, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, kind, **options)
        return buffer.getvalue()

    return make


@pytest.fixture(scope="session")
def add_photos(noise: Callable[..., bytes]) -> Callable[[Path, int], set[str]]:
    """Writes so many small photos, JPEG and PNG in turn, into folders; gives their paths."""

    def add(folder: Path, count: int) -> set[str]:
        paths = set()
        for seed in range(count):
            kind = "PNG" if seed % 2 else "JPEG"
            path = folder / f"album {seed % 5}" / f"photo-{seed:04}.{kind.lower()}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(noise(seed, kind))
            paths.add(str(path))
        return paths

    return add


@pytest.fixture(scope="session")
def settle() -> Callable[[Path], None]:
    """Lets all files below a folder be an hour old: the times of fresh ones are not trusted."""

    def make_older(folder: Path) -> None:
        then = time.time() - 3600
        for place, _, names in os.walk(folder):
            for name in names:
                with contextlib.suppress(OSError):
                    os.utime(os.path.join(place, name), (then, then))  # noqa: PTH118

    return make_older


@pytest.fixture(scope="session")
def mmsearch() -> Callable[..., subprocess.Popen[str]]:
    """Starts the real command line in a process of its own, to which permissions apply.

    Root reads and writes everything, so the process gives up the capabilities to do so.
    """

    def start(library: Path, *arguments: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", _OBEDIENT, *map(str, arguments)],
            env=os.environ | {"MMSEARCH_LIBRARY": str(library), "COLUMNS": "200"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.fixture(scope="session")
def run_mmsearch(
    mmsearch: Callable[..., subprocess.Popen[str]],
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the real command line to its end."""

    def run(library: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
        with mmsearch(library, *arguments) as process:
            out, err = process.communicate(timeout=200)
        assert "Traceback" not in err
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    return run

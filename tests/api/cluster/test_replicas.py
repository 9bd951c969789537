"""A service of two shards by two replicas on Ray Serve, as its clients see it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from indexer.pipeline import index_sources
from retrieval.encoders.base import Encoder
from retrieval.library import create_library
from tests.conftest import REPOSITORY

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

_COLORS = {"red": (200, 30, 30), "green": (30, 180, 40), "blue": (40, 50, 210)}
_PICTURES = 45


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, starter: Encoder) -> dict[str, Any]:
    """What the service did in `scenario.py`, in a network with nothing but loopback."""
    pytest.importorskip("ray.serve", reason="needs Ray Serve: pip install 'mmsearch[cluster]'")
    apart = ["unshare", "-n", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    if not shutil.which("unshare") or subprocess.run([*apart, "true"], check=False).returncode:
        pytest.skip("needs `unshare -n` and `ip`, for a network of its own")
    folder = tmp_path_factory.mktemp("service")
    pictures = folder / "pictures"
    random = np.random.default_rng(0)
    for number in range(_PICTURES):
        name, color = list(_COLORS.items())[number % 3]
        path = pictures / f"{number % 4}" / f"{name} picture {number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = random.integers(0, 40, (40, 50 + number, 3)) + np.array(color)
        Image.fromarray(noise.clip(0, 255).astype(np.uint8)).save(path)
    library = create_library(folder / "library", starter.space)
    index_sources(library, starter, [pictures])
    library.close()
    script = str(Path(__file__).with_name("scenario.py"))
    done = subprocess.run(
        [*apart, sys.executable, script, str(folder / "library"), str(folder / "shards")],
        capture_output=True,
        text=True,
        # What else runs on the machine may fill its memory: Ray would end replicas for it.
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "RAY_memory_monitor_refresh_ms": "0"},
        timeout=850,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_answers_are_those_of_one_library(told: dict[str, Any]) -> None:
    assert told["differing"] == []


def test_items_are_answered_by_their_shards(told: dict[str, Any]) -> None:
    assert told["thumbnails"] == [200, 200]
    assert told["same_thumbnail"]
    assert told["link"] == "/v1/items/3/file"
    assert told["stats"] == _PICTURES


def test_what_shards_do_not_do_is_said(told: dict[str, Any]) -> None:
    assert told["refused"] == [501, 501]


def test_a_lost_replica_loses_no_answer(told: dict[str, Any]) -> None:
    for answers in told["killed"]:
        assert answers.keys() == {"right"}
        assert answers["right"] > 0


def test_replicas_are_replaced_one_by_one(told: dict[str, Any]) -> None:
    assert told["updated"].keys() == {"right"}
    assert told["replaced"] == [6, 0]
    assert told["after"] == []

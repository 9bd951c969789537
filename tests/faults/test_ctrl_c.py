"""Ctrl-C at the real command line: the batch is finished, and the same command goes on."""

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from retrieval.library import open_library

pytestmark = pytest.mark.slow

PHOTOS = 200


def test_the_batch_is_finished_and_the_same_command_goes_on(
    tmp_path: Path,
    tiny_checkpoint: Path,
    add_photos: Callable[[Path, int], set[str]],
    settle: Callable[[Path], None],
    mmsearch: Callable[..., object],
    run_mmsearch: Callable[..., object],
) -> None:
    folder, where = tmp_path / "folder", tmp_path / "library"
    photos = add_photos(folder, PHOTOS)
    settle(folder)
    command = ("index", folder, "--encoder", f"local-dir:{tiny_checkpoint}", "--batch-size", 4)
    with mmsearch(where, *command) as process:
        while not list(where.glob("spaces/*/image.f16")):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Finishing the current batch" in err
    assert "run the same command again to continue" in err
    assert "Traceback" not in err

    def found() -> set[str]:
        return {hit.path for hit in open_library(where).search("anything", k=10_000)}

    committed = found()
    assert 0 < len(committed) < PHOTOS
    resumed = run_mmsearch(where, *command, "--json")
    assert resumed.returncode == 0
    summary = json.loads(resumed.stdout)
    assert (summary["unchanged"], summary["added"]) == (len(committed), PHOTOS - len(committed))
    assert found() == photos

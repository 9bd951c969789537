"""Kills of index, watch, remove, build-index and backup at random moments; see `random_kills.py`.

`MMSEARCH_TEST_KILLS` sets their number, `MMSEARCH_TEST_SEED` what is drawn.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

KILLS = int(os.environ.get("MMSEARCH_TEST_KILLS", "15"))
SECONDS = 60 + 15 * KILLS
SEED = int(os.environ.get("MMSEARCH_TEST_SEED", "0"))

pytestmark = [pytest.mark.slow, pytest.mark.timeout(SECONDS + 300)]

PROGRAM = Path(__file__).with_name("random_kills.py")


def test_nothing_acknowledged_is_lost_and_nothing_doubled(tmp_path):
    pytest.importorskip("faiss", reason="builds indices")
    done = subprocess.run(
        [sys.executable, PROGRAM, tmp_path, str(KILLS), str(SECONDS), str(SEED)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=False,
        capture_output=True,
        text=True,
        timeout=SECONDS + 250,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    report = json.loads(done.stdout)
    assert report["findings"] == []
    assert sum(report["kills"].values()) > KILLS / 2
    assert report["checks"]["completed"] > 1

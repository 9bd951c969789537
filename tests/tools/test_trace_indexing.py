"""The way of a file stays short: a bound on what a JPEG passes until it has its row."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[2]
MOST_MODULES = 47


@pytest.mark.slow
def test_a_jpeg_passes_few_modules_to_its_row(tmp_path):
    photo = tmp_path / "photo.jpg"
    exif = Image.Exif()
    exif[0x010E] = "A dog on a beach"
    Image.new("RGB", (300, 200), "red").save(photo, exif=exif)
    printed = subprocess.run(
        [sys.executable, "-m", "tools.trace_indexing", str(photo)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found = re.fullmatch(r"(\d+) modules, \d+ functions", printed.splitlines()[-1])
    assert "to_rgb" in printed
    assert "Transaction.record_files" in printed
    assert int(found[1]) <= MOST_MODULES, printed

"""The manual page is what the commands say, and manuals can show it."""

import shutil
import subprocess

import pytest

from api.cli.program import COMMANDS
from tools.man_page import PAGE, man_page


@pytest.fixture(scope="module")
def page() -> str:
    return man_page()


def test_the_page_is_up_to_date(page):
    """Run `python -m tools.man_page` after a change of the help."""
    assert PAGE.read_text(encoding="utf-8") == page


def test_all_commands_and_options_are_there(page):
    for name in COMMANDS:
        assert f".SS mmsearch {name}".replace("-", r"\-") in page
    assert r"\-\-rerank\-depth" in page
    assert "`" not in page


def test_manuals_show_it(page):
    if not (groff := shutil.which("groff")):
        pytest.skip("groff is not installed")
    command = [groff, "-man", "-Tutf8", "-ww", "-z"]
    shown = subprocess.run(command, input=page, text=True, capture_output=True, check=False)
    assert (shown.returncode, shown.stderr) == (0, "")

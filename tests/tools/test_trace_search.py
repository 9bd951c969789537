"""The way of a query stays short: bounds on what a warm search through the service passes."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
MOST_MODULES = 34
MOST_FUNCTIONS = 170


@pytest.mark.slow
def test_a_search_passes_few_modules_and_functions(indexed_library):
    # As of a library at rest: what was written only just now is looked at again.
    os.utime(indexed_library.space_directory(indexed_library.space()), (0, 0))
    printed = subprocess.run(
        [sys.executable, "-m", "tools.trace_search", str(indexed_library.path)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    *modules, total = printed.splitlines()
    found = re.fullmatch(r"(\d+) modules, (\d+) functions", total)
    assert "Engine.search_many" in printed
    assert int(found[1]) == len(modules) <= MOST_MODULES, printed
    assert int(found[2]) <= MOST_FUNCTIONS, printed

"""What tests of several modules of the indexer make."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def make():
    """Make files with one byte each, and their folders."""

    def make_files(root: Path, *names: str) -> None:
        for name in names:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")

    return make_files

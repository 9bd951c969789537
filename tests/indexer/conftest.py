"""What tests of several modules of the indexer make."""

import os
from contextlib import contextmanager
from pathlib import Path

import pytest

from retrieval.media.registry import kind_of


@pytest.fixture(scope="session")
def make():
    """Make files with one byte each, and their folders."""

    def make_files(root: Path, *names: str) -> None:
        for name in names:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")

    return make_files


@pytest.fixture(scope="session")
def without_privileges():
    """Root reads everything, so be somebody else for a while."""

    @contextmanager
    def be_somebody_else():
        kind_of("a.jpg")  # somebody else may not be able to import what this does
        uid = os.geteuid()
        if uid == 0:
            os.seteuid(65_534)
        try:
            yield
        finally:
            os.seteuid(uid)

    return be_somebody_else

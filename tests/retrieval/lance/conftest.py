"""A space and files for tables of tests."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from retrieval.catalog import FileEntry, ItemEntry
from retrieval.encoders.base import Encoder, Space
from retrieval.lance.records import StoredFile, StoredItem, stored_file
from retrieval.library import Library
from retrieval.media import MediaKind, Metadata, Modality
from tests.rich_library import rich_library


@pytest.fixture(scope="session")
def space() -> Space:
    return Space("toy", "sha256:0", "none", 8)


@pytest.fixture(scope="session")
def make_file() -> Callable[..., StoredFile]:
    """A function that makes a file of some parts, with vectors by path and seed."""

    def make(path: str, parts: int = 1, *, seed: int = 0, **known: object) -> StoredFile:
        generator = np.random.default_rng([seed, *path.encode("utf-8", "surrogateescape")])
        vectors = generator.normal(size=(parts, 8)).astype(np.float16)
        items = [
            StoredItem(
                ItemEntry(
                    Modality.IMAGE,
                    -1,
                    part=f"p{number}" if parts > 1 else "",
                    width=3,
                    height=4,
                    columns={"n": number},
                ),
                vector,
            )
            for number, vector in enumerate(vectors)
        ]
        metadata = Metadata(camera="Canon", text="ein Hund", columns={"rating": 5})
        entry = FileEntry(path, MediaKind.IMAGE, 10, 5_000_000_000, f"{seed}-{path[-3:]}", metadata)
        return stored_file(entry, items, **known)

    return make


@pytest.fixture
def rich(tmp_path: Path, tiny_encoder: Encoder) -> Library:
    """A library that holds something of everything."""
    return rich_library(tmp_path / "photos", tmp_path / "library", tiny_encoder)


@pytest.fixture(scope="session")
def unit_file(make_file: Callable[..., StoredFile]) -> Callable[..., StoredFile]:
    """As `make_file`, with vectors of unit length."""

    def make(path: str, parts: int = 1, **known: object) -> StoredFile:
        file = make_file(path, parts, **known)
        items = []
        for item in file.items:
            vector = item.vector.astype(np.float32)
            items.append(
                dataclasses.replace(item, vector=(vector / np.linalg.norm(vector)).astype("f2"))
            )
        return dataclasses.replace(file, items=items)

    return make

"""Make a large library whose files do not exist, through the catalog's own transactions."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.catalog import FileEntry, FileUpdate, ItemEntry
from retrieval.encoders.base import Space
from retrieval.library import Library, create_library
from retrieval.media import MediaKind, Metadata, Modality

DIMENSION = 64
SPACE = Space("benchmark", "none", "random unit vectors", DIMENSION)

ROOT = "/photos"
PLACES = (
    *("paris", "berlin", "rome", "london", "vienna", "prague", "lisbon", "oslo", "tokyo", "kyoto"),
    *("beijing", "shanghai", "sydney", "home", "garden", "lake", "mountains", "beach", "work"),
    "misc",
)
MAKERS = ("Canon", "Nikon", "Sony", "FUJIFILM", "Apple", "Panasonic")
CAMERAS = tuple(f"{MAKERS[n % len(MAKERS)]} Model {n // len(MAKERS) + 1}" for n in range(30))
WORDS = (
    *("dog", "child", "man", "woman", "street", "water", "snow", "grass", "bike", "ball", "tree"),
    *("boat", "house", "red", "blue", "green", "small", "old", "happy", "running", "jumping"),
    *("sitting", "birthday", "wedding", "sunset", "train", "bridge", "market", "flower", "cat"),
)
FIRST_YEAR, YEARS = 2008, 15
ALBUMS = ("family", "travel", "work", "friends", "nature")

_SECONDS_A_YEAR = 31_556_952
_START = 1_199_145_600
_BATCH = 5000
_ROW_BATCH = 65_536
_ENDINGS = {
    MediaKind.IMAGE: "jpg",
    MediaKind.VIDEO: "mp4",
    MediaKind.DOCUMENT: "pdf",
}


@dataclass(frozen=True)
class _Drawn:
    """Random choices for all files, an array each."""

    taken_at: Any
    camera: Any
    place: Any
    kind: Any
    has_gps: Any
    words: Any
    rating: Any


def make_library(
    path: Path,
    items: int,
    *,
    seed: int = 0,
    on_progress: Callable[[str, int, int], None] = lambda *_: None,
) -> Library:
    """Make a library of `items` images, frames and pages, one a file, with random unit vectors.

    Folders go by year and place; cameras have a long tail; dates lie in 15 years; half of the files
    have a GPS position, a third a row in a table with an album, a rating and a caption.

    Args:
        path: directory for the library, new or empty.
        items: number of items.
        seed: of everything that is drawn.
        on_progress: called with a stage, the number done and the total.

    Raises:
        UsageError: the directory has other files.
        LibraryError: it cannot be written.
    """
    library = create_library(path, SPACE)
    generator = np.random.default_rng(seed)
    drawn = _draw(generator, items)
    embeddings = library.embeddings(SPACE, Modality.IMAGE)
    with library.writer():
        for first in range(0, items, _ROW_BATCH):
            size = min(_ROW_BATCH, items - first)
            vectors = generator.standard_normal((size, DIMENSION), dtype=np.float32)
            embeddings.write(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), first)
        for first in range(0, items, _BATCH):
            numbers = range(first, min(first + _BATCH, items))
            with library.catalog.transaction() as transaction:
                if first == 0:
                    transaction.add_sources({ROOT: None})
                transaction.extend_rows(SPACE.id, Modality.IMAGE, first, len(numbers))
                updates = [_update(number, drawn) for number in numbers]
                transaction.record_files(SPACE.id, [*updates, _table(numbers, drawn)])
            on_progress("files", numbers[-1] + 1, items)
    return library


def _draw(generator: np.random.Generator, items: int) -> _Drawn:
    tail = 1 / np.arange(1, len(CAMERAS) + 1) ** 1.3
    kinds = [MediaKind.IMAGE, MediaKind.VIDEO, MediaKind.DOCUMENT]
    return _Drawn(
        taken_at=_START + np.sort(generator.integers(0, YEARS * _SECONDS_A_YEAR, items)),
        camera=generator.choice(len(CAMERAS), items, p=tail / tail.sum()),
        place=generator.integers(0, len(PLACES), items),
        kind=generator.choice(np.array(kinds, dtype=object), items, p=[0.95, 0.04, 0.01]),
        has_gps=generator.random(items) < 0.5,
        words=generator.integers(0, len(WORDS), (items, 3)),
        rating=generator.integers(1, 6, items),
    )


def _path(number: int, drawn: _Drawn) -> str:
    year = FIRST_YEAR + int(drawn.taken_at[number] - _START) // _SECONDS_A_YEAR
    place, ending = PLACES[drawn.place[number]], _ENDINGS[drawn.kind[number]]
    return f"{ROOT}/{year}/{place}/IMG_{number:07}.{ending}"


def _update(number: int, drawn: _Drawn) -> FileUpdate:
    kind = drawn.kind[number]
    latitude, longitude = float(number % 120 - 60), float(number % 340 - 170)
    has_gps = bool(drawn.has_gps[number])
    metadata = Metadata(
        # Every tenth has no date of its own.
        None if number % 10 == 0 else int(drawn.taken_at[number]),
        None if kind is MediaKind.DOCUMENT else CAMERAS[drawn.camera[number]],
        latitude if has_gps else None,
        longitude if has_gps else None,
        text=" ".join(WORDS[word] for word in drawn.words[number]),
    )
    mtime_ns = int(drawn.taken_at[number]) * 1_000_000_000
    content = f"{number:032x}"
    file = FileEntry(_path(number, drawn), kind, 3_000_000 + number, mtime_ns, content, metadata)
    return FileUpdate(file, [ItemEntry(Modality.IMAGE, number, "", 4000, 3000)])


def _table(numbers: range, drawn: _Drawn) -> FileUpdate:
    """Make a table that says something of every third file."""
    number = numbers[0]
    name = f"{ROOT}/tables/{number:07}.csv"
    file = FileEntry(name, MediaKind.TABLE, 100_000, number * 10**9, f"table {number}")
    return FileUpdate(
        file,
        annotations=[
            (
                _path(number, drawn),
                {
                    "album": ALBUMS[number % 7 % len(ALBUMS)],
                    "rating": int(drawn.rating[number]),
                    "caption": " ".join(WORDS[word] for word in drawn.words[number][::-1]),
                },
            )
            for number in numbers[::3]
        ],
    )

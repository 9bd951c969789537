"""A small library with everything that one can hold, for tests that compare libraries."""

import csv
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from indexer.pipeline import index_sources
from retrieval.catalog import Item
from retrieval.encoders.base import Encoder
from retrieval.library import Library, create_library
from retrieval.media import Modality

_PLACES = {"Berlin": (52.0, 31.0, 12.0, 13.0, 24.0, 18.0), "Rome": (41.0, 54.0, 0.0, 12.0, 30.0, 0)}


def write_rich_folder(folder: Path, *, seed: int = 0, pictures: int = 12) -> None:
    """Write pictures with and without EXIF, pages, copies, texts, tables, broken and odd files."""
    generator = np.random.default_rng(seed)

    def noise(size: tuple[int, int] = (60, 40)) -> Image.Image:
        width, height = size
        return Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8))

    below = ["2018/Rome", "2019/Paris beach", "camera", "dogs"]
    for name in below:
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number in range(pictures):
        exif = Image.Exif()
        if number % 3 == 0:
            exif[0x010E] = f"A dog number {number} in the snow"
            exif[0x0110] = ["FUJIFILM X-T3", "Canon EOS"][number % 2]
            exif.get_ifd(0x8769)[0x9003] = f"202{number % 5}:07:{number + 1:02}:12:00:00"[:19]
            degrees = _PLACES[["Berlin", "Rome"][number % 2]]
            gps = {1: "N", 2: degrees[:3], 3: "E", 4: degrees[3:]}
            exif.get_ifd(0x8825).update(gps)
        size = (60 + 10 * (number % 4), 40 + 5 * (number % 3))
        path = folder / below[number % len(below)] / f"IMG_{seed}_{number:03}.jpg"
        noise(size).save(path, exif=exif)
    first = folder / below[0] / f"IMG_{seed}_000.jpg"
    (folder / "dogs" / f"copy{seed}.jpg").write_bytes(first.read_bytes())
    pages = [noise() for _ in range(3)]
    pages[0].save(folder / f"pages{seed}.tif", save_all=True, append_images=pages[1:])
    (folder / f"notes{seed}.txt").write_text(
        "\n\n".join(
            f"Paragraph {n}: the sea near Rome, {n * 7} boats and a dog." for n in range(20)
        )
    )
    (folder / f"empty{seed}.txt").write_text("")
    (folder / f"broken{seed}.jpg").write_bytes(b"\xff\xd8\xff\xe0 not a picture")
    torn = (folder / "dogs" / f"copy{seed}.jpg").read_bytes()
    (folder / f"torn{seed}.jpg").write_bytes(torn[: len(torn) * 2 // 3])
    noise().save(os.fsdecode(os.fsencode(folder) + f"/odd{seed}-".encode() + b"\xff.png"))
    with (folder / f"captions{seed}.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "caption", "stars", "tags"])
        for number in range(0, pictures, 2):
            name = f"{below[number % len(below)]}/IMG_{seed}_{number:03}.jpg"
            rows.writerow([name, f"a red boat {number}", number % 6, "sea;Boat"])
            rows.writerow([name, f"second words {number}", number % 6, "x"])
    with (folder / f"table{seed}.jsonl").open("w") as table:
        for number in range(5):
            record: dict[str, Any] = {"text": f"Row {number} of a table about whales", "n": number}
            table.write(json.dumps(record | {"ok": number % 2 == 0, "list": ["a", number]}) + "\n")

    set_times(folder)


def set_times(folder: Path) -> None:
    """Let no file be as new as now: its time is not trusted then, and it has no date."""
    moment = 1_650_000_000
    for number, path in enumerate(sorted(folder.rglob("*"))):
        if path.is_file():
            os.utime(path, (moment, moment + 86_400 * (number % 50)))


def rich_library(folder: Path, directory: Path, encoder: Encoder, **options: Any) -> Library:
    """Index a rich folder; hide an item of it, and collect three."""
    write_rich_folder(folder, **options)
    library = create_library(directory, encoder.space)
    index_sources(library, encoder, [folder], workers=1)
    collect(library)
    return library


def collect(library: Library) -> None:
    """Hide a picture, and collect three: always the same ones, by their paths."""
    space_id = library.space().id
    with library.catalog.transaction() as transaction:
        if "Holidays" not in [one.name for one in transaction.collections()]:
            transaction.create_collection("Holidays")
        pictures = transaction.items(space_id, modality=Modality.IMAGE, limit=1000)
        ids = [item.id for item in sorted(pictures, key=lambda item: (item.path, item.part))]
        transaction.hide_items([i for i in ids if i in _with_name(pictures, "IMG_0_008")])
        chosen = [i for i in ids if i in _with_name(pictures, "IMG_0_000", "pages0", "odd0")]
        transaction.collect(transaction.id_of_collection("Holidays"), chosen)


def _with_name(items: list[Item], *parts: str) -> set[int]:
    return {item.id for item in items if any(part in item.path for part in parts)}


def contents_of(library: Library, space_id: str | None = None) -> dict[str, Any]:
    """All that a library holds in a space, by path; but for the numbers of items and rows."""
    space = library.space(space_id)
    with library.catalog.snapshot() as snapshot:
        _, files = snapshot.stored_files(space.id, limit=1_000_000)
        rows = {
            modality: library.embeddings(space, modality).rows(
                snapshot.row_count(space.id, modality)
            )
            for modality in Modality
        }
        sources = snapshot.source_options()
    found: dict[str, Any] = {"sources": sources}
    for file in files:
        items = {
            (item.entry.modality, item.entry.part): (
                replace(item.entry, row=-1),
                rows[item.entry.modality][item.entry.row].tobytes(),
                item.hidden,
                item.collections,
            )
            for item in file.items
        }
        known = file.file if file.failure is None else file.file.path
        found[file.file.path] = (known, items, replace(file, file=None, items=()))
    return found

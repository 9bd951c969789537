"""Copies of a library, each with one file damaged: every damage is told, healed or without effect.

`MMSEARCH_TEST_DAMAGED` sets the number of copies; by default a few of each file.
"""

import os
import random
import shutil
from pathlib import Path

import pytest

from indexer.pipeline import hide_files, index_sources
from indexer.repair import repair
from retrieval.errors import MMSearchError
from retrieval.integrity.check import check_library
from retrieval.library import create_library, open_library
from retrieval.search.engine import Engine
from retrieval.search.query import Query, TextPart

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

COPIES = int(os.environ.get("MMSEARCH_TEST_DAMAGED", "40"))
QUERIES = ("picture-1", "a red circle on the sea")


@pytest.fixture(scope="module")
def good(tmp_path_factory, tiny_encoder):
    """A library of noise, with its catalog in one file, as after its last reader has closed it."""
    import numpy as np
    from PIL import Image

    root = tmp_path_factory.mktemp("good")
    generator = np.random.default_rng(0)
    (root / "photos").mkdir()
    for number in range(40):
        pixels = generator.integers(0, 256, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "photos" / f"picture-{number}.png")
    library = create_library(root / "library", tiny_encoder.space)
    index_sources(library, tiny_encoder, [root / "photos"])
    library.close()
    assert not list(library.path.glob("*-wal"))
    return library.path


def answers(path, encoder):
    """What searches find, and whether they warn of anything but weak hits."""
    library = open_library(path)
    try:
        engine = Engine(library, device="cpu")
        engine._encoder = encoder
        found = [engine.search(Query((TextPart(text),), k=40)) for text in QUERIES]
        hits = [[(h.path, round(float(h.similarity), 3)) for h in one.hits] for one in found]
        said = any("damaged" in w or "missing" in w for one in found for w in one.warnings)
        return hits, said
    finally:
        library.close()


def damage(file: Path, chance: random.Random) -> str:
    content = bytearray(file.read_bytes())
    kind = chance.choice(["gone", "empty", "cut", "zeros", "flip", "flip", "byte", "tail"])
    at = chance.randrange(max(1, len(content)))
    if kind == "gone":
        file.unlink()
        return kind
    if kind == "empty":
        content = bytearray()
    elif kind == "cut":
        del content[at:]
    elif kind == "zeros":
        content[at : at + 512] = bytes(len(content[at : at + 512]))
    elif kind == "tail":
        content += bytes(chance.randrange(1, 5000))
    elif content:
        content[at] = content[at] ^ (1 << chance.randrange(8)) if kind == "flip" else 255 - at % 256
    file.write_bytes(content)
    return f"{kind} at {at}"


def test_no_damage_is_answered_from_silently(good, tmp_path, tiny_encoder):
    names = sorted(
        file.relative_to(good)
        for file in good.rglob("*")
        if file.suffix in {".f16", ".xxh3", ".toml"}
    )
    expected, _ = answers(good, tiny_encoder)
    chance = random.Random(0)
    silent = []
    for number in range(COPIES):
        name = names[number % len(names)]
        copy = Path(shutil.copytree(good, tmp_path / "copy"))
        what = damage(copy / name, chance)
        try:
            hits, said = answers(copy, tiny_encoder)
        except MMSearchError:
            pass  # told
        else:
            if hits != expected and not said:
                silent.append(f"{name}: {what}")
        shutil.rmtree(copy)
    assert silent == []


def test_damaged_catalogs_are_told_or_found_by_a_check(good, tmp_path, tiny_encoder):
    """A search may miss a byte in a catalog, since it does not read all of it; a check may not."""
    expected, _ = answers(good, tiny_encoder)
    chance = random.Random(1)
    silent = []
    for number in range(max(20, COPIES // 2)):
        copy = Path(shutil.copytree(good, tmp_path / "copy"))
        what = damage(copy / "catalog.sqlite", chance)
        try:
            hits, said = answers(copy, tiny_encoder)
            library = open_library(copy)
            report = check_library(library)
            library.close()
        except MMSearchError:
            pass  # told
        else:
            is_longer = what.startswith("tail")  # zeros behind the last page: of no effect
            if (hits != expected and not said and report.is_whole) or (
                report.is_whole and not is_longer and "zeros" not in what
            ):
                silent.append(f"{number}: {what}")
        shutil.rmtree(copy)
    assert silent == []


@pytest.fixture(scope="module")
def in_use(good, tmp_path_factory, tiny_encoder):
    """A copy of a library that is open, whose last changes are in the write-ahead log alone."""
    root = tmp_path_factory.mktemp("in use")
    shutil.copytree(good, root / "open")
    library = open_library(root / "open")
    paths = sorted((good.parent / "photos").iterdir())
    for path in paths[:10]:
        hide_files(library, [str(path)])
    shutil.copytree(root / "open", root / "library")
    library.close()
    assert (root / "library" / "catalog.sqlite-wal").stat().st_size > 0
    return root / "library"


def test_a_damaged_write_ahead_log_is_told(in_use, tmp_path, tiny_encoder):
    """SQLite leaves out all that comes after the damage, and says nothing."""
    expected, said = answers(Path(shutil.copytree(in_use, tmp_path / "whole")), tiny_encoder)
    assert not said
    assert len(expected[0]) == 30
    chance = random.Random(3)
    silent, told = [], 0
    for number in range(max(20, COPIES // 4)):
        copy = Path(shutil.copytree(in_use, tmp_path / "copy"))
        what = damage(copy / "catalog.sqlite-wal", chance)
        (copy / "catalog.sqlite-shm").unlink(missing_ok=True)
        try:
            hits, said = answers(copy, tiny_encoder)
        except MMSearchError:
            told += 1
        else:
            told += said
            if hits != expected and not said:
                silent.append(f"{number}: {what}")
        shutil.rmtree(copy)
    assert silent == []
    assert told > 5


def test_damaged_vectors_are_repaired(good, tmp_path, tiny_encoder):
    expected, _ = answers(good, tiny_encoder)
    [name] = [file.relative_to(good) for file in good.rglob("image.f16")]
    chance = random.Random(2)
    for number in range(max(3, COPIES // 10)):
        copy = Path(shutil.copytree(good, tmp_path / str(number)))
        damage(copy / name, chance)
        library = open_library(copy)
        repair(library, check_library(library), lambda _id: tiny_encoder)
        assert check_library(library).is_whole
        library.close()
        hits, said = answers(copy, tiny_encoder)
        assert not said
        # Sums come in another order in another batch, so that near ties may change places.
        for found, before in zip(hits, expected, strict=True):
            assert dict(found) == pytest.approx(dict(before), abs=2e-3)

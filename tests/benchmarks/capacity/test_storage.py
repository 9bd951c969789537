"""Bytes that plans foresee, and those of real libraries."""

import numpy as np
import pytest
from PIL import Image

from api.http.files import ItemFiles
from api.http.schemas.items import ThumbnailSize
from api.http.thumbnails import thumbnail
from benchmarks.capacity.index_cost import faiss_bytes, rabitq_bytes
from benchmarks.capacity.records import CACHE, DISK, MEMORY, READ, STORED, Wanted
from benchmarks.capacity.storage import catalog_bytes, index_kinds, thumbnail_bytes
from benchmarks.catalog.library_maker import make_library
from indexer.pipeline import index_sources
from retrieval.indices.build import BuildOptions, build
from retrieval.integrity.storage import measure_storage
from retrieval.library import create_library
from retrieval.media import Modality


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def by_name(plan):
    return {(one.place, one.name): one.bytes for one in plan.bytes}


def test_a_library_of_one_machine_is_its_directory(planned):
    found = by_name(planned(10**6))
    assert found[STORED, "vectors"] == 10**6 * 512 * 2
    assert found[STORED, "index"] == found[MEMORY, "index"] == faiss_bytes(10**6, 512)
    assert not [name for place, name in found if place == DISK]


def test_a_larger_one_is_a_table_with_copies(planned):
    plan = planned(10**9)
    found, replicas = by_name(plan), plan.serving.replicas
    assert found[STORED, "vectors"] == found[CACHE, "vectors in memory"] == 10**9 * 512 * 2
    assert found[DISK, "copies of the vectors"] == replicas * found[STORED, "vectors"]
    assert found[DISK, "index"] == found[MEMORY, "index"]
    assert (STORED, "index of the table") in found
    assert found[DISK, "copies of the catalog"] > replicas * found[STORED, "catalog"]
    assert found[READ, "originals"] == pytest.approx(10**9 * plan.image.file_bytes)
    assert by_name(planned(10**9, image_bytes=5e6))[READ, "originals"] == pytest.approx(5e15)
    assert len(index_kinds(plan)) == 4


def test_thumbnails_grow_with_their_side():
    assert thumbnail_bytes(160) < thumbnail_bytes(320) < 4 * thumbnail_bytes(160)
    assert thumbnail_bytes(256) == pytest.approx(13_000, rel=0.05)


def photos(folder, count, rng):
    """Pictures with structure at all scales, as photos have: noise at halved sizes, added up."""
    folder.mkdir(parents=True)
    for number in range(count):
        picture = Image.new("RGB", (400, 300))
        for size in (4, 8, 16, 32, 64):
            noise = Image.frombytes("RGB", (size, size), rng.bytes(3 * size * size))
            noise = noise.resize(picture.size, Image.Resampling.BICUBIC)
            picture = Image.blend(picture, noise, 0.35)
        picture.save(folder / f"{number:04}.jpg", quality=90)


@pytest.mark.slow
def test_a_real_library_takes_what_is_foreseen(planned, tmp_path, tiny_encoder, rng):
    """Vectors exactly; thumbnails within a factor of two, since pictures differ."""
    photos(tmp_path / "photos", 60, rng)
    library = create_library(tmp_path / "library", tiny_encoder.space)
    index_sources(library, tiny_encoder, [tmp_path / "photos"])
    with library.catalog.snapshot() as snapshot:
        items = [snapshot.item(number) for number in range(1, 61)]
    files = ItemFiles(library)
    for item in items:
        thumbnail(library, files, item, ThumbnailSize.SMALL)
    real = measure_storage(library)
    plan = by_name(planned(60, encoder="ViT-B-32", dimension=32, thumbnails=320))
    file = library.embeddings(tiny_encoder.space, Modality.IMAGE)
    assert file.path.stat().st_size == plan[STORED, "vectors"] == 60 * 32 * 2
    assert plan[STORED, "thumbnails"] / 2 < real.thumbnails < plan[STORED, "thumbnails"] * 2
    library.close()


@pytest.mark.slow
def test_a_real_catalog_takes_what_is_foreseen(tmp_path):
    """Within a third, counted between two sizes: an empty database has pages, too."""
    sizes = {}
    for items in (2_000, 6_000):
        library = make_library(tmp_path / str(items), items, seed=0)
        library.catalog.close()
        sizes[items] = measure_storage(library).catalog
    a_file = (sizes[6_000] - sizes[2_000]) / 4_000
    assert a_file == pytest.approx(catalog_bytes(Wanted(1)), rel=1 / 3)


@pytest.mark.slow
def test_a_real_index_of_a_table_takes_what_is_foreseen(tmp_path, rng):
    """Within a fifth: ids are packed."""
    lance = pytest.importorskip("lance", reason="tables need the extra cluster")
    pa = pytest.importorskip("pyarrow")
    rows, dimension = 20_000, 256
    vectors = rng.normal(size=(rows, dimension)).astype(np.float16)
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), dimension)
    table = lance.write_dataset(pa.table({"vector": column}), tmp_path / "table.lance")
    table.create_index("vector", "IVF_RQ", num_bits=1, num_partitions=3, metric="cosine")
    files = [file for file in (tmp_path / "table.lance" / "_indices").rglob("*") if file.is_file()]
    real = sum(file.stat().st_size for file in files)
    assert real == pytest.approx(rabitq_bytes(rows, dimension), rel=0.2)


@pytest.mark.slow
def test_a_real_index_takes_what_is_foreseen(tmp_path, rng):
    """Within a tenth: 60,000 vectors of 64 dimensions, built as libraries build theirs."""
    rows = rng.normal(size=(60_000, 64))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)
    generation = build(
        tmp_path,
        Modality.IMAGE,
        rows,
        dict,
        memory_bytes=10**10,
        options=BuildOptions(force=True),
    )
    assert generation.size == pytest.approx(faiss_bytes(60_000, 64), rel=0.1)

"""What ways to search vectors are measured on: rows, queries of two modalities, true neighbours."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

from benchmarks.datasets import RetrievalDataset
from benchmarks.quality.embedding_cache import EmbeddingCache
from benchmarks.vectors.synthetic_vectors import PROFILES, SyntheticVectors
from retrieval.embeddings import Rows
from retrieval.encoders.base import Encoder, Vectors
from retrieval.errors import UsageError
from retrieval.indices.exact import nearest
from retrieval.media import Modality

MODALITIES = (Modality.IMAGE, Modality.TEXT)
TRUTH_DEPTH = 100
_HELD_OUT = 8
"""One in this number of real photos is a query and none of the rows."""


@dataclass(frozen=True, eq=False)
class Workload:
    """A folder with image rows, queries and what exact search finds for them.

    rows: (n, d) float16, memory-mapped.
    """

    folder: Path
    name: str
    rows: Rows

    def queries(self) -> dict[Modality, Vectors]:
        """(q, d) float32 unit queries of each modality; images among them are none of the rows."""
        return {kind: np.load(self.folder / f"{kind}-queries.npy") for kind in MODALITIES}

    def truth(self) -> dict[Modality, NDArray[np.int64]]:
        """Find the nearest rows, (q, 100) int64, best first, -1 past the number of rows."""
        return {kind: np.load(self.folder / f"{kind}-truth.npy") for kind in MODALITIES}


def open_workload(folder: Path) -> Workload:
    """Open a folder that was written by one of the functions below."""
    told = json.loads((folder / "workload.json").read_text())
    shape = (told["rows"], told["dimension"])
    return Workload(
        folder, told["name"], np.memmap(folder / "rows.f16", np.float16, mode="r", shape=shape)
    )


def synthetic_workload(
    folder: Path, profile: str, rows: int, *, dimension: int = 512, queries: int = 1000, seed: int
) -> Workload:
    """Generate rows and queries, or open what an earlier run generated in the folder.

    Image queries are held out, text queries belong to the first rows.

    Args:
        folder: of all workloads; this one gets a folder in it.
        profile: a key of `PROFILES`.
        rows: number of rows.
        dimension: of the vectors.
        queries: number of queries per modality.
        seed: of the generator.
    """
    name = f"{profile}-{rows}x{dimension}-{queries}-seed{seed}"
    vectors = SyntheticVectors(PROFILES[profile], dimension=dimension, seed=seed)
    # A check row tells data of another version of the generator.
    folder = folder / f"{name}-{xxhash.xxh3_64_hexdigest(vectors.texts(1).tobytes())}"
    if (folder / "workload.json").exists():
        return open_workload(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = vectors.write(folder / "rows.f16", rows)
    asked = {"image": vectors.images(queries, held_out=True), "text": vectors.texts(queries)}
    return _finish(folder, name, written, asked)


def dataset_workload(
    folder: Path,
    data: RetrievalDataset,
    encoder: Encoder,
    cache: EmbeddingCache,
    *,
    queries: int = 1000,
    on_progress: Callable[[str, int, int], None] = lambda *_: None,
) -> Workload:
    """Embed a dataset's photos and captions. One photo in eight is a query instead of a row.

    Args:
        folder: of all workloads; this one gets a folder in it.
        data: photos and captions.
        encoder: the encoder of the vectors.
        cache: vectors of earlier runs.
        queries: maximum number of queries per modality.
        on_progress: called with what is encoded, and how many are done of how many.

    Raises:
        UsageError: the dataset has no captions.
    """
    if not data.images or not data.texts:
        raise UsageError(f"{data.name} has no photos with texts: there would be no text queries.")
    embedded = cache.embed_images(
        encoder, list(data.images.values()), partial(on_progress, "images")
    )
    readable = np.ones(len(embedded.rows), bool)
    readable[list(embedded.unreadable)] = False
    images = embedded.rows[readable]
    texts = list(dict.fromkeys(data.texts.values()))[:: max(1, len(data.texts) // queries)]
    said = cache.embed_texts(encoder, texts[:queries], partial(on_progress, "texts")).rows
    held_out = np.arange(len(images)) % _HELD_OUT == 0
    chosen = [part for part in (data.split, data.language) if part]
    name = "-".join([data.name, *chosen, encoder.space.id, str(queries)])
    folder = folder / name
    folder.mkdir(parents=True, exist_ok=True)
    rows = np.ascontiguousarray(images[~held_out])
    rows.tofile(folder / "rows.f16")
    asked = {
        "image": images[held_out][:queries].astype(np.float32),
        "text": said.astype(np.float32),
    }
    return _finish(folder, name, rows, asked)


def _finish(folder: Path, name: str, rows: Rows, queries: dict[str, Vectors]) -> Workload:
    for kind, vectors in queries.items():
        _, truth = nearest(vectors, rows, TRUTH_DEPTH)
        np.save(folder / f"{kind}-queries.npy", vectors)
        np.save(folder / f"{kind}-truth.npy", truth)
    told = {"name": name, "rows": rows.shape[0], "dimension": rows.shape[1]}
    (folder / "workload.json").write_text(json.dumps(told))
    return open_workload(folder)

"""Texts that people might search for, to tune an index with, and their vectors in a space."""

from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np
import xxhash

from retrieval.encoders.base import Vectors
from retrieval.files import write_atomically

_TEXTS = "tuning_queries.txt"
_FILE = "queries.f16"
_BATCH = 64


def bundled_texts() -> list[str]:
    """Several thousand varied query texts, all different, always in the same random order.

    Single words, keywords, captions and questions; most of them English, a fifth in eleven other
    languages. `benchmarks.vectors.tuning_queries` made them.
    """
    return files(__package__).joinpath(_TEXTS).read_text(encoding="utf-8").splitlines()


def encoded_texts(
    directory: Path,
    dimension: int,
    encode: Callable[[Sequence[str]], Vectors],
    *,
    on_progress: Callable[[int, int], None] = lambda *_: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Vectors:
    """Encode the bundled texts, or read what an earlier call wrote: (m, d) float32, unit.

    The file is float16 rows, then the xxh3-128 digest of the list of texts and the rows. One that
    does not agree is rewritten.

    Args:
        directory: of the space; holds the file.
        dimension: d.
        encode: encodes a batch of texts, (b, d) float32, unit.
        on_progress: called with the numbers of texts done and in all.
        should_stop: asked after each batch; if true, returns what there is and writes nothing.
    """
    texts = bundled_texts()
    listed = "\n".join(texts).encode()
    file = directory / _FILE
    if (encoded := _read(file, listed, (len(texts), dimension))) is not None:
        return encoded
    batches = []
    for begin in range(0, len(texts), _BATCH):
        batches.append(encode(texts[begin : begin + _BATCH]))
        on_progress(min(begin + _BATCH, len(texts)), len(texts))
        if should_stop():
            return np.concatenate(batches)
    rows = np.concatenate(batches).astype(np.float16)
    content = rows.tobytes()
    write_atomically(file, content + _digest(listed, content))
    return rows.astype(np.float32)


def find_damage(directory: Path, dimension: int) -> Path | None:
    """Return the file of encoded texts if it does not agree with its checksum or the texts."""
    texts = bundled_texts()
    file = directory / _FILE
    is_bad = _read(file, "\n".join(texts).encode(), (len(texts), dimension)) is None
    return file if is_bad and file.exists() else None


def _read(file: Path, listed: bytes, shape: tuple[int, int]) -> Vectors | None:
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return None
    size = 2 * shape[0] * shape[1]
    rows, digest = content[:size], content[size:]
    if digest != _digest(listed, rows):
        return None
    return np.frombuffer(rows, np.float16).reshape(shape).astype(np.float32)


def _digest(listed: bytes, rows: bytes) -> bytes:
    return xxhash.xxh3_128_digest(xxhash.xxh3_128_digest(listed) + rows)

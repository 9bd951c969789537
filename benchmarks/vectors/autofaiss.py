"""The FAISS index that autofaiss would choose."""

import math

_CODE_BYTES = (256, 128, 64, 48, 32, 24, 16, 8, 4)
_ID_BYTES = 8


def autofaiss_factory(rows: int, dimension: int, memory_bytes: float) -> str:
    """Copy the first index string of autofaiss 2.18's `get_optimal_index_keys_v2`.

    Its thresholds: exact below 1,000 rows, HNSW15 below 10,000, else HNSW where the memory holds
    it, IVF with whole vectors below a million rows where it holds that, else OPQ and IVF-PQ.
    """
    if rows < 1_000:
        return "Flat"
    if rows < 10_000:
        return "HNSW15"
    links = math.floor((memory_bytes / (4 * rows) - dimension) / 2)
    if links >= 8:
        return f"HNSW{min(links, 32)}"
    lists = _lists(rows)
    if rows < 1_000_000 and rows * (4 * dimension + _ID_BYTES) <= memory_bytes:
        return f"IVF{lists},Flat"
    wanted_compression = 4 * rows * dimension / memory_bytes
    code = next(
        size
        for size in _CODE_BYTES
        if size < dimension and 4 * dimension / (size + _ID_BYTES) >= wanted_compression
    )
    rotated = (min(dimension // code, 6) + 1) * code
    coarse = f"IVF{lists}" if lists < 1000 else f"IVF{lists}_HNSW32"
    return f"OPQ{code}_{rotated},{coarse},PQ{code}x8"


def _lists(rows: int) -> int:
    if rows < 1_000_000:
        return int(2 ** round(math.log2(4 * math.sqrt(rows))))
    if rows < 10_000_000:
        return 16_384
    return 65_536 if rows < 300_000_000 else 2**17
